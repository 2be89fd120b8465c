package gateway

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/imcluster/imcluster/presence/feed"
	"github.com/imcluster/imcluster/presence/store"
)

// membership is what the gateway needs of the store. It is [store.Member] and [store.Store]; tests have one of their own.
type membership interface {
	Run(ctx context.Context) error
	Epoch() store.Epoch
	Peer(e store.Epoch) (store.Peer, bool)
	Peers() []store.Peer
	Seen() time.Time
	SetServing(ctx context.Context) error
	SetDraining(ctx context.Context) error
	Leave(ctx context.Context, linger time.Duration) error

	Register(ctx context.Context, s store.Session) (store.Login, error)
	CheckRevoked(ctx context.Context, s store.Session) error
	SetStatus(ctx context.Context, s store.Session, status store.Status) (store.StatusChange, error)
	Unregister(s store.Session, at time.Time, cause feed.Cause)
	Locate(user string, done func([]store.Holder, error))

	Append(user string, msg *store.Record, done func(store.Appended, error))
	Peek(user string, done func(tail uint64, holders []store.Holder, err error))
	Read(ctx context.Context, user, device string, from uint64, limit, bytes int) (store.Mail, error)
	Ack(s store.Session, seq uint64, done func(error))
	Tails(ctx context.Context, users []string) ([]uint64, error)

	BeginGroup(group, sender string, msgID [16]byte, known uint64, done func(store.GroupSend, error))
	FinishGroup(group string, msgID [16]byte)
	CreateGroup(ctx context.Context, id, owner string, members []string) (store.Group, error)
	AddMembers(ctx context.Context, id, actor string, users []string) (store.Group, error)
	RemoveMembers(ctx context.Context, id, actor string, users []string) (store.Group, error)
	Members(ctx context.Context, id, actor, cursor string, limit int) (store.MemberPage, error)
	DeleteGroup(ctx context.Context, id, actor string) error

	Online(ctx context.Context, cursor string, limit int) (store.Page, error)
	Counts(ctx context.Context) (store.Counts, error)
}

// joined is the store after joining it.
type joined struct {
	*store.Member
	*store.Store
}

var _ membership = joined{}

// SetStatus is that of the member, which is in order with what else the gateway writes.
func (j joined) SetStatus(ctx context.Context, s store.Session, status store.Status) (store.StatusChange, error) {
	return j.Member.SetStatus(ctx, s, status)
}

// registry returns the membership, nil before the gateway has joined.
func (g *Gateway) registry() membership {
	if m := g.member.Load(); m != nil {
		return *m
	}
	return nil
}

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
		"listen", g.Addr().String(), "ops", fmt.Sprint(g.OpsAddr()))
	waiting, started := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { g.awaitStart(waiting, m) })
	defer wg.Wait()
	defer started()
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
	id := store.Identity{PodName: g.cfg.PodName, PodUID: g.cfg.PodUID, Address: g.advertised(),
		Version: g.cfg.Version, Waiting: true}
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
	return joined{m, s}, closeStore, nil
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
