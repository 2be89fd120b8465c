package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"
)

// sleep lets time go by that is itself the subject: a pause of a process, or a lease that must not end.
func sleep(t testing.TB, d time.Duration) {
	t.Helper()
	if err := pause(t.Context(), d); err != nil {
		t.Fatal(err)
	}
}

func TestPausedRedisTakesNobodyOffline(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	g := startGateway(t, Config{}, "gw-1", r.Addr)
	h := startGateway(t, Config{}, "gw-2", r.Addr)
	s := openStore(t, Config{}, r.Addr)
	keep(t, s)
	g.login("alice", "d")
	h.login("bob", "d")
	first, second := g.member.Epoch(), h.member.Epoch()
	watch := neverOffline(t, s, []string{"alice", "bob"})

	r.Pause()
	sleep(t, 3*testTTL)
	if u := user(t, s, "alice"); u.State != Unknown || u.Reason != Unavailable {
		t.Fatalf("while Redis is paused: %+v", u)
	}
	r.Resume()
	becomes(t, s, "alice", Online, Offline)
	becomes(t, s, "bob", Online, Offline)
	sleep(t, testTTL)
	watch()
	is(t, s, "alice", Online)
	is(t, s, "bob", Online)
	if g.member.Epoch() != first || h.member.Epoch() != second {
		t.Fatal("a gateway lost its lease while nobody could write")
	}
}

func TestSilentGatewayDiesWhileOthersGoOn(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	g := startGateway(t, Config{}, "gw-1", r.Addr)
	h := startGateway(t, Config{}, "gw-2", r.Addr)
	g.login("alice", "d")
	h.login("bob", "d")
	watch := neverOffline(t, h.store, []string{"bob"})
	g.stop()
	silent := time.Now()
	becomes(t, h.store, "alice", Offline, Unknown)
	if took := time.Since(silent); took < testTTL/2 {
		t.Fatalf("the lease ended after %s", took)
	}
	// Nothing reaps here. When the lease ended is when the user was last seen.
	u := user(t, h.store, "alice")
	if d := time.Since(u.LastSeen); d < -2*time.Second || d > 5*time.Second {
		t.Fatalf("last seen %s ago", d)
	}
	eventually(t, func() error { // gateways look at the lease table once a second
		if got := h.locate("alice"); len(got) != 0 {
			return fmt.Errorf("located %+v on a dead gateway", got)
		}
		return nil
	})
	keep(t, h.store)
	eventually(t, func() error {
		if n := r.MustDo("EXISTS", h.store.keys.userKey(Partition("alice"), "alice")); n != int64(0) {
			return errNotYet
		}
		return nil
	})
	after := user(t, h.store, "alice")
	if after.State != Offline || after.LastSeen.Sub(u.LastSeen).Abs() > time.Second {
		t.Fatalf("before the reaper %+v, after it %+v", u, after)
	}
	watch()
}

func TestFencedEpochIsNeverRevived(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	g := startGateway(t, Config{}, "gw-1", r.Addr)
	s := openStore(t, Config{}, r.Addr)
	keep(t, s)
	g.login("alice", "d")
	old := g.member.Epoch()
	g.stop()
	becomes(t, s, "alice", Offline, Unknown)

	// It was only paused: what is still its own comes back, under another epoch.
	background(t, g.member.Run)
	becomes(t, s, "alice", Online, "")
	if g.member.Epoch() == old {
		t.Fatal("the epoch was revived")
	}
	list, _, err := s.Incarnations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range list {
		if i.Epoch == old && i.LeaseRemaining > 0 {
			t.Fatalf("the old epoch has %s left", i.LeaseRemaining)
		}
	}
}

func TestPausedGatewayDoesNotOverwriteMovedSession(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	g := startGateway(t, Config{OpTimeout: 500 * time.Millisecond}, "gw-1", r.Addr)
	h := startGateway(t, Config{}, "gw-2", r.Addr)
	old, _ := g.login("alice", "phone")
	g.stop()
	eventually(t, func() error {
		if _, ok := h.member.Peer(g.member.Epoch()); ok {
			return errNotYet
		}
		return nil
	})
	h.login("alice", "phone")

	// What the paused process still had to write is refused: too late, and there is no new epoch as long as it does not run.
	if _, _, err := g.tryLogin(t.Context(), "alice", "phone"); !errors.Is(err, ErrFenced) {
		t.Fatalf("a late login: %v", err)
	}
	is(t, h.store, "alice", Online)
	// Once it runs it finds that its session has moved.
	background(t, g.member.Run)
	eventually(t, func() error {
		if k := g.kicked(); len(k) != 1 || k[0].Conn != old.Conn {
			return fmt.Errorf("kicked %+v", k)
		}
		return nil
	})
	g.flush()
	if got := h.locate("alice"); len(got) != 1 || got[0].Epoch != h.member.Epoch() {
		t.Fatalf("located %+v", got)
	}
}

