package gateway

import (
	"cmp"
	"context"
	"errors"

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

// unlessDefault is what a connection remembers of a status.
func unlessDefault(s store.Status) *store.Status {
	if cmp.Or(s.Show, wire.StatusOnline) == wire.StatusOnline && s.Text == "" {
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
		switch err := m.SetStatus(ctx, session, status); {
		case errors.Is(err, store.ErrNoSession):
			return wire.Frame{}, errAskLater // being registered again
		case err != nil:
			return wire.Frame{}, err
		}
		c.g.noteStatus(c.user, status)
		return wire.Frame{Status: status.Show, StatusText: status.Text}, nil
	})
}

// noteStatus has the user's connections to this gateway remember a status: whichever of them is registered first after Redis has
// lost everything puts it back.
func (g *Gateway) noteStatus(user string, status store.Status) {
	for _, c := range g.table.partition(store.Partition(user)) {
		c.mu.Lock()
		if c.user == user {
			c.status = unlessDefault(status)
		}
		c.mu.Unlock()
	}
}
