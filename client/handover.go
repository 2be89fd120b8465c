package client

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/imcluster/imcluster/api/wire"
)

// attach makes n the connection that requests go to. Those that are unanswered on the one before, which is going away, are
// sent again; its answers are welcome until it ends.
func (o *outbox) attach(n *conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	before := o.conn
	o.conn = n
	o.resume = time.Time{}
	if before != nil {
		for _, r := range before.unfinished() {
			if r.resend && r.conn == before {
				o.queueLocked(r)
			}
		}
	}
	o.wakeLocked()
}

// detach takes a connection away that has ended with err.
func (o *outbox) detach(n *conn, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.conn == n {
		o.conn = nil
	}
	culprit := o.blameLocked(n, err)
	for _, r := range n.unfinished() {
		switch {
		case r.conn != n: // waits, or is on another connection
		case r == culprit:
			o.finishLocked(r, wire.Frame{}, err)
		case r.resend:
			o.queueLocked(r)
		default:
			o.finishLocked(r, wire.Frame{}, fmt.Errorf("%w: %w", ErrUnknownOutcome, err))
		}
	}
	clear(n.inflight)
	// Acknowledgements that nobody waits for are of no use on another connection.
	for _, r := range slices.Clone(o.lanes[laneAcks]) {
		if r.done == nil && o.conn == nil {
			o.finishLocked(r, wire.Frame{}, err)
		}
	}
}

// blameLocked returns the request that the server ended the connection for, if it did so for one: sent again, it would
// end the next one too.
func (o *outbox) blameLocked(n *conn, err error) (culprit *request) {
	code := codeOf(err)
	if code != wire.CodeFrameTooLarge && (code < 400 || code >= 500 || code == wire.CodeIdle) {
		return nil
	}
	for _, r := range n.unfinished() {
		r.faults++
		switch {
		case code == wire.CodeFrameTooLarge && (culprit == nil || len(r.frame.Content) > len(culprit.frame.Content)):
			culprit = r
		case code != wire.CodeFrameTooLarge && r.faults >= maxFaults && (culprit == nil || r.seq < culprit.seq):
			culprit = r
		}
	}
	return culprit
}

// unfinished returns the unanswered requests of a connection, in the order in which they came. The outbox's mutex must be
// held.
func (n *conn) unfinished() []*request {
	var all []*request
	for _, requests := range n.inflight {
		for _, r := range requests {
			if !r.finished {
				all = append(all, r)
			}
		}
	}
	slices.SortFunc(all, func(a, b *request) int { return cmp.Compare(a.seq, b.seq) })
	return all
}
