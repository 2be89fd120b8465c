package client

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/imcluster/imcluster/api/wire"
)

const (
	// window is how many frames of a lane may be unanswered. Servers answer each frame and take 256 unanswered chats of a
	// connection. It also bounds what is sent beyond a limit of rate before the refusal is read: less than what servers
	// take for a flood, which is two seconds' worth, 200 frames unless set otherwise.
	window = 64
	// windowBytes bounds their contents likewise: servers take 256 KiB a second unless set otherwise, and twice that at
	// once. One frame may be larger.
	windowBytes = 128 << 10
	// maxQueuedBytes bounds the contents that wait for answers.
	maxQueuedBytes = 64 << 20
	// maxFaults is how many connections may end with a complaint about a frame while a request is unanswered, before it is
	// taken to be the cause.
	maxFaults = 3
	// defaultRetry is the delay before a refused request is sent again if the server names none.
	defaultRetry = time.Second
)

// waitKey is what an answer is recognised by: its type, and the id that it repeats.
type waitKey struct {
	typ wire.Type
	id  string
}

// lane keeps apart what must not wait for each other: acknowledgements make the server send more, and a queue of
// messages must not hold them up.
type lane uint8

const (
	laneSends lane = iota
	laneAcks
	numLanes
)

// request is a frame that is answered.
type request struct {
	// Fixed after construction.
	frame  wire.Frame
	key    waitKey
	lane   lane
	resend bool // may be sent again when its answer was lost with a connection
	retry  bool // is sent again when it was refused for now
	// done is called once, with the answer or an error. nil for acknowledgements that nobody waits for.
	done func(wire.Frame, error)

	// Guarded by the outbox.
	seq      uint64
	sent     bool  // at least once
	conn     *conn // where it is unanswered; nil while it waits
	waiting  bool  // in the lane
	finished bool
	faults   int
}

// outbox keeps requests until they are answered, over any number of connections, and hands them to the present one in the
// order in which they came.
type outbox struct {
	maxQueued int

	mu      sync.Mutex
	lanes   [numLanes][]*request // waiting, sorted by seq
	seq     uint64
	open    int // not finished
	count   int // of those, with somebody who waits
	bytes   int // of their contents
	conn    *conn
	resume  time.Time                // nothing is sent before
	delayed map[*request]*time.Timer // refused for now, each by itself
	err     error                    // why nothing is taken any more
	idle    chan struct{}            // closed when nothing is open; nil unless somebody waits for that
}

// add queues a request.
func (o *outbox) add(r *request) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.err != nil:
		return fmt.Errorf("%w: %w", ErrNotSent, o.err)
	case o.count >= o.maxQueued || o.bytes+len(r.frame.Content) > maxQueuedBytes:
		return ErrQueueFull
	}
	o.count++
	o.bytes += len(r.frame.Content)
	o.pushLocked(r)
	return nil
}

// ack acknowledges a message on the present connection. Without one there is no need to: the message comes again.
func (o *outbox) ack(msgID string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.conn == nil {
		return
	}
	o.pushLocked(&request{frame: wire.Frame{Type: wire.TypeAck, MsgID: msgID}, key: waitKey{wire.TypeAckResp, msgID}, lane: laneAcks, retry: true})
}

func (o *outbox) pushLocked(r *request) {
	o.seq++
	r.seq = o.seq
	o.open++
	o.queueLocked(r)
}

// queueLocked puts a request into its lane, at its place.
func (o *outbox) queueLocked(r *request) {
	r.conn = nil
	if o.err != nil { // too late
		o.abandonLocked(r, o.err)
		return
	}
	r.waiting = true
	l := o.lanes[r.lane]
	i := len(l)
	if i > 0 && l[i-1].seq > r.seq {
		i, _ = slices.BinarySearchFunc(l, r.seq, func(r *request, seq uint64) int { return cmp.Compare(r.seq, seq) })
	}
	o.lanes[r.lane] = slices.Insert(l, i, r)
	o.wakeLocked()
}

// unqueueLocked takes a request out of its lane.
func (o *outbox) unqueueLocked(r *request) {
	if !r.waiting {
		return
	}
	r.waiting = false
	l := o.lanes[r.lane]
	if i, ok := slices.BinarySearchFunc(l, r.seq, func(r *request, seq uint64) int { return cmp.Compare(r.seq, seq) }); ok {
		o.lanes[r.lane] = slices.Delete(l, i, i+1)
	}
}

func (o *outbox) wakeLocked() {
	if o.conn != nil {
		o.conn.rouse()
	}
}

// next returns the request to send now on n, if there is one, and otherwise when to ask again; zero: when roused.
func (o *outbox) next(n *conn) (r *request, wait time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if n != o.conn {
		return nil, 0
	}
	if wait := time.Until(o.resume); wait > 0 {
		return nil, wait
	}
	for _, lane := range []lane{laneAcks, laneSends} {
		if len(o.lanes[lane]) == 0 || n.unanswered[lane] >= window {
			continue
		}
		r := o.lanes[lane][0]
		if n.bytes > 0 && n.bytes+len(r.frame.Content) > windowBytes {
			continue
		}
		o.lanes[lane][0] = nil
		o.lanes[lane] = o.lanes[lane][1:]
		r.waiting, r.sent, r.conn = false, true, n
		n.inflight[r.key] = append(n.inflight[r.key], r)
		n.unanswered[lane]++
		n.bytes += len(r.frame.Content)
		return r, 0
	}
	return nil, 0
}

