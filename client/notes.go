package client

import "sync"

// notes calls functions one after the other, on a goroutine of its own: so a callback may block, and call the client.
type notes struct {
	mu     sync.Mutex
	wake   sync.Cond
	calls  []func()
	closed bool
}

func newNotes() *notes {
	q := &notes{}
	q.wake.L = &q.mu
	return q
}

// push adds a call. After run has ended it is made at once.
func (q *notes) push(call func()) {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		go call()
		return
	}
	defer q.mu.Unlock()
	q.calls = append(q.calls, call)
	q.wake.Signal()
}

// close ends run after the calls that wait.
func (q *notes) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.wake.Signal()
}

// run makes the calls until the queue is closed.
func (q *notes) run() {
	for {
		q.mu.Lock()
		for len(q.calls) == 0 && !q.closed {
			q.wake.Wait()
		}
		calls := q.calls
		q.calls = nil
		q.mu.Unlock()
		if len(calls) == 0 {
			return
		}
		for _, call := range calls {
			call()
		}
	}
}
