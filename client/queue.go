package client

import "sync"

// maxQueued is how many callbacks may wait to be called.
const maxQueued = 10_000

// queue calls functions one after the other, apart from the goroutine that reads the connection: so a callback may wait
// for an answer, which that goroutine has to read. A bounded channel in its place would stop the reading when it is full,
// and with it such a callback for ever.
type queue struct {
	mu     sync.Mutex
	wake   sync.Cond
	calls  []func()
	open   int // calls that have not returned, those that run has taken included
	closed bool
}

func newQueue() *queue {
	q := &queue{}
	q.wake.L = &q.mu
	return q
}

// push adds a call. It fails with ErrOverrun when too many wait.
func (q *queue) push(call func()) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.open >= maxQueued {
		return ErrOverrun
	}
	q.open++
	q.calls = append(q.calls, call)
	q.wake.Signal()
	return nil
}

// close ends run after the calls that wait.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.wake.Signal()
}

// run makes the calls until the queue is closed.
func (q *queue) run() {
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
			q.mu.Lock()
			q.open--
			q.mu.Unlock()
		}
	}
}
