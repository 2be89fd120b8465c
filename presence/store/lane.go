package store

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxBatch is how many ops go in one pipeline. Redis needs 2 ms for so many.
	maxBatch = 256
	// maxBatchBytes is after how many bytes of messages a pipeline takes no more.
	maxBatchBytes = 256 << 10
	// maxQueued is how many bytes of messages wait at most, with what they cost in the lane: 5 s of all that two cores
	// can send.
	maxQueued = 64 << 20
	// maxPeeks is how many peeks wait at most.
	maxPeeks = 10000
	// holdTime is how long a partition waits whose slot is being moved or whose writer needs a new lease.
	holdTime = 20 * time.Millisecond
	// minBackoff and maxBackoff bound the pause before a failed batch is tried again.
	minBackoff = 10 * time.Millisecond
	maxBackoff = 250 * time.Millisecond
)

// lanes carry a gateway's writes to Redis, in order for each partition and so for each user. Each node of Redis has one
// worker with one connection and one batch in flight; the next batch forms meanwhile (group commit without timers). What
// fails is tried again by the worker, before anything younger of the same partition and together with all of the batch that
// came after it in the partition: every script can be repeated.
//
// The queue belongs to the partition and not to the node, so that the order holds when its slot moves to another node.
type lanes struct {
	store  *Store
	member *Member
	kept   int64 // ms for which what waits is kept
	// retention of messages, in s
	retention int64
	queued    atomic.Int64 // bytes of appends that wait
	peeks     atomic.Int64 // that wait
	wg        sync.WaitGroup
	ctx       context.Context // ends with close
	cancel    context.CancelFunc

	mu      sync.Mutex
	parts   [Partitions]queue
	workers map[*node]*worker
	depth   int             // ops in queues and batches
	drained []chan struct{} // closed when depth is 0
	closed  bool
}

// queue holds the ops of one partition, oldest first. Guarded by lanes.mu.
type queue struct {
	head, tail *op
	ready      bool // in the list of a worker
	busy       bool // in a batch: younger ops wait
	held       bool // waits for holdTime

	buckets   int    // of last seen, as last told
	splitting bool   // a split is queued
	gen       string // in which the gateway has registered its sessions
	// count is the number of sessions that are in the index of our epoch, as far as replies tell.
	count int
	// ended are the connections that ended since a snapshot of the gateway's sessions was begun; nil without one.
	ended map[uint64]struct{}
}

// worker sends the batches of one node.
type worker struct {
	node *node
	wake *sync.Cond // of lanes.mu
	// unpeeked: a peek was refused.
	unpeeked atomic.Bool
	ready    []int // partitions with ops to send, guarded by lanes.mu
	// Owned by the worker's goroutine.
	batch []*op
	later []*op // of the partition that is being taken into the batch: behind its appends
	parts []int // partitions in the batch
	bytes int   // of messages in the batch
	appends
	troubled bool // an answer was missed, and none came since
	backoff  time.Duration
}

func newLanes(s *Store, m *Member) *lanes {
	l := unstartedLanes(s)
	l.member, l.workers = m, map[*node]*worker{}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.wg.Go(l.expire)
	return l
}

// unstartedLanes know what the arguments of writes are made of.
func unstartedLanes(s *Store) *lanes {
	l := &lanes{store: s, kept: s.cfg.mailKept().Milliseconds(), retention: int64(s.cfg.Mailbox.Retention.Seconds())}
	for p := range l.parts {
		l.parts[p].buckets = 1
	}
	return l
}

// stop has the workers end after what is in flight. Nothing is queued any more.
func (l *lanes) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.cancel()
	for _, w := range l.workers {
		w.wake.Signal()
	}
}

// close stops the workers, waits for them, and refuses what is queued.
func (l *lanes) close() {
	l.stop()
	l.wg.Wait()
	l.mu.Lock()
	var left []*op
	for p := range l.parts {
		q := &l.parts[p]
		for o := q.head; o != nil; o = o.next {
			left = append(left, o)
		}
		q.head, q.tail = nil, nil
	}
	l.mu.Unlock()
	for _, o := range left {
		l.complete(o, nil, errClosed)
	}
}

var errClosed = fmt.Errorf("%w: the store is closed", ErrUnavailable)

// push queues an op.
func (l *lanes) push(o *op) {
	l.mu.Lock()
	ok := l.pushLocked(o)
	l.mu.Unlock()
	if !ok {
		o.finish(l, o, nil, errClosed)
	}
}

// pushLocked queues an op unless the lanes are closed; l.mu must be held.
func (l *lanes) pushLocked(o *op) bool {
	if l.closed {
		return false
	}
	l.depth++
	q := &l.parts[o.part]
	if q.tail == nil {
		q.head = o
	} else {
		q.tail.next = o
	}
	q.tail = o
	l.schedule(o.part)
	return true
}

// notePeekRefused has the gateway compare its mailboxes when the partition's node answers again. Others do so of
// their own accord, if they noticed the outage that so much waits for.
func (l *lanes) notePeekRefused(part int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w, ok := l.workers[l.store.servers.routes.Load().node[part]]; ok {
		w.unpeeked.Store(true)
	}
}

// schedule puts a partition on the list of its node's worker if it has something to send; l.mu must be held.
func (l *lanes) schedule(part int) {
	q := &l.parts[part]
	if q.head == nil || q.ready || q.busy || q.held || l.closed {
		return
	}
	n := l.store.servers.routes.Load().node[part]
	w, ok := l.workers[n]
	if !ok {
		w = &worker{node: n, wake: sync.NewCond(&l.mu), backoff: minBackoff}
		l.workers[n] = w
		l.wg.Go(func() { l.work(w) })
	}
	q.ready = true
	w.ready = append(w.ready, part)
	w.wake.Signal()
}

// hold keeps a partition from being sent for holdTime; l.mu must be held.
func (l *lanes) hold(part int) {
	l.parts[part].held = true
	time.AfterFunc(holdTime, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.parts[part].held = false
		l.schedule(part)
	})
}
