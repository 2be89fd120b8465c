package gateway

import (
	"cmp"
	"context"
	"errors"

	peerv1 "github.com/imcluster/imcluster/api/peer/v1"
	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/presence/store"
)

// statusOf is the status that a login or SET_STATUS asks for, nil if a login says nothing of it.
func statusOf(fr *wire.Frame) *store.Status {
	if fr.Status == "" && fr.StatusText == "" {
		return nil
	}
	return &store.Status{Show: cmp.Or(fr.Status, wire.StatusOnline), Text: fr.StatusText}
}

// statusFacts is what a connection remembers of the user's status, to put it back if Redis loses it. It is never changed.
type statusFacts struct {
	status store.Status
	set    int64 // when it was set, by Redis' clock, unix ms; 0: not yet, or never
}

// isLater tells whether the status was set later than that; nil was never set.
func (s *statusFacts) isLater(set int64) bool { return s != nil && s.set > set }

// unlessNone returns nil if nobody has set a status: who is online without having said so costs no memory.
func (s statusFacts) unlessNone() *statusFacts {
	if s.set == 0 && cmp.Or(s.status.Show, wire.StatusOnline) == wire.StatusOnline && s.status.Text == "" {
		return nil
	}
	return &s
}

// setStatus handles SET_STATUS. It is about the user: all devices have it.
func (c *conn) setStatus(fr *wire.Frame) {
	status := *statusOf(fr) // it has one
	c.ask(fr, func(ctx context.Context, m membership) (wire.Frame, error) {
		c.mu.Lock()
		session := c.sessionLocked()
		c.mu.Unlock()
		change, err := m.SetStatus(ctx, session, status)
		switch {
		case errors.Is(err, store.ErrNoSession):
			return wire.Frame{}, errAskLater // being registered again
		case err != nil:
			return wire.Frame{}, err
		}
		c.g.statusChanged(session.User, status, change)
		return wire.Frame{Status: status.Show, StatusText: status.Text}, nil
	})
}

// statusChanged has everybody remember what a connection to this gateway has set.
func (g *Gateway) statusChanged(user string, status store.Status, change store.StatusChange) {
	set := &peerv1.StatusSet{User: user, Show: status.Show, Text: status.Text, Set: change.Set}
	g.StatusSet(set)
	g.tellStatus(change.Gateways, set)
}

// tellStatus tells other gateways of a status, so that none puts back an older one, which would be seen until the newer one
// follows.
func (g *Gateway) tellStatus(gateways []store.Epoch, s *peerv1.StatusSet) {
	for _, epoch := range gateways {
		if !g.isOwn(epoch) {
			g.peers.StatusSet(string(epoch), s)
		}
	}
}

// StatusSet has the user's connections to this gateway remember a status, unless they know of a later one: whichever of them is
// registered first after Redis has lost everything puts it back. It implements [peer.Handler].
func (g *Gateway) StatusSet(s *peerv1.StatusSet) {
	to := statusFacts{store.Status{Show: s.GetShow(), Text: s.GetText()}, s.GetSet()}
	if to.status.Check() != nil {
		return
	}
	for _, c := range g.table.partition(store.Partition(s.GetUser())) {
		c.mu.Lock()
		if c.user == s.GetUser() && !c.status.isLater(to.set) {
			c.status = to.unlessNone()
		}
		c.mu.Unlock()
	}
}
