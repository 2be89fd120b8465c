package presence

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/presence/feed"
	"github.com/imcluster/imcluster/presence/replica"
	"github.com/imcluster/imcluster/presence/store"
)

// model is what the server asks of the store.
type model interface {
	Users(ctx context.Context, ids []string) (users []store.User, asOf time.Time, degraded bool)
	Online(ctx context.Context, cursor string, limit int) (store.Page, error)
	Counts(ctx context.Context) (store.Counts, error)
	Incarnations(ctx context.Context) (list []store.Incarnation, degraded bool, err error)
	Fence(ctx context.Context, epochs []store.Epoch, banPodUIDs []string) (fenced, unknown []store.Epoch, err error)
	Gateways() []store.Peer
	externals
	explainer
	hookReporter

	CreateGroupOnce(ctx context.Context, key, id, owner string, members []string) (store.Group, error)
	AddMembers(ctx context.Context, id, actor string, users []string) (store.Group, error)
	RemoveMembers(ctx context.Context, id, actor string, users []string) (store.Group, error)
	Members(ctx context.Context, id, actor, cursor string, limit int) (store.MemberPage, error)
	DeleteGroup(ctx context.Context, id, actor string) error
	OwnedGroups(ctx context.Context, owner, cursor string, limit int) (store.GroupPage, error)
	Revoke(ctx context.Context, r store.Revocation, ttl time.Duration) error
	Reinstate(ctx context.Context, user string) error
}

// redisModel is a model in Redis.
type redisModel interface {
	model
	Briefs(ctx context.Context, ids []string, into []store.Brief) (degraded bool)
}

// lateStore is a model that answers from the start, "unavailable" until Redis has been reached once, and within the timeout.
// Who is online it takes from memory where it can.
type lateStore struct {
	timeout  time.Duration
	uncached bool
	replica  *replica.Replica
	store    atomic.Pointer[redisModel]
}

func (l *lateStore) set(m redisModel) { l.store.Store(&m) }

func (l *lateStore) opened() bool { return l.store.Load() != nil }

// get returns the store, or an error that wraps [store.ErrUnavailable].
func (l *lateStore) get() (redisModel, error) {
	if m := l.store.Load(); m != nil {
		return *m, nil
	}
	return nil, fmt.Errorf("not connected yet: %w", store.ErrUnavailable)
}

func (l *lateStore) Users(ctx context.Context, ids []string) ([]store.User, time.Time, bool) {
	if l.uncached {
		return redisAlone{l}.Users(ctx, ids)
	}
	return l.replica.Users(ctx, ids)
}

// Briefs tells no more than the state of users, as [replica.Replica.Briefs] does.
func (l *lateStore) Briefs(ctx context.Context, ids []string, into []replica.Brief) (degraded bool) {
	if !l.uncached {
		return l.replica.Briefs(ctx, ids, into)
	}
	return redisAlone{l}.Briefs(ctx, ids, into)
}

func (l *lateStore) Online(ctx context.Context, cursor string, limit int) (store.Page, error) {
	if l.uncached {
		return redisAlone{l}.Online(ctx, cursor, limit)
	}
	return l.replica.Online(ctx, cursor, limit)
}

func (l *lateStore) Counts(ctx context.Context) (store.Counts, error) {
	if l.uncached {
		return redisAlone{l}.Counts(ctx)
	}
	return l.replica.Counts(ctx)
}

// redisAlone asks Redis, and is what the replica asks when it does not know.
type redisAlone struct{ *lateStore }

func (l redisAlone) Users(ctx context.Context, ids []string) ([]store.User, time.Time, bool) {
	if m, err := l.get(); err == nil {
		ctx, cancel := context.WithTimeout(ctx, l.timeout)
		defer cancel()
		return m.Users(ctx, ids)
	}
	users := make([]store.User, len(ids))
	for i, id := range ids {
		users[i] = store.User{ID: id, State: store.Unknown, Reason: store.Unavailable}
	}
	return users, time.Now(), true
}

// storeBriefs holds what the store tells of the users of a request.
var storeBriefs = sync.Pool{New: func() any { return new([]store.Brief) }}