// answer hands a frame to the request that has waited longest for it, if there is one.
func (o *outbox) answer(n *conn, key waitKey, fr wire.Frame) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	requests := n.inflight[key]
	if len(requests) == 0 {
		return false
	}
	r := requests[0]
	if len(requests) == 1 {
		delete(n.inflight, key)
	} else {
		n.inflight[key] = requests[1:]
	}
	n.unanswered[r.lane]--
	n.bytes -= len(r.frame.Content)
	o.wakeLocked() // the window has room
	if fr.Code.OK() {
		o.finishLocked(r, fr, nil)
		return true
	}
	if r.conn != n {
		return true // it was sent again elsewhere: that answer counts
	}
	refused := refusal(&fr)
	o.slowDownLocked(refused, r.retry)
	if r.retry && refused.Retryable() && !r.finished {
		if refused.Code == wire.CodeMailboxFull { // nobody else's business
			o.laterLocked(r, cmp.Or(refused.Delay, defaultRetry))
		} else {
			o.queueLocked(r)
		}
		return true
	}
	o.finishLocked(r, fr, refused)
	return true
}

// laterLocked queues a request after a delay.
func (o *outbox) laterLocked(r *request, delay time.Duration) {
	r.conn = nil
	if o.delayed == nil {
		o.delayed = map[*request]*time.Timer{}
	}
	o.delayed[r] = time.AfterFunc(delay, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.delayed, r)
		if !r.finished && !r.waiting {
			o.queueLocked(r)
		}
	})
}

// slowDownLocked has everything wait if the server refuses more than one request: because this client is too fast, or,
// for those who try again, because it cannot do any now.
func (o *outbox) slowDownLocked(refused *Error, retry bool) {
	switch refused.Code {
	case wire.CodeTooManyFrames, wire.CodeUserLimit, wire.CodeAddressLimit:
	case wire.CodeUnavailable, wire.CodeStoreFull, wire.CodeDraining, wire.CodeInternal:
		if !retry {
			return
		}
	default:
		return
	}
	if until := time.Now().Add(cmp.Or(refused.Delay, defaultRetry)); until.After(o.resume) {
		o.resume = until
	}
}

// complaint handles a frame of type 0, which does not say what it answers. A server that does not know a type answers
// so: then it is taken for the answer to the oldest request other than those that all servers know.
func (o *outbox) complaint(n *conn, refused *Error) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if refused.Code != wire.CodeUnknownType && refused.Code != wire.CodeNotAllowed {
		return false
	}
	var oldest *request
	for _, requests := range n.inflight {
		for _, r := range requests {
			known := r.frame.Type == wire.TypeChat || r.frame.Type == wire.TypeAck
			if !known && (oldest == nil || r.seq < oldest.seq) {
				oldest = r
			}
		}
	}
	if oldest == nil {
		return false
	}
	delete(n.inflight, oldest.key) // other ids are unique
	n.unanswered[oldest.lane]--
	n.bytes -= len(oldest.frame.Content)
	o.finishLocked(oldest, wire.Frame{}, refused)
	o.wakeLocked()
	return true
}

// cancel ends a request whose context ended with err.
func (o *outbox) cancel(r *request, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.abandonLocked(r, err)
}

func (o *outbox) abandonLocked(r *request, err error) {
	outcome := ErrNotSent
	if r.sent {
		outcome = ErrUnknownOutcome
	}
	o.finishLocked(r, wire.Frame{}, fmt.Errorf("%w: %w", outcome, err))
}

func (o *outbox) finishLocked(r *request, fr wire.Frame, err error) {
	if r.finished {
		return
	}
	o.unqueueLocked(r)
	r.finished = true
	o.open--
	if r.done != nil {
		o.count--
		o.bytes -= len(r.frame.Content)
		r.done(fr, err) // does not block
	}
	if o.open == 0 && o.idle != nil {
		close(o.idle)
		o.idle = nil
	}
}

// close ends all requests that are not answered.
func (o *outbox) close(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.err = err
	for _, l := range o.lanes {
		for _, r := range slices.Clone(l) {
			o.abandonLocked(r, err)
		}
	}
	for r, timer := range o.delayed {
		timer.Stop()
		o.abandonLocked(r, err)
	}
	clear(o.delayed)
}

// awaitIdle waits until every request is answered.
func (o *outbox) awaitIdle(ctx context.Context) error {
	o.mu.Lock()
	if o.open == 0 {
		o.mu.Unlock()
		return nil
	}
	if o.idle == nil {
		o.idle = make(chan struct{})
	}
	idle, open := o.idle, o.open
	o.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%d requests are not answered: %w", open, ctx.Err())
	}
}
