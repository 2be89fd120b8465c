package gateway

import (
	"context"
	"time"

	"github.com/imcluster/imcluster/presence/store"
)

const (
	// sweepInterval is the least time between the starts of two sweeps: evidence comes in crowds.
	sweepInterval = time.Second
	// sweepRate is how many sessions a second are compared, and sweepChunk how many with one request.
	sweepRate  = 20_000
	sweepChunk = 1000
	// sweepTimeout is how long one request may take.
	sweepTimeout = 5 * time.Second
)

// Sweep has the mailboxes of all sessions compared with what the sessions were sent, because pushes may have been lost. It
// does not block. It implements [peer.Handler].
func (g *Gateway) Sweep(reason string) {
	g.cfg.Logger.Debug("sweep wanted", "reason", reason)
	select {
	case g.sweepWanted <- struct{}{}:
	default:
	}
}

// sweeps sweeps whenever that is wanted, until ctx ends. Nothing is lost while the store is not available: the sweep is
// tried again.
func (g *Gateway) sweeps(ctx context.Context) {
	for {
		select {
		case <-g.sweepWanted:
		case <-ctx.Done():
			return
		}
		interval := time.After(sweepInterval)
		if err := g.sweep(ctx); err != nil && ctx.Err() == nil {
			g.logRare.log(ctx, "comparing mailboxes", "error", err)
			g.Sweep("the last one failed")
		}
		select {
		case <-interval:
		case <-ctx.Done():
			return
		}
	}
}

// sweep compares all sessions once, and returns the first error: a part of Redis may fail while another answers.
func (g *Gateway) sweep(ctx context.Context) error {
	member := g.registry()
	if member == nil {
		return nil
	}
	g.metrics.sweeps.Add(1)
	var chunk []comparison
	var failed error
	for p := range store.Partitions {
		for _, c := range g.table.partition(p) {
			if s, ok := c.comparison(); ok {
				chunk = append(chunk, s)
			}
		}
		if len(chunk) < sweepChunk && p < store.Partitions-1 {
			continue
		}
		pace := time.After(time.Duration(len(chunk)) * time.Second / sweepRate)
		if err := compare(ctx, member, chunk); err != nil && failed == nil {
			failed = err
		}
		chunk = chunk[:0]
		select {
		case <-pace:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return failed
}

// comparison is a session that is compared.
type comparison struct {
	c    *conn
	user string
	id   uint64
}

// comparison returns the session as it is now, if it is one that mail is sent to, or will be: what the store said of the
// mailbox to one that logs in may be older.
func (c *conn) comparison() (comparison, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return comparison{c, c.user, c.id}, (c.state == stateOpen || c.state == stateLogin) && c.closing == reasonNone
}

// compare asks how far the mailboxes of some sessions go.
func compare(ctx context.Context, member membership, sessions []comparison) error {
	if len(sessions) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	users := make([]string, len(sessions))
	for i := range sessions {
		users[i] = sessions[i].user
	}
	tails, err := member.Tails(ctx, users)
	for i, tail := range tails {
		sessions[i].apply(tail)
	}
	return err
}

// apply has the session read its mailbox if that goes further than the session.
func (s *comparison) apply(tail uint64) {
	c := s.c
	c.mu.Lock()
	if c.user == s.user && c.id == s.id && tail > 0 && tail >= c.nextSeq && c.raiseTailLocked(tail) {
		c.g.metrics.swept.Add(1)
		c.readOnLocked(false)
	}
	c.writeAndUnlock()
}
