package gateway

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/imcluster/imcluster/presence/feed"
	"github.com/imcluster/imcluster/presence/store"
)

// world is a registry in memory, for tests of what the gateways do with a registry, and with one that fails. What they do
// with the real one is tested in the package gateway_test.
type world struct {
	forgetful bool // remembers nobody: for measuring what the gateway remembers

	mu        sync.Mutex
	down      bool
	next      int
	holders   map[string]map[string]store.Holder // user → device
	members   map[store.Epoch]*worldMember
	lastGone  map[string]time.Time // user → last seen, of those who were unregistered
	revoked   []store.Revocation
	forgotten []string             // users and devices
	boxes     map[string]*worldBox // by user
	deaf      bool                 // appends find nobody to push to
	unsure    bool                 // appends happen, and are said to have an unknown outcome
	register  func()               // nil, or called between a registration and its answer
}

func newWorld() *world {
	return &world{holders: map[string]map[string]store.Holder{}, members: map[store.Epoch]*worldMember{}, lastGone: map[string]time.Time{}, boxes: map[string]*worldBox{}}
}

func (w *world) join(_ context.Context, id store.Identity, l store.Local) (membership, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		return nil, fmt.Errorf("join: %w", store.ErrUnavailable)
	}
	w.next++
	m := &worldMember{w: w, epoch: store.Epoch(fmt.Sprintf("epoch%03d", w.next)), id: id, local: l, failed: make(chan error, 1)}
	w.members[m.epoch] = m
	return m, nil
}

// setDown makes the registry unavailable, or available again.
func (w *world) setDown(down bool) {
	w.mu.Lock()
	w.down = down
	w.mu.Unlock()
}

// devices returns the registered devices of a user.
func (w *world) devices(user string) map[string]store.Holder {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.holders[user])
}

type worldMember struct {
	w        *world
	epoch    store.Epoch
	id       store.Identity
	local    store.Local
	draining bool
	serving  bool
	failed   chan error
	lane     worldLane

	membership // what no test asks for
}

func (m *worldMember) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-m.failed:
		return err
	}
}

func (m *worldMember) Epoch() store.Epoch { return m.epoch }

func (m *worldMember) Register(_ context.Context, s store.Session) (store.Login, error) {
	login, err := m.registered(s)
	if m.w.register != nil {
		m.w.register()
	}
	return login, err
}

func (m *worldMember) registered(s store.Session) (store.Login, error) {
	w := m.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		return store.Login{}, fmt.Errorf("register: %w", store.ErrUnavailable)
	}
	if w.forgetful {
		return store.Login{Since: time.Now()}, nil
	}
	if w.holders[s.User] == nil {
		w.holders[s.User] = map[string]store.Holder{}
	}
	now := time.Now()
	var prev *store.Holder
	if h, ok := w.holders[s.User][s.Device]; ok {
		prev = &h
	}
	w.holders[s.User][s.Device] = store.Holder{Epoch: m.epoch, Conn: s.Conn, Device: s.Device, Platform: s.Platform, Since: now}
	login := store.Login{Previous: prev, Since: now}
	if b := w.boxes[s.User]; b != nil {
		login.Next, login.Tail = b.next(s.Device), b.tail()
		if due := max(worldOrigin, b.cursors[s.Device]+1); login.Next > due {
			login.Missed = int(login.Next - due)
		}
	}
	return login, nil
}

// CheckRevoked finds a revocation as Register does.
func (m *worldMember) CheckRevoked(_ context.Context, s store.Session) error {
	w := m.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		return fmt.Errorf("look for revocations: %w", store.ErrUnavailable)
	}
	for _, r := range w.revoked {
		if r.Covers(s) {
			return fmt.Errorf("look for revocations: %w", store.ErrRevoked)
		}
	}
	return nil
}

func (m *worldMember) Unregister(s store.Session, at time.Time, _ feed.Cause) {
	w := m.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if h := w.holders[s.User][s.Device]; h.Epoch == m.epoch && h.Conn == s.Conn {
		delete(w.holders[s.User], s.Device)
		w.lastGone[s.User] = at
		if s.Forget {
			w.forgotten = append(w.forgotten, s.User+"/"+s.Device)
		}
	}
}

func (m *worldMember) SetStatus(context.Context, store.Session, store.Status) (store.StatusChange, error) {
	return store.StatusChange{}, nil
}

func (m *worldMember) Locate(user string, done func([]store.Holder, error)) {
	m.w.mu.Lock()
	holders, err := m.w.holdersLocked(user)
	m.w.mu.Unlock()
	m.lane.run(func() { done(holders, err) })
}

// holdersLocked returns a user's sessions on live gateways.
func (w *world) holdersLocked(user string) (holders []store.Holder, err error) {
	if w.down {
		return nil, fmt.Errorf("locate: %w", store.ErrUnavailable)
	}
	for _, h := range w.holders[user] {
		if _, live := w.members[h.Epoch]; live {
			holders = append(holders, h)
		}
	}
	return holders, nil
}

func (m *worldMember) Peer(e store.Epoch) (store.Peer, bool) {
	for _, p := range m.Peers() {
		if p.Epoch == e {
			return p, true
		}
	}
	return store.Peer{}, false
}

func (m *worldMember) Peers() (peers []store.Peer) {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	for e, o := range m.w.members {
		peers = append(peers, store.Peer{Epoch: e, PodName: o.id.PodName, Address: o.id.Address, Draining: o.draining,
			Waiting: !o.serving, Sessions: o.local.Count()})
	}
	return peers
}

func (m *worldMember) Seen() time.Time { return time.Now() }

func (m *worldMember) SetServing(context.Context) error {
	m.w.mu.Lock()
	m.serving = true
	m.w.mu.Unlock()
	return nil
}

func (m *worldMember) SetDraining(context.Context) error {
	m.w.mu.Lock()
	m.draining = true
	m.w.mu.Unlock()
	return nil
}

func (m *worldMember) Leave(context.Context, time.Duration) error {
	m.w.mu.Lock()
	delete(m.w.members, m.epoch)
	m.w.mu.Unlock()
	return nil
}
