// Package progress tells a person at a terminal what is being done and how long it has taken.
package progress

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// Log writes one line per step, each with the seconds since the log began. It is safe for concurrent use.
type Log struct {
	began time.Time

	mu  sync.Mutex
	out io.Writer
}

// New begins a log on out.
func New(out io.Writer) *Log {
	return &Log{began: time.Now(), out: out}
}

// Step writes a line.
func (l *Log) Step(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.out, "%6.1fs  %s\n", time.Since(l.began).Seconds(), fmt.Sprintf(format, args...))
}

// Patience writes a line every period until the returned function is called, for a step that takes minutes. estimate
// is roughly how long the step takes.
func (l *Log) Patience(what string, period, estimate time.Duration) (stop func()) {
	began := time.Now()
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(period)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				l.Step("  … %s: %.0f s of about %.0f", what, time.Since(began).Seconds(), estimate.Seconds())
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
	}
}
