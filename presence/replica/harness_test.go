package replica

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/imcluster/imcluster/internal/testredis"
	"github.com/imcluster/imcluster/presence/feed"
	"github.com/imcluster/imcluster/presence/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	// leaseTTL is short, because a new Redis is believed to be complete only after one.
	leaseTTL = 1500 * time.Millisecond
	patience = 30 * time.Second
)

func testLogger(t testing.TB) *slog.Logger {
	if os.Getenv("IMC_TEST_LOG") == "" {
		return nil
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// storeConfig is of a Redis that was started just now, empty.
func storeConfig(addrs ...string) store.Config {
	cfg := store.Config{Addresses: addrs, LeaseTTL: leaseTTL, Grace: leaseTTL / 3, OpTimeout: time.Second, Fresh: true}
	if len(addrs) > 1 {
		cfg.Mode = store.Cluster
	}
	return cfg
}

// openStore opens a store until the test ends.
func openStore(t testing.TB, cfg store.Config) *store.Store {
	t.Helper()
	cfg.Logger = testLogger(t)
	st, err := store.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	return st
}

// background runs f until the test ends, or stop is called.
func background(t testing.TB, f func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { f(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// pod is a presence pod: a store that is tended, and a replica of it.
type pod struct {
	*Replica
	t     testing.TB
	store *store.Store
	gate  sync.RWMutex // held to keep the pod from polling
	stop  func()
}

// Poll is the store's, when the gate is open.
func (p *pod) Poll(ctx context.Context) (*store.Heads, error) {
	p.gate.RLock()
	defer p.gate.RUnlock()
	return p.store.Poll(ctx)
}

func (p *pod) Facts(ctx context.Context, from []store.FactsAfter) ([]store.FactsOf, error) {
	return p.store.Facts(ctx, from)
}

func (p *pod) Load(ctx context.Context, parts []int) ([]store.Loaded, error) {
	return p.store.Load(ctx, parts)
}

// startPod starts a presence pod, and does not wait for it.
func startPod(t testing.TB, cfg store.Config, change ...func(*Config)) *pod {
	t.Helper()
	st := openStore(t, cfg)
	background(t, func(ctx context.Context) { _ = st.Keep(ctx) })
	rc := Config{Source: st, Logger: testLogger(t)}
	for _, c := range change {
		c(&rc)
	}
	r, err := New(rc)
	if err != nil {
		t.Fatal(err)
	}
	p := &pod{Replica: r, t: t, store: st}
	p.stop = background(t, func(ctx context.Context) { r.Run(ctx, p) })
	return p
}

// healthy waits until the pod answers for everybody from memory.
func (p *pod) healthy() {
	p.t.Helper()
	eventually(p.t, func() error {
		if v := p.vitals(); v.degraded > 0 {
			return fmt.Errorf("%d partitions are degraded", v.degraded)
		}
		return nil
	})
}

// knows waits until memory says what Redis says of users, and returns that.
func (p *pod) knows(ids ...string) (users []store.User) {
	p.t.Helper()
	p.healthy()
	eventually(p.t, func() error {
		redis, _, _ := p.store.Users(p.t.Context(), ids)
		users, _, _ = p.Users(p.t.Context(), ids)
		for i := range redis {
			if !same(&redis[i], &users[i]) {
				return fmt.Errorf("memory says %+v, redis %+v", users[i], redis[i])
			}
		}
		return nil
	})
	return users
}

// gateway is a member of the lease table that has sessions and no connections.
type gateway struct {
	t      testing.TB
	member *store.Member
	stop   func() // as a paused process does

	mu       sync.Mutex
	conns    uint64
	sessions map[string]store.Session // by user and device
}

func startGateway(t testing.TB, cfg store.Config, pod string) *gateway {
	t.Helper()
	g := &gateway{t: t, sessions: map[string]store.Session{}}
	var err error
	if g.member, err = openStore(t, cfg).Join(t.Context(), store.Identity{PodName: pod, PodUID: "uid-" + pod, Address: pod + ":1"}, g); err != nil {
		t.Fatal(err)
	}
	g.stop = background(t, func(ctx context.Context) { _ = g.member.Run(ctx) })
	return g
}

func (g *gateway) Sessions(part int) iter.Seq[store.Session] {
	g.mu.Lock()
	defer g.mu.Unlock()
	var list []store.Session
	for _, s := range g.sessions {
		if store.Partition(s.User) == part {
			list = append(list, s)
		}
	}
	return slices.Values(list)
}

func (g *gateway) Count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.sessions)
}

func (g *gateway) Replaced(s store.Session) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if key := s.User + "\x00" + s.Device; g.sessions[key].Conn == s.Conn {
		delete(g.sessions, key)
	}
}

func (*gateway) Fenced()                  {}
func (*gateway) Suspect(string)           {}
func (*gateway) Revoked(store.Revocation) {}

// tryLogin logs a device in, with a status unless it is nil.
func (g *gateway) tryLogin(ctx context.Context, user, device string, status *store.Status) error {
	g.mu.Lock()
	g.conns++
	s := store.Session{User: user, Device: device, Platform: "web", Conn: g.conns, Addr: "203.0.113.7", Status: status}
	g.mu.Unlock()
	login, err := g.member.Register(ctx, s)
	if err != nil {
		return err
	}
	s.Since, s.StatusSet = login.Since, login.StatusSet
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sessions[user+"\x00"+device] = s
	return nil
}

func (g *gateway) login(users ...string) {
	g.t.Helper()
	var logins sync.WaitGroup
	slots := make(chan struct{}, 64)
	for _, u := range users {
		slots <- struct{}{}
		logins.Go(func() {
			defer func() { <-slots }()
			if err := g.tryLogin(context.Background(), u, "phone", nil); err != nil {
				g.t.Errorf("log in: %v", err)
			}
		})
	}
	logins.Wait()
}

func (g *gateway) logout(users ...string) {
	for _, u := range users {
		g.logoutDevice(u, "phone")
	}
}

func (g *gateway) logoutDevice(user, device string) {
	g.mu.Lock()
	s, ok := g.sessions[user+"\x00"+device]
	delete(g.sessions, user+"\x00"+device)
	g.mu.Unlock()
	if ok {
		g.member.Unregister(s, time.Now(), feed.CauseLogout)
	}
}

// eventually waits until check returns nil.
func eventually(t testing.TB, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("it did not get there: %v", err)
		}
		<-tick.C
	}
}

func userIDs(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("user-%07d", i)
	}
	return ids
}

func startRedis(t testing.TB) *testredis.Server {
	t.Helper()
	return testredis.Start(t)
}
