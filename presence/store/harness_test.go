package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/imcluster/imcluster/internal/testredis"
	"github.com/imcluster/imcluster/presence/feed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testTTL is the lease of most tests: short enough to see it end, long enough for a busy machine.
const testTTL = 1500 * time.Millisecond

// waitLimit bounds every wait for something that must happen.
const waitLimit = 30 * time.Second

// testLogger logs the store's warnings when IMC_TEST_LOG is set.
func testLogger(t testing.TB, name string) *slog.Logger {
	if os.Getenv("IMC_TEST_LOG") == "" {
		return nil
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})).With("at", name)
}

// openStore opens a store on an empty, trusted Redis.
func openStore(t testing.TB, cfg Config, addrs ...string) *Store {
	t.Helper()
	cfg.Fresh = true
	return openOld(t, cfg, addrs...)
}

// openOld opens a store on a Redis that others may have used and that may have lost its data.
func openOld(t testing.TB, cfg Config, addrs ...string) *Store {
	t.Helper()
	cfg.Addresses = addrs
	if cfg.LeaseTTL == 0 {
		cfg.LeaseTTL = testTTL
	}
	if cfg.Grace == 0 {
		cfg.Grace = cfg.LeaseTTL / 3
	}
	if cfg.Logger == nil {
		cfg.Logger = testLogger(t, t.Name())
	}
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	return s
}

// background runs f until the test ends or stop is called, and fails the test if f fails.
func background(t testing.TB, f func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := f(ctx); err != nil {
			t.Errorf("in the background: %v", err)
		}
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	t.Cleanup(stop)
	return stop
}

// keep runs a presence pod's upkeep.
func keep(t testing.TB, s *Store) (stop func()) { return background(t, s.Keep) }

// gateway is what the store needs of a gateway.
type gateway struct {
	t      testing.TB
	store  *Store
	member *Member
	pod    string
	stop   func() // stops Run, as a paused process does

	mu       sync.Mutex
	sessions map[uint64]Session
	conns    uint64
	replaced []Session
	held     chan struct{} // not nil: until it is closed nobody is told the sessions

	suspicions int
	ended      []Session      // by revocations
	heard      map[string]int // how often of revocations of a user
}

// startGateway joins and runs a gateway with a store of its own.
func startGateway(t testing.TB, cfg Config, pod string, addrs ...string) *gateway {
	t.Helper()
	g := joinGateway(t, openStore(t, cfg, addrs...), pod)
	g.stop = background(t, g.member.Run)
	return g
}

// joinGateway joins without running.
func joinGateway(t testing.TB, s *Store, pod string) *gateway {
	t.Helper()
	g := &gateway{t: t, store: s, pod: pod, sessions: map[uint64]Session{}}
	m, err := s.Join(t.Context(), Identity{PodName: pod, PodUID: "uid-" + pod, Address: pod + ":9091"}, g)
	if err != nil {
		t.Fatal(err)
	}
	g.member = m
	return g
}

func (g *gateway) Sessions(part int) iter.Seq[Session] {
	g.mu.Lock()
	var list []Session
	for _, s := range g.sessions {
		if Partition(s.User) == part {
			list = append(list, s)
		}
	}
	held := g.held
	g.mu.Unlock()
	if held != nil {
		<-held
	}
	return func(yield func(Session) bool) {
		for _, s := range list {
			if !yield(s) {
				return
			}
		}
	}
}

func (g *gateway) Count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.sessions)
}

// Replaced closes the session, as a gateway that kicks a client does.
func (g *gateway) Replaced(s Session) {
	g.mu.Lock()
	g.replaced = append(g.replaced, s)
	g.mu.Unlock()
	g.logout(s)
}

// Revoked closes the sessions that are covered.
func (g *gateway) Revoked(r Revocation) {
	g.mu.Lock()
	if g.heard == nil {
		g.heard = map[string]int{}
	}
	g.heard[r.User]++
	var covered []Session
	for _, s := range g.sessions {
		if r.Covers(s) {
			covered = append(covered, s)
		}
	}
	g.ended = append(g.ended, covered...)
	g.mu.Unlock()
	for _, s := range covered {
		g.logout(s)
	}
}

// Fenced gives up nobody: the sessions have no connections.
func (g *gateway) Fenced() {}

// Suspect counts how often the gateway was told that pushes may be lost.
func (g *gateway) Suspect(string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.suspicions++
}

func (g *gateway) heardOf(user string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.heard[user]
}

func (g *gateway) kicked() []Session {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]Session(nil), g.replaced...)
}