func (l redisAlone) Briefs(ctx context.Context, ids []string, into []replica.Brief) (degraded bool) {
	clear(into)
	m, err := l.get()
	if err != nil {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	briefs := storeBriefs.Get().(*[]store.Brief)
	defer storeBriefs.Put(briefs)
	*briefs = slices.Grow((*briefs)[:0], len(ids))[:len(ids)]
	degraded = m.Briefs(ctx, ids, *briefs)
	for i, b := range *briefs {
		switch {
		case b.Online:
			into[i] = replica.Online
		case b.LastSeen > 0:
			into[i] = replica.Offline
		case b.Known || wire.CheckUserID(ids[i]) != nil: // or nobody can have it
			into[i] = replica.NeverSeen
		}
	}
	return degraded
}

func (l redisAlone) Online(ctx context.Context, cursor string, limit int) (store.Page, error) {
	return ask(ctx, l.lateStore, func(ctx context.Context, m model) (store.Page, error) { return m.Online(ctx, cursor, limit) })
}

func (l redisAlone) Counts(ctx context.Context) (store.Counts, error) {
	return ask(ctx, l.lateStore, func(ctx context.Context, m model) (store.Counts, error) { return m.Counts(ctx) })
}

// ask asks the store within the timeout.
func ask[T any](ctx context.Context, l *lateStore, question func(context.Context, model) (T, error)) (answer T, err error) {
	m, err := l.get()
	if err != nil {
		return answer, err
	}
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	return question(ctx, m)
}

// nothing is the answer of what returns only an error.
type nothing struct{}

func (l *lateStore) Incarnations(ctx context.Context) (list []store.Incarnation, degraded bool, err error) {
	list, err = ask(ctx, l, func(ctx context.Context, m model) (list []store.Incarnation, err error) {
		list, degraded, err = m.Incarnations(ctx)
		return list, err
	})
	return list, degraded || err != nil, err
}

func (l *lateStore) Fence(ctx context.Context, epochs []store.Epoch, banPodUIDs []string) (fenced, unknown []store.Epoch, err error) {
	fenced, err = ask(ctx, l, func(ctx context.Context, m model) (fenced []store.Epoch, err error) {
		fenced, unknown, err = m.Fence(ctx, epochs, banPodUIDs)
		return fenced, err
	})
	return fenced, unknown, err
}

func (l *lateStore) Gateways() []store.Peer {
	m, err := l.get()
	if err != nil {
		return nil
	}
	return m.Gateways()
}

func (l *lateStore) CreateGroupOnce(ctx context.Context, key, id, owner string, members []string) (store.Group, error) {
	return ask(ctx, l, func(ctx context.Context, m model) (store.Group, error) {
		return m.CreateGroupOnce(ctx, key, id, owner, members)
	})
}

func (l *lateStore) AddMembers(ctx context.Context, id, actor string, users []string) (store.Group, error) {
	return ask(ctx, l, func(ctx context.Context, m model) (store.Group, error) { return m.AddMembers(ctx, id, actor, users) })
}

func (l *lateStore) RemoveMembers(ctx context.Context, id, actor string, users []string) (store.Group, error) {
	return ask(ctx, l, func(ctx context.Context, m model) (store.Group, error) { return m.RemoveMembers(ctx, id, actor, users) })
}

func (l *lateStore) OwnedGroups(ctx context.Context, owner, cursor string, limit int) (store.GroupPage, error) {
	return ask(ctx, l, func(ctx context.Context, m model) (store.GroupPage, error) {
		return m.OwnedGroups(ctx, owner, cursor, limit)
	})
}

func (l *lateStore) Members(ctx context.Context, id, actor, cursor string, limit int) (store.MemberPage, error) {
	return ask(ctx, l, func(ctx context.Context, m model) (store.MemberPage, error) {
		return m.Members(ctx, id, actor, cursor, limit)
	})
}

func (l *lateStore) DeleteGroup(ctx context.Context, id, actor string) error {
	_, err := ask(ctx, l, func(ctx context.Context, m model) (nothing, error) { return nothing{}, m.DeleteGroup(ctx, id, actor) })
	return err
}

func (l *lateStore) Revoke(ctx context.Context, r store.Revocation, ttl time.Duration) error {
	_, err := ask(ctx, l, func(ctx context.Context, m model) (nothing, error) { return nothing{}, m.Revoke(ctx, r, ttl) })
	return err
}

func (l *lateStore) Reinstate(ctx context.Context, user string) error {
	_, err := ask(ctx, l, func(ctx context.Context, m model) (nothing, error) { return nothing{}, m.Reinstate(ctx, user) })
	return err
}

func (l *lateStore) Explain(ctx context.Context, user string) (*store.Explanation, error) {
	return ask(ctx, l, func(ctx context.Context, m model) (*store.Explanation, error) { return m.Explain(ctx, user) })
}

func (l *lateStore) Status(ctx context.Context, user string) (feed.Standing, error) {
	return ask(ctx, l, func(ctx context.Context, m model) (feed.Standing, error) { return m.Status(ctx, user) })
}