func TestFencingEndsLeaseAfterGrace(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	cfg := Config{LeaseTTL: 20 * time.Second, Grace: 500 * time.Millisecond}
	g := startGateway(t, cfg, "gw-1", r.Addr)
	h := startGateway(t, cfg, "gw-2", r.Addr)
	s := openStore(t, cfg, r.Addr)
	keep(t, s)
	g.login("alice", "d")
	g.stop()
	fenced, unknown, err := s.Fence(t.Context(), []Epoch{g.member.Epoch(), "AAAAAAAA"}, nil)
	if err != nil || len(fenced) != 1 || len(unknown) != 1 || unknown[0] != "AAAAAAAA" {
		t.Fatalf("fenced %v, unknown %v, %v", fenced, unknown, err)
	}
	becomes(t, s, "alice", Offline, Unknown)

	// A fenced process that runs on cannot register, though its lease would have lasted.
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, _, err := g.tryLogin(ctx, "carol", "d"); err == nil {
		t.Fatal("a fenced gateway registered a session")
	}
	if u := user(t, s, "carol"); u.State == Online {
		t.Fatalf("carol: %+v", u)
	}
	if again, _, err := s.Fence(t.Context(), fenced, nil); err != nil || len(again) != 1 {
		t.Fatalf("fenced again: %v, %v", again, err)
	}
	if _, ok := h.member.Peer(h.member.Epoch()); !ok {
		t.Fatal("the other gateway has gone too")
	}
}

func TestFencedGatewayThatRunsTakesNewEpoch(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	g := startGateway(t, Config{LeaseTTL: 5 * time.Second, Grace: 4 * time.Second}, "gw-1", r.Addr)
	g.login("alice", "d")
	old := g.member.Epoch()
	watch := neverOffline(t, g.store, []string{"alice"})
	if _, _, err := g.store.Fence(t.Context(), []Epoch{old}, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if g.member.Epoch() == old {
			return errNotYet
		}
		return nil
	})
	if _, _, err := g.tryLogin(t.Context(), "bob", "d"); err != nil {
		t.Fatalf("log in under the new epoch: %v", err)
	}
	sleep(t, 5*time.Second)
	watch()
	is(t, g.store, "alice", Online)
}

func TestBannedPodStops(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	s := openStore(t, Config{}, r.Addr)
	g := joinGateway(t, openStore(t, Config{}, r.Addr), "gw-1")
	ended := make(chan error, 1)
	go func() { ended <- g.member.Run(context.Background()) }()
	if _, _, err := s.Fence(t.Context(), nil, []string{"uid-gw-1"}); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, ErrBanned) {
		t.Fatalf("Run: %v", err)
	}
	if _, err := s.Join(t.Context(), Identity{PodName: "gw-1", PodUID: "uid-gw-1"}, g); !errors.Is(err, ErrBanned) {
		t.Fatalf("join: %v", err)
	}
}

func TestRestartedContainerFencesItsPredecessor(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	cfg := Config{LeaseTTL: 20 * time.Second, Grace: 500 * time.Millisecond}
	g := startGateway(t, cfg, "gw-1", r.Addr)
	g.login("alice", "d")
	g.stop() // killed
	h := startGateway(t, cfg, "gw-1", r.Addr)
	becomes(t, h.store, "alice", Offline, Unknown)
	if got := r.MustDo("HGET", h.store.keys.meta[0], fencedField+string(g.member.Epoch())); got != "1" {
		t.Fatalf("the old epoch is not marked in partition 0: %v", got)
	}
}

func TestLeavingGatewayLingers(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	cfg := Config{LeaseTTL: 5 * time.Second}
	g := startGateway(t, cfg, "gw-1", r.Addr)
	h := startGateway(t, cfg, "gw-2", r.Addr)
	keep(t, h.store)
	g.login("alice", "d") // is on the way to the other gateway when this one ends
	carol, _ := g.login("carol", "d")
	g.logout(carol) // really leaves
	if err := g.member.SetDraining(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if p, _ := h.member.Peer(g.member.Epoch()); !p.Draining {
			return errNotYet
		}
		return nil
	})
	if err := g.member.Leave(t.Context(), 2*time.Second); err != nil {
		t.Fatal(err)
	}
	g.stop()
	is(t, h.store, "carol", Offline)
	is(t, h.store, "alice", Online)
	if err := g.member.Leave(t.Context(), time.Hour); err != nil {
		t.Fatalf("leave twice: %v", err)
	}
	// A fence by somebody who sees that the pod is gone does not cut the linger.
	if _, _, err := h.store.Fence(t.Context(), []Epoch{g.member.Epoch()}, nil); err != nil {
		t.Fatal(err)
	}
	is(t, h.store, "alice", Online)
	watch := neverOffline(t, h.store, []string{"alice"})
	h.login("alice", "d")
	sleep(t, 2500*time.Millisecond)
	watch()
	is(t, h.store, "alice", Online)
}

