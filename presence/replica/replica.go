package replica

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"

	"github.com/imcluster/imcluster/presence/feed"
	"github.com/imcluster/imcluster/presence/store"
)

// Source is whom the replica asks what it does not know: [store.Store].
type Source interface {
	Users(ctx context.Context, ids []string) (users []store.User, asOf time.Time, degraded bool)
	Online(ctx context.Context, cursor string, limit int) (store.Page, error)
	Counts(ctx context.Context) (store.Counts, error)
}

// Feed is what the replica follows: [store.Store].
type Feed interface {
	Poll(ctx context.Context) (*store.Heads, error)
	Facts(ctx context.Context, from []store.FactsAfter) ([]store.FactsOf, error)
	Load(ctx context.Context, parts []int) ([]store.Loaded, error)
}

// Defaults of Config.
const (
	DefaultMaxSubscriptions = 100_000
	DefaultMaxRemembered    = 200_000
)

// Config bounds a replica.
type Config struct {
	// Source is required.
	Source Source
	// Retention is how long last seen is remembered; zero means 168 h. The same as the store's.
	Retention time.Duration
	// MaxRemembered is of how many users who are not online it is kept when they were last seen; zero means 200,000. One
	// takes 120 bytes.
	MaxRemembered int
	// MaxSubscriptions is how many subscriptions may be open at a time; zero means 100,000.
	MaxSubscriptions int
	// Logger; nil means no logs. User ids appear at no level.
	Logger *slog.Logger
	// Meters; nil means no metrics.
	Meters metric.MeterProvider
}

// Replica answers questions about presence. Its methods may be called concurrently, also before Run: it asks the source then,
// and takes no subscriptions.
type Replica struct {
	// Fixed after New.
	cfg     Config
	log     *slog.Logger
	source  Source
	started time.Time
	metrics *metrics
	hub     *hub

	names *names // the goroutine of Run adds
	pods  pods   // the same

	mu       sync.RWMutex
	parts    [store.Partitions]*partition // nil until loaded
	asOf     time.Time                    // Redis' clock at the last poll
	asOfRead time.Duration                // when that was, on the replica's clock
	live     map[feed.Epoch]store.Peer
}

// New makes a replica that knows nothing: it asks the source for everybody until [Replica.Run] has loaded them.
func New(cfg Config) (*Replica, error) {
	cfg.Retention = cmp.Or(cfg.Retention, 7*24*time.Hour)
	cfg.MaxSubscriptions = cmp.Or(cfg.MaxSubscriptions, DefaultMaxSubscriptions)
	cfg.MaxRemembered = cmp.Or(cfg.MaxRemembered, DefaultMaxRemembered)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Meters == nil {
		cfg.Meters = metricnoop.NewMeterProvider()
	}
	r := &Replica{cfg: cfg, log: cfg.Logger, source: cfg.Source, started: time.Now(), names: newNames()}
	r.pods.byEpoch.Store(&map[feed.Epoch]string{})
	r.hub = newHub(r)
	var err error
	if r.metrics, err = newMetrics(cfg.Meters, r); err != nil {
		return nil, fmt.Errorf("make metrics of the replica: %w", err)
	}
	return r, nil
}

// Run follows the feed until ctx ends, and then closes all subscriptions. It is called once.
func (r *Replica) Run(ctx context.Context, of Feed) {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer r.hub.close()
	r.hub.open()
	tasks.Go(func() { r.hub.resolveLoop(ctx) })
	tasks.Go(func() { r.hub.tickLoop(ctx) })
	f := newFollower(r, of)
	tasks.Go(func() { f.loadLoop(ctx) })
	f.run(ctx)
}

// now is the replica's clock: how long it has been there. It goes on while the process is stopped.
func (r *Replica) now() time.Duration { return time.Since(r.started) }

// wall is Redis' clock as far as is known. The caller holds mu.
func (r *Replica) wall() time.Time {
	if r.asOf.IsZero() {
		return r.asOf
	}
	return r.asOf.Add(r.now() - r.asOfRead)
}

// part returns a partition, nil if it was not loaded yet.
func (r *Replica) part(p int) *partition {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.parts[p]
}