// tryLogin logs a device in.
func (g *gateway) tryLogin(ctx context.Context, user, device string) (Session, *Holder, error) {
	g.mu.Lock()
	g.conns++
	s := Session{User: user, Device: device, Platform: "web", Conn: g.conns}
	g.mu.Unlock()
	login, err := g.member.Register(ctx, s)
	if err != nil {
		return s, nil, err
	}
	s.Since = login.Since
	g.mu.Lock()
	g.sessions[s.Conn] = s
	g.mu.Unlock()
	return s, login.Previous, nil
}

// login logs a device in; the test fails if that fails.
func (g *gateway) login(user, device string) (Session, *Holder) {
	g.t.Helper()
	s, prev, err := g.tryLogin(context.Background(), user, device)
	if err != nil {
		g.t.Fatalf("log in: %v", err)
	}
	return s, prev
}

// loginMany logs users in, 64 at a time.
func (g *gateway) loginMany(users []string) {
	g.t.Helper()
	var wg sync.WaitGroup
	slots := make(chan struct{}, 64)
	for _, u := range users {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if _, _, err := g.tryLogin(context.Background(), u, "d"); err != nil {
				g.t.Errorf("log in: %v", err)
			}
		})
	}
	wg.Wait()
}

func (g *gateway) logout(s Session) {
	g.mu.Lock()
	delete(g.sessions, s.Conn)
	g.mu.Unlock()
	g.member.Unregister(s, time.Now(), feed.CauseLogout)
}

// flush waits until what was unregistered is written.
func (g *gateway) flush() {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	if err := g.member.lanes.drain(ctx); err != nil {
		g.t.Fatalf("the lanes did not drain: %v", err)
	}
}

func (g *gateway) locate(user string) []Holder {
	g.t.Helper()
	type answer struct {
		list []Holder
		err  error
	}
	c := make(chan answer, 1)
	g.member.Locate(user, func(list []Holder, err error) { c <- answer{list, err} })
	a := <-c
	if a.err != nil {
		g.t.Fatalf("locate: %v", a.err)
	}
	return a.list
}

// eventually waits until check returns nil.
func eventually(t testing.TB, check func() error) {
	t.Helper()
	deadline := time.Now().Add(waitLimit)
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

// user asks for one user.
func user(t testing.TB, s *Store, id string) User {
	t.Helper()
	users, _, _ := s.Users(context.Background(), []string{id})
	return users[0]
}

// is checks the state of a user.
func is(t testing.TB, s *Store, id string, want State) {
	t.Helper()
	if u := user(t, s, id); u.State != want {
		t.Fatalf("user %q is %s %s, want %s", id, u.State, u.Reason, want)
	}
}

// becomes waits until a user has a state; meanwhile it must not have the state that must not be seen.
func becomes(t testing.TB, s *Store, id string, want, never State) {
	t.Helper()
	eventually(t, func() error {
		u := user(t, s, id)
		if u.State == never {
			t.Fatalf("user %q was seen %s while waiting for %s", id, never, want)
		}
		if u.State != want {
			return fmt.Errorf("user %q is %s %s, want %s", id, u.State, u.Reason, want)
		}
		return nil
	})
}

// watcher asks for users all the time and fails the test if one is ever seen offline or forgotten.
type watcher struct {
	mu      sync.Mutex
	queries int
	unknown int
}

// neverOffline watches users until the returned function is called.
func neverOffline(t testing.TB, s *Store, ids []string) (stop func() *watcher) {
	w := &watcher{}
	end := background(t, func(ctx context.Context) error {
		for pause(ctx, 2*time.Millisecond) == nil {
			users, _, _ := s.Users(ctx, ids)
			unknown := 0
			for _, u := range users {
				if u.State == Offline || u.Reason == NeverSeen {
					return fmt.Errorf("user %q, who is connected, was said to be %s %s (%v) at %s", u.ID, u.State, u.Reason,
						u.LastSeen, time.Now().Format("05.000"))
				}
				if u.State == Unknown {
					unknown++
				}
			}
			w.mu.Lock()
			w.queries++
			w.unknown += unknown
			w.mu.Unlock()
		}
		return nil
	})
	return func() *watcher {
		end()
		return w
	}
}

func userIDs(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("user-%07d", i)
	}
	return ids
}

// allOnline returns an error that counts who is not.
func allOnline(s *Store, ids []string) error {
	for len(ids) > 0 {
		n := min(1000, len(ids))
		users, _, _ := s.Users(context.Background(), ids[:n])
		missing := 0
		for _, u := range users {
			if u.State != Online {
				missing++
			}
		}
		if missing > 0 {
			return fmt.Errorf("%d of %d users are not online", missing, n)
		}
		ids = ids[n:]
	}
	return nil
}

var errNotYet = errors.New("not yet")

// startRedis runs one server.
func startRedis(t testing.TB) *testredis.Server {
	t.Helper()
	return testredis.Start(t)
}
