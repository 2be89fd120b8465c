// Package secretdir reads secrets that are mounted as directories, as Kubernetes mounts a Secret: a file "current" with
// the value in use, and optionally a file "previous" with the one before, which is still accepted during a rotation.
//
// Kubernetes replaces the files of a mounted Secret in place, so the directory is looked at again whenever a value is
// asked for, at most once in Interval; nobody has to restart for a rotation.
package secretdir

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Interval is how long a value is used before its files are looked at again.
const Interval = 5 * time.Second

// Secret is a mounted secret. Its methods may be called by many goroutines at once.
type Secret struct {
	dir string // fixed after construction; empty for a Static secret

	mu       sync.Mutex
	current  []byte
	previous []byte
	checked  time.Time
}

// Open reads the secret in dir. It fails when there is no non-empty file "current".
func Open(dir string) (*Secret, error) {
	s := &Secret{dir: dir}
	var err error
	if s.current, s.previous, err = read(dir); err != nil {
		return nil, err
	}
	s.checked = time.Now()
	return s, nil
}

// Static returns a secret that never changes, for programs that make their own.
func Static(value []byte) *Secret { return &Secret{current: value} }

// Current returns the value in use.
func (s *Secret) Current() []byte {
	values := s.Values()
	return values[0]
}

// Values returns the values that are accepted: the current one, then the previous one if there is one. A directory that
// cannot be read any more keeps the values that were read last.
func (s *Secret) Values() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dir != "" && time.Since(s.checked) >= Interval {
		s.checked = time.Now()
		if current, previous, err := read(s.dir); err == nil {
			s.current, s.previous = current, previous
		}
	}
	if len(s.previous) == 0 {
		return [][]byte{s.current}
	}
	return [][]byte{s.current, s.previous}
}

// read returns the values in dir. White space around a value, such as the line end that editors add, is not part of it.
func read(dir string) (current, previous []byte, err error) {
	if current, err = os.ReadFile(filepath.Join(dir, "current")); err != nil {
		return nil, nil, fmt.Errorf("read secret: %w", err)
	}
	if current = bytes.TrimSpace(current); len(current) == 0 {
		return nil, nil, fmt.Errorf("read secret: %s is empty", filepath.Join(dir, "current"))
	}
	previous, err = os.ReadFile(filepath.Join(dir, "previous"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("read secret: %w", err)
	}
	return current, bytes.TrimSpace(previous), nil
}
