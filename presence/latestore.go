package presence

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/imcluster/imcluster/presence/store"
)

// model is what the server asks of the store.
type model interface {
	Users(ctx context.Context, ids []string) (users []store.User, asOf time.Time, degraded bool)
	Online(ctx context.Context, cursor string, limit int) (store.Page, error)
	Counts(ctx context.Context) (store.Counts, error)
	Incarnations(ctx context.Context) (list []store.Incarnation, degraded bool, err error)
	Fence(ctx context.Context, epochs []store.Epoch, banPodUIDs []string) (fenced, unknown []store.Epoch, err error)
}

// lateStore is a model that answers from the start, "unavailable" until Redis has been reached once, and within the timeout.
type lateStore struct {
	timeout time.Duration
	store   atomic.Pointer[model]
}

func (l *lateStore) set(m model) { l.store.Store(&m) }

func (l *lateStore) opened() bool { return l.store.Load() != nil }

// get returns the store, or an error that wraps [store.ErrUnavailable].
func (l *lateStore) get() (model, error) {
	if m := l.store.Load(); m != nil {
		return *m, nil
	}
	return nil, fmt.Errorf("not connected yet: %w", store.ErrUnavailable)
}

func (l *lateStore) Users(ctx context.Context, ids []string) ([]store.User, time.Time, bool) {
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

func (l *lateStore) Online(ctx context.Context, cursor string, limit int) (store.Page, error) {
	m, err := l.get()
	if err != nil {
		return store.Page{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	return m.Online(ctx, cursor, limit)
}

func (l *lateStore) Counts(ctx context.Context) (store.Counts, error) {
	m, err := l.get()
	if err != nil {
		return store.Counts{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	return m.Counts(ctx)
}

func (l *lateStore) Incarnations(ctx context.Context) ([]store.Incarnation, bool, error) {
	m, err := l.get()
	if err != nil {
		return nil, true, err
	}
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	return m.Incarnations(ctx)
}

func (l *lateStore) Fence(ctx context.Context, epochs []store.Epoch, banPodUIDs []string) (fenced, unknown []store.Epoch, err error) {
	m, err := l.get()
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	return m.Fence(ctx, epochs, banPodUIDs)
}
