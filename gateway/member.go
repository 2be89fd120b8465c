package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/imcluster/imcluster/presence/store"
)

// rejoinDelay is how long the gateway waits before it asks a store again that was not available when it started.
const rejoinDelay = 500 * time.Millisecond

// membership joins the cluster and stays in it until base ends. It gives up joining when ctx ends. Whatever a retry
// cannot heal is an error.
func (g *Gateway) membership(base, ctx context.Context) error {
	m, closeStore, err := g.join(base, ctx)
	if err != nil {
		return err
	}
	defer closeStore()
	g.member.Store(&m)
	g.cfg.Logger.Info("joined the cluster", "epoch", m.Epoch(), "address", g.advertised(),
		"listen", g.Addr().String())
	if err := m.Run(base); err != nil {
		g.cfg.Logger.Error("the gateway has to stop", "error", err)
		return err
	}
	return base.Err()
}

// join opens the store and acquires a lease, as often as it takes.
func (g *Gateway) join(base, ctx context.Context) (m membership, closeStore func(), err error) {
	for {
		m, closeStore, err = g.tryJoin(base, ctx)
		if err == nil || !errors.Is(err, store.ErrUnavailable) {
			return m, closeStore, err
		}
		g.logRare.log(ctx, "waiting for Redis", "error", err)
		select {
		case <-time.After(rejoinDelay):
		case <-ctx.Done():
			return nil, nil, context.Canceled
		}
	}
}

func (g *Gateway) tryJoin(base, ctx context.Context) (membership, func(), error) {
	id := store.Identity{PodName: g.cfg.PodName, PodUID: g.cfg.PodUID, Address: g.advertised(), Version: g.cfg.Version}
	if g.cfg.join != nil {
		m, err := g.cfg.join(base, id, local{g})
		return m, func() {}, err
	}
	s, err := store.Open(ctx, g.cfg.Store)
	if err != nil {
		return nil, nil, err
	}
	closeStore := func() {
		if err := s.Close(); err != nil {
			g.cfg.Logger.Warn("closing the store", "error", err)
		}
	}
	m, err := s.Join(ctx, id, local{g})
	if err != nil {
		closeStore()
		return nil, nil, err
	}
	return m, closeStore, nil
}

// advertised is the address that peers are told.
func (g *Gateway) advertised() string {
	if g.cfg.AdvertiseAddress != "" {
		return g.cfg.AdvertiseAddress
	}
	return g.PeerAddr().String()
}

// leave ends the lease, so that sessions of clients that are on the way to another gateway are shown online for as long
// as they may take.
func (g *Gateway) leave(ctx context.Context) {
	m := g.member.Load()
	if m == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	if err := (*m).Leave(ctx, reconnectDelayHigh+g.cfg.Store.Grace); err != nil {
		g.cfg.Logger.Warn("leaving the cluster; the lease will run out by itself", "error", err)
	}
}

// leaveTimeout is how long the last writes to the store may take.
const leaveTimeout = 5 * time.Second