// TestPeersSeeHowFarADrainIs: others wait for it, so its sessions are reported sooner than with the next usual renewal.
func TestPeersSeeHowFarADrainIs(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	cfg := Config{LeaseTTL: 10 * time.Minute}
	g := startGateway(t, cfg, "gw-1", r.Addr)
	h := startGateway(t, cfg, "gw-2", r.Addr)
	alice, _ := g.login("alice", "d")
	g.login("bob", "d")
	sees := func(sessions int) {
		t.Helper()
		eventually(t, func() error {
			if p, _ := h.member.Peer(g.member.Epoch()); !p.Draining || p.Sessions != sessions {
				return fmt.Errorf("%w: %+v", errNotYet, p)
			}
			return nil
		})
	}
	if err := g.member.SetDraining(t.Context()); err != nil {
		t.Fatal(err)
	}
	sees(2)
	g.logout(alice)
	sees(1)
}

// TestWaitingGatewayIsSeenAsSuchUntilItServes: peers send it no clients before.
func TestWaitingGatewayIsSeenAsSuchUntilItServes(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	h := startGateway(t, Config{}, "gw-1", r.Addr)
	s := openStore(t, Config{}, r.Addr)
	m, err := s.Join(t.Context(), Identity{PodName: "gw-2", PodUID: "uid-2", Address: "127.0.0.1:1", Waiting: true}, h)
	if err != nil {
		t.Fatal(err)
	}
	sees := func(waiting bool) {
		t.Helper()
		eventually(t, func() error {
			if p, ok := h.member.Peer(m.Epoch()); !ok || p.Waiting != waiting {
				return fmt.Errorf("%w: %+v", errNotYet, p)
			}
			return nil
		})
	}
	sees(true)
	if err := m.SetServing(t.Context()); err != nil {
		t.Fatal(err)
	}
	sees(false)
	if age := time.Since(h.member.Seen()); age > 2*testTTL {
		t.Errorf("the table was seen %v ago", age)
	}
}

// The clock of a server jumps when it is set, or when a replica on another machine takes over.
func TestClockJumpMovesStoreTimeByOneStep(t *testing.T) {
	t.Parallel()
	for _, jump := range []time.Duration{-time.Hour, time.Hour} {
		t.Run(jump.String(), func(t *testing.T) {
			r := startRedis(t)
			g := startGateway(t, Config{}, "gw-1", r.Addr)
			s := openStore(t, Config{}, r.Addr)
			keep(t, s)
			g.login("alice", "d")
			epoch := g.member.Epoch()
			watch := neverOffline(t, s, []string{"alice"})
			wall, err := strconv.ParseInt(r.MustDo("HGET", s.keys.clock, "wall").(string), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			// That the last step was at another time is what a jump looks like.
			r.MustDo("HSET", s.keys.clock, "wall", strconv.FormatInt(wall-jump.Milliseconds(), 10))
			sleep(t, 2*testTTL)
			watch()
			is(t, s, "alice", Online)
			if g.member.Epoch() != epoch {
				t.Fatal("the clock jump ended the lease")
			}
		})
	}
}

func TestForeignOwnerIsRefused(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	openStore(t, Config{Owner: "one"}, r.Addr)
	openStore(t, Config{Owner: "one"}, r.Addr)
	if _, err := Open(t.Context(), Config{Addresses: []string{r.Addr}, Owner: "two"}); !errors.Is(err, ErrForeignOwner) {
		t.Fatalf("open with another owner: %v", err)
	}
	openStore(t, Config{Owner: "two", KeyPrefix: "two:"}, r.Addr)
}

func TestOpenFailures(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	openStore(t, Config{}, r.Addr)
	r.MustDo("HSET", newKeys("").clock, "schema", "99")
	if _, err := Open(t.Context(), Config{Addresses: []string{r.Addr}}); !errors.Is(err, ErrIncompatible) {
		t.Fatalf("open with another schema: %v", err)
	}
	r.Kill()
	if _, err := Open(t.Context(), Config{Addresses: []string{r.Addr}}); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("open without a server: %v", err)
	}
	for _, cfg := range []Config{
		{}, {Addresses: []string{"a:1", "b:1"}}, {Mode: Sentinel, Addresses: []string{"a:1"}}, {Mode: "x", Addresses: []string{"a:1"}},
	} {
		if _, err := Open(t.Context(), cfg); err == nil || errors.Is(err, ErrUnavailable) {
			t.Fatalf("open with %+v: %v", cfg, err)
		}
	}
}
