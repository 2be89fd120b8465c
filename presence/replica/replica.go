package replica

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"

	"github.com/imcluster/imcluster/presence/store"
)

// Source is what the replica follows: [store.Store].
type Source interface {
	Users(ctx context.Context, ids []string) (users []store.User, asOf time.Time, degraded bool)
	Online(ctx context.Context, cursor string, limit int) (store.Page, error)
	Counts(ctx context.Context) (store.Counts, error)
}

// Config bounds a replica.
type Config struct {
	// MaxSubscriptions is how many subscriptions may be open at a time. Zero means 100,000.
	MaxSubscriptions int
	// Logger; nil means no logs. User ids appear at no level.
	Logger *slog.Logger
	// Meters; nil means no metrics.
	Meters metric.MeterProvider
}

// Replica answers questions about presence. Its methods may be called concurrently, also before Run.
type Replica struct {
	cfg    Config
	source atomic.Pointer[Source]

	mu   sync.Mutex
	subs map[*Subscription]struct{}
}

// New makes a replica that knows nothing: users are unknown until [Replica.Run] has reached Redis.
func New(cfg Config) (*Replica, error) {
	cfg.MaxSubscriptions = cmp.Or(cfg.MaxSubscriptions, 100_000)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Meters == nil {
		cfg.Meters = metricnoop.NewMeterProvider()
	}
	return &Replica{cfg: cfg, subs: map[*Subscription]struct{}{}}, nil
}

// Run follows source until ctx ends, and then closes all subscriptions.
func (r *Replica) Run(ctx context.Context, source Source) {
	r.source.Store(&source)
	<-ctx.Done()
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range r.subs {
		s.end()
	}
}

// Users tells the state of users as [store.Store.Users] does.
func (r *Replica) Users(ctx context.Context, ids []string) (users []store.User, asOf time.Time, degraded bool) {
	if source := r.source.Load(); source != nil {
		return (*source).Users(ctx, ids)
	}
	users = make([]store.User, len(ids))
	for i, id := range ids {
		users[i] = store.User{ID: id, State: store.Unknown, Reason: store.Unavailable}
	}
	return users, time.Now(), true
}

// Briefs tells no more than the state of users, into a slice of the same length, without allocating for those who are in
// memory. It keeps nothing of ids.
func (r *Replica) Briefs(ctx context.Context, ids []string, into []Brief) (degraded bool) {
	users, _, degraded := r.Users(ctx, ids)
	for i := range users {
		into[i] = briefOf(&users[i])
	}
	return degraded
}

// Online lists who is online as [store.Store.Online] does.
func (r *Replica) Online(ctx context.Context, cursor string, limit int) (store.Page, error) {
	if source := r.source.Load(); source != nil {
		return (*source).Online(ctx, cursor, limit)
	}
	return store.Page{}, store.ErrUnavailable
}

// Counts tells how many are online as [store.Store.Counts] does.
func (r *Replica) Counts(ctx context.Context) (store.Counts, error) {
	if source := r.source.Load(); source != nil {
		return (*source).Counts(ctx)
	}
	return store.Counts{}, store.ErrUnavailable
}
