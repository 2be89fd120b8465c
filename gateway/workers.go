package gateway

import (
	"sync"
	"sync/atomic"
)

// maxIdleWorkers is how many goroutines are kept for the next task. Their stacks have grown to what handling a frame
// takes, so that it is not grown anew for every frame.
const maxIdleWorkers = 32

// task is work on one connection, or on mailboxes that are to be read.
type task struct {
	conn   *conn
	write  bool        // flush the outbox; otherwise handle received frames
	corked *[]outbound // is in the cork, and written first, if not nil
	last   bool        // corked holds the close frame
	read   *mailboxes  // read mailboxes; conn is nil
}

// workers runs tasks, each on a goroutine that is kept for a while if few are.
type workers struct {
	tasks chan task
	stop  chan struct{}
	idle  atomic.Int32
	all   atomic.Int32 // goroutines
	wg    sync.WaitGroup
}

func newWorkers() *workers {
	return &workers{tasks: make(chan task), stop: make(chan struct{})}
}

// run starts a task. It never blocks.
func (w *workers) run(t task) {
	select {
	case w.tasks <- t:
	default:
		w.wg.Go(func() { w.work(t) })
	}
}

// busy is the number of tasks that are being done.
func (w *workers) busy() int { return int(w.all.Load() - w.idle.Load()) }

func (w *workers) work(t task) {
	w.all.Add(1)
	defer w.all.Add(-1)
	for {
		switch {
		case t.read != nil:
			t.read.work()
		case t.write:
			if t.corked != nil {
				t.conn.uncork(t.corked, t.last, nil)
			}
			t.conn.flush()
		default:
			t.conn.handleReceived()
		}
		if w.idle.Add(1) > maxIdleWorkers {
			w.idle.Add(-1)
			return
		}
		select {
		case t = <-w.tasks:
			w.idle.Add(-1)
		case <-w.stop:
			return
		}
	}
}

// close ends the idle workers and waits for the busy ones.
func (w *workers) close() {
	close(w.stop)
	w.wg.Wait()
}
