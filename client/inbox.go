package client

import (
	"context"
	"sync"
	"time"

	"github.com/imcluster/imcluster/api/wire"
)

// maxWaiting is how many messages may wait for OnMessage. A server sends 500 unacknowledged ones; the rest is for
// broadcasts, which nobody acknowledges.
const maxWaiting = 10_000

// inbox calls OnMessage for one message after the other, apart from the goroutine that reads the connection: so OnMessage
// may wait for answers, which that goroutine has to read.
type inbox struct {
	c *Client

	mu      sync.Mutex
	wake    sync.Cond
	waiting []Message
	// held are the messages that wait, are being handled, or, with ManualAck, are to be acknowledged by the caller: when
	// one of them comes again, on this connection or the next, there is nothing to do.
	held    map[string]struct{}
	overrun bool // messages were not taken since the last that was
	closed  bool
	idle    chan struct{} // closed when no handler is running any more
}

func newInbox(c *Client) *inbox {
	in := &inbox{c: c, held: map[string]struct{}{}, idle: make(chan struct{})}
	in.wake.L = &in.mu
	return in
}

// receive takes a message. Without OnMessage it is left on the server.
func (in *inbox) receive(fr *wire.Frame) {
	if in.c.cfg.OnMessage == nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if _, ok := in.held[fr.MsgID]; ok || in.closed {
		return
	}
	if len(in.waiting) >= maxWaiting {
		if !in.overrun {
			in.c.report(ErrOverrun)
		}
		in.overrun = true
		return
	}
	in.overrun = false
	in.held[fr.MsgID] = struct{}{}
	in.waiting = append(in.waiting, Message{ID: fr.MsgID, From: fr.FromID, To: fr.ToID, Group: fr.GroupID, Time: time.UnixMilli(fr.Time),
		Content: fr.Content, Redelivered: fr.Redelivered, Missed: int(fr.Missed)})
	in.wake.Signal()
}

// run handles messages until the inbox is closed.
func (in *inbox) run() {
	defer close(in.idle)
	for {
		in.mu.Lock()
		for len(in.waiting) == 0 && !in.closed {
			in.wake.Wait()
		}
		if in.closed {
			in.mu.Unlock()
			return
		}
		m := in.waiting[0]
		in.waiting[0] = Message{}
		in.waiting = in.waiting[1:]
		in.mu.Unlock()
		in.handle(in.c.ctx, m)
	}
}

// handle has a message handled, unless it was, and acknowledges it.
func (in *inbox) handle(ctx context.Context, m Message) {
	cfg := &in.c.cfg
	handled, err := cfg.Dedupe.Handled(ctx, m.ID)
	if err == nil && !handled {
		if err = cfg.OnMessage(ctx, m); cfg.ManualAck && !m.Broadcast() {
			if err != nil {
				in.c.report(&MessageError{m, err})
			}
			return // held until it is acknowledged or given back
		}
		if err == nil {
			err = cfg.Dedupe.SetHandled(ctx, m.ID)
		}
	}
	in.forget(m.ID)
	switch {
	case err != nil:
		in.c.report(&MessageError{m, err})
	case !m.Broadcast():
		in.c.out.ack(m.ID)
	}
}

// forget lets a message be handed over again.
func (in *inbox) forget(msgID string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	delete(in.held, msgID)
}

// close hands over no more messages.
func (in *inbox) close() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.closed = true
	in.waiting = nil
	in.wake.Signal()
}
