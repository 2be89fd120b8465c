package store

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/imcluster/imcluster/presence/feed"
)

// deathsOf are the facts of all partitions that tell that an epoch is dead.
func deathsOf(t testing.TB, s *Store, e Epoch) (facts [Partitions][]feed.Fact) {
	t.Helper()
	for p := range Partitions {
		for _, f := range factsOf(t, s, p) {
			if f.Kind == feed.EpochDead && f.Epoch == e {
				facts[p] = append(facts[p], f)
			}
		}
	}
	return facts
}

// bury has an epoch die, with all that presence pods do then, which its gateway does not notice.
func bury(t testing.TB, s *Store, e Epoch, at time.Time) {
	t.Helper()
	var reqs []*request
	for p := range Partitions {
		reqs = append(reqs, s.deadRequest(p, e, at.UnixMilli(), feed.CauseExpired))
	}
	err := s.exchange(context.Background(), reqs...)
	if err == nil {
		err = s.reap(context.Background(), e)
	}
	if err == nil {
		err = (&keeper{Store: s}).unmark(context.Background(), e)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A reader that judged by its own look at the lease table would differ from one that resumes where it stopped: the death is a
// fact in every partition, told once, however many presence pods look and whichever of them is killed meanwhile.
func TestDeathIsToldOnceInEveryPartition(t *testing.T) {
	r := startRedis(t)
	cfg := Config{LeaseTTL: testTTL, Grace: testTTL / 3}
	s := openStore(t, cfg, r.Addr)
	startGateway(t, cfg, "gw-2", r.Addr)
	g := startGateway(t, cfg, "gw-1", r.Addr)
	g.login("anna", "d")
	f := follow(t, s)
	g.stop()
	epoch := g.member.Epoch()
	becomes(t, s, "anna", Offline, Unknown)
	// A presence pod was killed when it had told half of them.
	table, err := s.readTable(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for p := range Partitions / 2 {
		if err := s.exchange(t.Context(), s.deadRequest(p, epoch, table.ended(epoch).UnixMilli(), feed.CauseExpired)); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		keep(t, openStore(t, cfg, r.Addr))
	}
	eventually(t, func() error {
		for p, facts := range deathsOf(t, s, epoch) {
			if len(facts) != 1 {
				return fmt.Errorf("partition %d was told %d times", p, len(facts))
			}
			// Store time lags behind by what a step is late.
			if facts[0].Cause != feed.CauseExpired || facts[0].At.Sub(table.ended(epoch)).Abs() > time.Second {
				t.Fatalf("partition %d was told %+v, want the end at %s", p, facts[0], table.ended(epoch))
			}
		}
		return nil
	})
	eventually(t, func() error { return f.agrees([]string{"anna"}) })
	for p, facts := range deathsOf(t, s, epoch) {
		if len(facts) != 1 {
			t.Errorf("partition %d was told %d times", p, len(facts))
		}
	}
}

func TestNothingIsAcceptedOfAnEpochThatIsToldToBeDead(t *testing.T) {
	r := startRedis(t)
	cfg := Config{LeaseTTL: 15 * time.Second, OpTimeout: 300 * time.Millisecond}
	g := joinGateway(t, openStore(t, cfg, r.Addr), "gw-1") // whose lease is good, by its own book
	s, _ := g.login("anna", "d")
	bert, _ := g.login("bert", "d")
	table, err := g.store.readTable(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := g.store.markDead(t.Context(), table, g.member.Epoch()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := g.tryLogin(t.Context(), "anna", "d2"); !errors.Is(err, ErrFenced) {
		t.Errorf("register: %v", err)
	}
	if _, err := g.member.SetStatus(t.Context(), bert, Status{Show: feed.ShowAway}); !errors.Is(err, ErrFenced) {
		t.Errorf("set status: %v", err)
	}
	for _, id := range []string{"anna", "bert"} {
		if facts := factsAbout(t, g.store, id, "SDT"); len(facts) != 1 {
			t.Errorf("facts %+v", facts)
		}
	}
	// To be fenced afterwards does not make it alive again.
	if err := g.store.markFenced(t.Context(), []Epoch{g.member.Epoch()}); err != nil {
		t.Fatal(err)
	}
	loaded, err := g.store.Load(t.Context(), []int{Partition("anna")})
	if err != nil || len(loaded[0].Users) != 0 {
		t.Errorf("loaded %+v, %v", loaded, err)
	}
	// Run sees it and goes on under another epoch.
	old := g.member.Epoch()
	g.stop = background(t, g.member.Run)
	eventually(t, func() error {
		puts := factsAbout(t, g.store, "anna", "S")
		if last := puts[len(puts)-1]; last.Session.Epoch == old || last.Session.Conn != s.Conn {
			return errNotYet
		}
		return nil
	})
}

func TestCausesOfDeath(t *testing.T) {
	r := startRedis(t)
	cfg := Config{LeaseTTL: testTTL, Grace: testTTL / 5}
	s := openStore(t, cfg, r.Addr)
	keep(t, s)
	expired, fenced, left := startGateway(t, cfg, "gw-1", r.Addr), startGateway(t, cfg, "gw-2", r.Addr), startGateway(t, cfg, "gw-3", r.Addr)
	want := map[Epoch]feed.Cause{expired.member.Epoch(): feed.CauseExpired, fenced.member.Epoch(): feed.CauseFenced, left.member.Epoch(): feed.CauseLeft}
	expired.stop()
	fenced.stop()
	if _, _, err := s.Fence(t.Context(), []Epoch{fenced.member.Epoch()}, nil); err != nil {
		t.Fatal(err)
	}
	if err := left.member.SetDraining(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := left.member.Leave(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	got := map[Epoch]feed.Cause{}
	eventually(t, func() error {
		for _, f := range factsOf(t, s, 3) {
			if f.Kind == feed.EpochDead {
				got[f.Epoch] = f.Cause
			}
		}
		if len(got) < len(want) {
			return errNotYet
		}
		return nil
	})
	for e, cause := range want {
		if got[e] != cause {
			t.Errorf("an epoch ended because of %q, want %q", got[e], cause)
		}
	}
}

// Epochs that went with the lease table and do not come back are told to be dead when the new table is settled, not before.
func TestDeathOfEpochsThatTheLeaseTableLost(t *testing.T) {
	r := startRedis(t)
	cfg := Config{LeaseTTL: testTTL, Grace: testTTL / 3}
	s := openStore(t, cfg, r.Addr)
	keep(t, s)
	keep(t, openStore(t, cfg, r.Addr))
	alive := startGateway(t, cfg, "gw-1", r.Addr)
	gone := startGateway(t, cfg, "gw-2", r.Addr)
	alive.login("anna", "d")
	gone.login("bert", "d")
	f := follow(t, s)
	stop := neverOffline(t, s, []string{"anna"})
	gone.stop()
	keys := s.keys.table
	r.MustDo("DEL", keys[0], keys[1], keys[2])
	eventually(t, func() error {
		facts := deathsOf(t, s, gone.member.Epoch())[Partition("bert")]
		if len(facts) == 0 {
			return errNotYet
		}
		if table, err := s.readTable(t.Context()); err == nil && !table.settled() {
			t.Fatal("it was told before the table was settled")
		}
		if facts[0].Cause != feed.CauseLost {
			t.Fatalf("%+v", facts[0])
		}
		return nil
	})
	eventually(t, func() error { return f.agrees([]string{"anna", "bert"}) })
	if facts := deathsOf(t, s, alive.member.Epoch())[Partition("anna")]; len(facts) != 0 {
		t.Errorf("the gateway that is alive was told to be dead: %+v", facts)
	}
	is(t, s, "bert", Offline)
	stop()
}

// What is left of a dead gateway in a user's record hides nothing that happens beside it.
func TestFactsBesideSessionsOfADeadGateway(t *testing.T) {
	r := startRedis(t)
	cfg := Config{LeaseTTL: testTTL, Grace: testTTL / 3}
	g := startGateway(t, cfg, "gw-1", r.Addr)
	h := startGateway(t, cfg, "gw-2", r.Addr)
	f := follow(t, h.store)
	g.login("anna", "phone")
	g.stop() // and nobody reaps
	becomes(t, h.store, "anna", Offline, Unknown)
	s, _ := h.login("anna", "tablet")
	is(t, h.store, "anna", Online)
	h.logout(s)
	h.flush()
	if facts := factsAbout(t, h.store, "anna", "SD"); len(facts) != 3 || facts[2].Kind != feed.Ended {
		t.Fatalf("facts %+v", facts)
	}
	is(t, h.store, "anna", Offline)
	keep(t, h.store)
	eventually(t, func() error { return f.agrees([]string{"anna"}) })
}
