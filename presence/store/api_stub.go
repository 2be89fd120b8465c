package store

import (
	"context"
	"errors"
	"time"
)

var errStub = errors.New("not implemented")

// Partitions is the number of partitions that users are spread over. It is fixed for the life of the data.
const Partitions = 128

// Partition returns the partition of a user.
func Partition(user string) int { return 0 }

// Store is a connection to the model in Redis. Its methods may be called concurrently.
type Store struct{}

// Open connects and checks the server's version, the schema and the owner of the keys.
func Open(ctx context.Context, cfg Config) (*Store, error) { return nil, errStub }

// Close ends the connections.
func (s *Store) Close() error { return nil }

// Join acquires a lease under a fresh epoch.
func (s *Store) Join(ctx context.Context, id Identity, local Local) (*Member, error) {
	return nil, errStub
}

// Users tells the state of users, in order.
func (s *Store) Users(ctx context.Context, ids []string) (users []User, asOf time.Time, degraded bool) {
	return nil, time.Time{}, true
}

// Online lists online users.
func (s *Store) Online(ctx context.Context, cursor string, limit int) (Page, error) {
	return Page{}, errStub
}

// Counts counts online users and sessions.
func (s *Store) Counts(ctx context.Context) (Counts, error) { return Counts{}, errStub }

// Incarnations lists the lease table.
func (s *Store) Incarnations(ctx context.Context) (list []Incarnation, degraded bool, err error) {
	return nil, true, errStub
}

// Fence ends leases and bans pods.
func (s *Store) Fence(ctx context.Context, epochs []Epoch, banPodUIDs []string) (fenced, unknown []Epoch, err error) {
	return nil, nil, errStub
}

// Keep tends the model until ctx ends.
func (s *Store) Keep(ctx context.Context) error { return errStub }

// Member is a gateway's membership.
type Member struct{}

// Run keeps the membership until ctx ends.
func (m *Member) Run(ctx context.Context) error { return errStub }

// Epoch is the current epoch.
func (m *Member) Epoch() Epoch { return "" }

// Register registers a session.
func (m *Member) Register(ctx context.Context, s Session) (prev *Holder, since time.Time, err error) {
	return nil, time.Time{}, errStub
}

// Unregister ends a session.
func (m *Member) Unregister(s Session, at time.Time) {}

// Locate finds the live devices of a user.
func (m *Member) Locate(user string, done func([]Holder, error)) {}

// Peer looks up a live peer.
func (m *Member) Peer(e Epoch) (Peer, bool) { return Peer{}, false }

// Peers lists the live gateways.
func (m *Member) Peers() []Peer { return nil }

// SetDraining marks the lease record as draining.
func (m *Member) SetDraining(ctx context.Context) error { return errStub }

// Leave ends the lease after linger.
func (m *Member) Leave(ctx context.Context, linger time.Duration) error { return errStub }

// Ready tells whether the member has worked at least once.
func (m *Member) Ready() bool { return false }
