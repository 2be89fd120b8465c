package chaos

import (
	"slices"
	"sync"
	"time"

	"github.com/imcluster/imcluster/internal/chaos/check"
)

// recorder collects a history. What a client does is recorded before it is written, what it sees after it was read.
type recorder struct {
	start time.Time

	mu     sync.Mutex
	events []check.Event // guarded by mu
	conns  int           // guarded by mu
}

func newRecorder() *recorder { return &recorder{start: time.Now()} }

func (r *recorder) add(e check.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.At = time.Since(r.start)
	r.events = append(r.events, e)
}

// conn returns the number of a new connection.
func (r *recorder) conn() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns++
	return r.conns
}

// history returns what happened so far.
func (r *recorder) history() []check.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}
