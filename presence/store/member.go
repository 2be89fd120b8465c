package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// kickPause is the least time between two looks at the lease table.
const kickPause = 50 * time.Millisecond

// Member is a gateway's membership: its lease, its sessions, and the lanes that write them.
type Member struct {
	// Fixed after Join.
	store *Store
	id    Identity
	local Local
	lanes *lanes
	kicks chan struct{} // asks Run for a look now
	// joined is the end of the control log before there was any session.
	joined struct {
		gen     string
		control int64
	}

	lease       atomic.Pointer[lease]
	view        atomic.Pointer[view]
	worked      atomic.Bool // a renewal or a write succeeded
	renewWanted atomic.Bool

	leaseMu   sync.Mutex // held over each change of the lease
	draining  bool       // guarded by leaseMu
	noClients bool       // guarded by leaseMu; takes none yet
	left      bool       // guarded by leaseMu

	mu        sync.Mutex
	running   bool     // guarded by mu
	waiting   []waiter // guarded by mu
	suspicion string   // guarded by mu; why Local.Suspect is to be called, empty: it is not
}

// lease is what the member holds. It is replaced, never changed.
type lease struct {
	epoch   Epoch
	earlier Epoch  // the one before; its sessions may still be there
	gen     string // of the lease table
	index   *[Partitions]string
	// until is for each node the unix time in ms, by the node's own clock, up to which the lease surely lasts: what the
	// node's clock said before the renewal, plus the TTL. Store time is never faster than these clocks.
	until   map[*node]int64
	renewed time.Time
}

// Join takes a lease under a fresh epoch, and ends all earlier ones of the same pod UID. Before the lease is visible every
// partition knows that this epoch has registered all of its sessions, of which there are none.
//
// ErrBanned means that the pod is gone as far as the cluster is concerned. The member lives until the store is closed.
func (s *Store) Join(ctx context.Context, id Identity, local Local) (*Member, error) {
	if strings.ContainsAny(id.PodUID, " \n") {
		return nil, fmt.Errorf("join: bad pod UID %q", id.PodUID)
	}
	m := &Member{store: s, id: id, local: local, kicks: make(chan struct{}, 1), noClients: id.Waiting}
	epoch := newEpoch()
	gens, err := s.prepare(ctx, epoch)
	if err != nil {
		return nil, fmt.Errorf("join: prepare partitions: %w", err)
	}
	if err := m.acquire(ctx, epoch); err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	t, err := s.readTable(ctx)
	if err != nil {
		return nil, fmt.Errorf("join: read the lease table: %w", err)
	}
	m.view.Store(newView(t))
	m.joined.gen, m.joined.control = t.gen, t.control
	m.lanes = newLanes(s, m)
	m.lanes.know(gens)
	s.mu.Lock()
	s.members = append(s.members, m)
	s.mu.Unlock()
	s.log.Info("joined", "epoch", epoch, "pod", id.PodName, "peers", len(m.Peers())-1)
	return m, nil
}

// prepare marks an epoch that has no session in every partition, and returns their generations.
func (s *Store) prepare(ctx context.Context, e Epoch) (map[int]string, error) {
	gens, err := s.generations(ctx, everyPartition())
	if err != nil {
		return nil, err
	}
	return gens, s.markDone(ctx, e, gens)
}

func everyPartition() []int {
	parts := make([]int, Partitions)
	for p := range parts {
		parts[p] = p
	}
	return parts
}

// generations returns the generations of partitions; those that have none get one.
func (s *Store) generations(ctx context.Context, parts []int) (map[int]string, error) {
	reqs := make([]*request, len(parts))
	for i, p := range parts {
		reqs[i] = eval(p, generationScript, []string{s.keys.meta[p]}, randomGeneration())
	}
	if err := s.exchange(ctx, reqs...); err != nil {
		return nil, err
	}
	gens := make(map[int]string, len(parts))
	for i, p := range parts {
		gens[p] = reqs[i].text()
	}
	return gens, nil
}

// markDone notes that an epoch has registered everything, where the generations still are the given ones. Where they are
// not, the next look finds the mark missing.
func (s *Store) markDone(ctx context.Context, e Epoch, gens map[int]string) error {
	reqs := make([]*request, 0, len(gens))
	for p, g := range gens {
		reqs = append(reqs, eval(p, doneScript, []string{s.keys.meta[p], s.keys.feed[p]}, string(e), g))
	}
	return s.exchange(ctx, reqs...)
}

// acquire takes a lease under a fresh epoch.
func (m *Member) acquire(ctx context.Context, e Epoch) error {
	m.leaseMu.Lock()
	defer m.leaseMu.Unlock()
	clocks, err := m.store.clocks(ctx)
	if err != nil {
		return fmt.Errorf("read clocks: %w", err)
	}
	reply, err := m.store.tableCall(ctx, joinScript, string(e), m.id.PodUID, m.record(), m.store.cfg.Grace.Milliseconds())
	if err != nil {
		return fmt.Errorf("acquire a lease: %w", err)
	}
	l := &lease{epoch: e, gen: reply.gen, index: new([Partitions]string)}
	if old := m.lease.Load(); old != nil {
		l.earlier = old.epoch
	}
	for p := range l.index {
		l.index[p] = m.store.keys.indexKey(p, e)
	}
	m.adopt(l, clocks, m.store.cfg.LeaseTTL)
	// The process of an earlier epoch is dead, or is this one. What it sent may still be on its way.
	if err := m.store.markFenced(ctx, reply.epochs); err != nil {
		m.store.log.Warn("earlier epochs of this pod could not be marked in all partitions; the deadlines of their writes hold them off",
			"epochs", reply.epochs, "error", err)
	}
	return nil
}

