package gateway

import (
	"runtime"
	"sync"
)

// writers are the goroutines that write what is queued for clients, as many as there are processors, since they never wait
// for a client: what its socket does not take at once is left to a worker.
//
// A goroutine for every client that has something to be written costs a sixth more for a message to a group: those that
// were started for one to 500 members here spent 12 % of their time growing their stacks, and 11 % waiting for the lock of
// the channel that brings the tasks.
type writers struct {
	wg sync.WaitGroup

	mu     sync.Mutex
	wake   sync.Cond // on mu
	queue  []*conn   // queue[head:]; whoever takes one is its writer
	head   int
	idle   int // that wait and were not woken
	closed bool
}

func newWriters() *writers {
	w := &writers{}
	w.wake.L = &w.mu
	return w
}

// start starts the writers, who must be closed.
func (w *writers) start() {
	for range runtime.GOMAXPROCS(0) {
		w.wg.Go(w.work)
	}
}

// add has the outbox of a connection written. It never blocks.
func (w *writers) add(c *conn) {
	w.mu.Lock()
	w.queue = append(w.queue, c)
	wake := w.idle > 0
	if wake {
		w.idle--
	}
	w.mu.Unlock()
	if wake {
		w.wake.Signal()
	}
}

// waiting is the number of connections that wait to be written to.
func (w *writers) waiting() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.queue) - w.head
}

// take returns the next connection, nil when the writers are closed and nothing is left.
func (w *writers) take() *conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.head == len(w.queue) {
		if w.closed {
			return nil
		}
		w.idle++
		w.wake.Wait()
	}
	c := w.queue[w.head]
	w.queue[w.head] = nil
	if w.head++; w.head == len(w.queue) {
		w.queue, w.head = w.queue[:0], 0
	}
	return c
}

func (w *writers) work() {
	for c := w.take(); c != nil; c = w.take() {
		c.flushQuick()
	}
}

// close ends the writers when everything is written.
func (w *writers) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.wake.Broadcast()
	w.wg.Wait()
}
