package store

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
)

// Store is the model in Redis. Its methods may be called concurrently.
type Store struct {
	// Fixed after Open.
	cfg     Config
	log     *slog.Logger
	keys    *keys
	servers *servers
	metrics *metrics
	// externals write for chat servers that are no gateways.
	externals *externals

	// Caches, refreshed by whoever reads.
	records atomic.Pointer[map[Epoch]record]
	latest  atomic.Pointer[table] // with its records
	metas   [Partitions]atomic.Pointer[meta]
	counts  countsCache

	mu      sync.Mutex
	opened  bool // the first call to the lease table was made
	members []*Member
}

// Open connects and checks that the server is new enough, that the data has this package's schema and that its keys belong
// to nobody else. Errors that may pass wrap [ErrUnavailable]; the others are [ErrForeignOwner], [ErrIncompatible] and those
// of the configuration.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	quietClient()
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("configure the presence store: %w", err)
	}
	s := &Store{cfg: cfg, log: cfg.Logger, keys: newKeys(cfg.KeyPrefix)}
	if s.metrics, err = newMetrics(cfg.Meter, s); err != nil {
		return nil, fmt.Errorf("make metrics of the presence store: %w", err)
	}
	s.servers, s.externals = newServers(s), newExternals(s)
	if err := s.check(ctx); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("open the presence store: %w", err)
	}
	return s, nil
}

// quietClient silences the client library, whose one logger for the whole process prints a line for every failed dial. The
// store tells of an outage itself, once.
var quietClient = sync.OnceFunc(func() { redis.SetLogger(&logging.VoidLogger{}) })

// Close ends the connections. Members that have not left are abandoned: what they have not written is lost, and their
// leases run out.
func (s *Store) Close() error {
	s.mu.Lock()
	members := s.members
	s.members = nil
	s.mu.Unlock()
	for _, m := range members {
		m.lanes.stop()
	}
	s.servers.close() // ends what is in flight
	for _, m := range members {
		m.lanes.close()
	}
	return s.metrics.close()
}

// check looks at every server, and makes the lease table if there is none.
func (s *Store) check(ctx context.Context) error {
	if err := s.servers.refresh(ctx); err != nil {
		return err
	}
	for _, n := range s.servers.routes.Load().nodes() {
		if err := s.checkServer(ctx, n); err != nil {
			return err
		}
	}
	_, err := s.tableCall(ctx, stepScript, banTTL.Milliseconds())
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.opened = true
	s.mu.Unlock()
	return nil
}

// fresh returns the argument of the lease table's scripts that says whether a new table is trusted at once: only the one
// that Open itself makes can be.
func (s *Store) fresh() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cfg.Fresh && !s.opened {
		return "1"
	}
	return ""
}

// checkServer refuses servers before 7.0, and warns of those that drop data when their memory is full.
func (s *Store) checkServer(ctx context.Context, n *node) error {
	info, policy := &request{on: n, args: []any{"info", "server"}}, &request{on: n, args: []any{"config", "get", "maxmemory-policy"}}
	if err := s.exchange(ctx, info); err != nil && errors.Is(err, ErrUnavailable) {
		return err
	}
	for line := range strings.Lines(info.text()) {
		version, ok := strings.CutPrefix(strings.TrimSpace(line), "redis_version:")
		if !ok {
			continue
		}
		major, _, _ := strings.Cut(version, ".")
		if v, err := strconv.Atoi(major); err == nil && v < 7 {
			return fmt.Errorf("%w: %s is redis %s, and 7.0 is needed", ErrIncompatible, n.addr, version)
		}
	}
	// Cloud providers forbid CONFIG; then it cannot be known.
	if err := s.exchange(ctx, policy); err == nil {
		if v := policy.list(); len(v) == 2 && textOf(v[1]) != "noeviction" {
			s.log.Warn("redis evicts keys when its memory is full, which loses sessions and leases: set maxmemory-policy noeviction",
				"redis", n.addr, "maxmemory-policy", textOf(v[1]))
		}
	}
	return nil
}

func newEpoch() Epoch {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails
	return Epoch(base64.RawURLEncoding.EncodeToString(b[:]))
}

func randomGeneration() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