// adopt puts a lease in force that was taken or renewed after the clocks were read.
func (m *Member) adopt(l *lease, clocks map[*node]int64, ttl time.Duration) {
	l.until = make(map[*node]int64, len(clocks))
	for n, ms := range clocks {
		l.until[n] = ms + ttl.Milliseconds()
	}
	l.renewed = time.Now()
	m.lease.Store(l)
}

// clocks reads the clock of every node, as unix ms.
func (s *Store) clocks(ctx context.Context) (map[*node]int64, error) {
	var reqs []*request
	for _, n := range s.servers.routes.Load().nodes() {
		reqs = append(reqs, &request{on: n, args: []any{"time"}})
	}
	err := s.exchange(ctx, reqs...)
	clocks := make(map[*node]int64, len(reqs))
	for _, r := range reqs {
		if ms := timeOf(r); ms > 0 {
			r.on.setClock(ms)
			clocks[r.on] = ms
		}
	}
	if len(clocks) > 0 {
		return clocks, nil // a node that is down has no clock, and nothing is written to it
	}
	return nil, err
}

func (m *Member) record() string {
	r := record{PodName: m.id.PodName, Address: m.id.Address, Version: m.id.Version,
		Draining: m.draining, Waiting: m.noClients}
	if m.local != nil {
		r.Sessions = m.local.Count()
	}
	b, _ := json.Marshal(r) // strings and numbers
	return string(b)
}

// renew renews the lease, or gives it its end. ErrFenced means that it has ended.
func (m *Member) renew(ctx context.Context, clocks map[*node]int64, end *time.Duration) error {
	m.leaseMu.Lock()
	defer m.leaseMu.Unlock()
	if m.left && end == nil {
		return nil
	}
	linger, ttl := "", m.store.cfg.LeaseTTL
	if end != nil {
		linger, ttl = fmt.Sprint(end.Milliseconds()), *end
	}
	l := *m.lease.Load()
	reply, err := m.store.tableCall(ctx, renewScript, string(l.epoch), l.gen, m.id.PodUID, m.record(), linger)
	if err != nil {
		return fmt.Errorf("renew the lease: %w", err)
	}
	l.gen = reply.gen
	m.adopt(&l, clocks, ttl)
	m.left = m.left || end != nil
	m.worked.Store(true)
	return nil
}

// Epoch returns the current epoch. [Member.Run] changes it when the lease has ended.
func (m *Member) Epoch() Epoch { return m.lease.Load().epoch }

// Ready tells whether a renewal or a write succeeded since Join.
func (m *Member) Ready() bool { return m.worked.Load() }

// SetDraining marks the gateway as draining for its peers, now and in later renewals. ErrUnavailable means that the mark
// comes with the next renewal.
func (m *Member) SetDraining(ctx context.Context) error {
	m.leaseMu.Lock()
	m.draining = true
	m.leaseMu.Unlock()
	if err := m.publish(ctx); err != nil {
		return fmt.Errorf("set draining: %w", err)
	}
	return nil
}

// SetServing ends what [Identity.Waiting] began: from now on clients may be sent to the gateway. ErrUnavailable means that
// peers learn of it with the next renewal.
func (m *Member) SetServing(ctx context.Context) error {
	m.leaseMu.Lock()
	m.noClients = false
	m.leaseMu.Unlock()
	if err := m.publish(ctx); err != nil {
		return fmt.Errorf("set serving: %w", err)
	}
	return nil
}

// publish writes the record with a renewal. If the lease has ended, Run joins again, with the record as it is by then.
func (m *Member) publish(ctx context.Context) error {
	clocks, err := m.store.clocks(ctx)
	if err == nil {
		err = m.renew(ctx, clocks, nil)
	}
	if errors.Is(err, ErrFenced) {
		return nil
	}
	return err
}

// Leave waits until everything queued is written, then gives the lease its end: after linger, for clients that are on their
// way to another gateway, and not renewable. It tries until it succeeds or ctx ends.
func (m *Member) Leave(ctx context.Context, linger time.Duration) error {
	drained := m.lanes.drain(ctx)
	for {
		err := m.leave(ctx, linger)
		if err == nil || errors.Is(err, ErrFenced) || errors.Is(err, ErrBanned) {
			if drained != nil {
				return fmt.Errorf("leave: some sessions could not be unregistered: %w", drained)
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("leave: %w", err)
		case <-time.After(maxBackoff):
		}
	}
}

func (m *Member) leave(ctx context.Context, linger time.Duration) error {
	clocks, err := m.store.clocks(ctx)
	if err != nil {
		return err
	}
	return m.renew(ctx, clocks, &linger)
}

// kick asks Run for a look at the lease table now.
func (m *Member) kick() {
	select {
	case m.kicks <- struct{}{}:
	default:
	}
}

// kickLease asks Run to renew the lease now.
func (m *Member) kickLease() {
	m.renewWanted.Store(true)
	m.kick()
}

// jitter returns d ± 10 %.
func jitter(d time.Duration) time.Duration { return d - d/10 + rand.N(d/5+1) }
