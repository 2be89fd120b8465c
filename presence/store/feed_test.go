package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/imcluster/imcluster/internal/testredis"
	"github.com/imcluster/imcluster/presence/feed"
)

// Every change has its own number, without gaps, whoever writes and wherever the partition is.
func TestRevisionsAreDense(t *testing.T) {
	one := startRedis(t)
	three := testredis.StartCluster(t, 3)
	for name, c := range map[string]struct {
		cfg   Config
		addrs []string
	}{
		"standalone": {Config{}, []string{one.Addr}},
		"cluster":    {Config{Mode: Cluster}, three.Addrs()},
	} {
		t.Run(name, func(t *testing.T) {
			c.cfg.LeaseTTL = 15 * time.Second
			ids := userIDs(400)
			var wg sync.WaitGroup
			for i := range 3 {
				g := startGateway(t, c.cfg, fmt.Sprint("gw-", i), c.addrs...)
				wg.Go(func() {
					for _, id := range ids {
						s, _, err := g.tryLogin(t.Context(), id, fmt.Sprint("d", i))
						if err != nil {
							t.Error(err)
						}
						if len(id)%2 == 0 {
							_, err = g.store.SetStatus(t.Context(), id, Status{Show: feed.ShowAway})
						}
						if err != nil {
							t.Error(err)
						}
						g.logout(s)
					}
					g.flush()
				})
			}
			wg.Wait()
			s := openStore(t, c.cfg, c.addrs...)
			heads, err := s.Poll(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			puts, ends := 0, 0
			for p := range Partitions {
				facts := factsOf(t, s, p) // fails the test if there is a gap
				if n := uint64(len(facts)); n != heads.Parts[p].Revision {
					t.Errorf("partition %d has %d facts, and revision %d", p, n, heads.Parts[p].Revision)
				}
				for _, f := range facts {
					switch f.Kind {
					case feed.Put:
						puts++
					case feed.Ended:
						ends++
					}
				}
			}
			if puts != 3*len(ids) || ends != 3*len(ids) {
				t.Errorf("%d sessions begun and %d ended, want %d", puts, ends, 3*len(ids))
			}
		})
	}
}

func TestFactsSayWhatHappened(t *testing.T) {
	r := startRedis(t)
	cfg := Config{LeaseTTL: 15 * time.Second}
	g := startGateway(t, cfg, "gw-1", r.Addr)
	s := Session{User: "anna", Device: "phone", Platform: "ios", Conn: 1, Addr: "2001:db8::1"}
	login, err := g.member.Register(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	ended := time.UnixMilli(time.Now().UnixMilli())
	g.member.Unregister(s, ended, feed.CauseIdle)
	g.flush()
	facts := factsAbout(t, g.store, "anna", "SD")
	want := feed.Session{Device: "phone", Epoch: g.member.Epoch(), Conn: 1, Since: login.Since.UnixMilli(), Platform: "ios", Addr: "2001:db8::1"}
	if len(facts) != 2 || facts[0].Session != want {
		t.Fatalf("facts %+v, want first the session %+v", facts, want)
	}
	if d := facts[1]; d.Session.Device != "phone" || d.Cause != feed.CauseIdle || !d.At.Equal(ended) {
		t.Fatalf("the end is %+v", d)
	}
	// By the clock of another gateway the user was last seen later than this session ends now.
	g.login("anna", "laptop")
	for _, s := range g.all() {
		g.member.Unregister(s, ended.Add(-time.Minute), feed.CauseLogout)
	}
	g.flush()
	facts = factsAbout(t, g.store, "anna", "D")
	if last := facts[len(facts)-1]; last.At.Unix() != ended.Unix() {
		t.Fatalf("the end is told to be %s, and the user was seen at %s", last.At, ended)
	}
}

// A script whose reply was lost is executed again: it must not tell twice.
func TestRepeatedScriptsTellOnce(t *testing.T) {
	r := startRedis(t)
	g := startGateway(t, Config{LeaseTTL: 15 * time.Second}, "gw-1", r.Addr)
	l := g.member.lanes
	run := func(k kind, s Session, change func(*op)) {
		t.Helper()
		for range 2 {
			o := newOp(k, Partition(s.User), s)
			if change != nil {
				change(o)
			}
			lease := g.member.lease.Load()
			q := &request{part: o.part, args: o.encode(l, lease, noDeadline)}
			if err := g.store.exchange(t.Context(), q); err != nil {
				t.Fatal(err)
			}
			o.free()
		}
	}
	s := Session{User: "anna", Device: "d", Conn: 7}
	run(opRegister, s, func(o *op) { o.setStatus(&Status{Show: feed.ShowBusy}) })
	s.Since = user(t, g.store, "anna").Devices[0].LoginTime
	run(opReassert, s, nil)
	run(opStatus, s, func(o *op) { o.setStatus(&Status{Show: feed.ShowAway, Text: "x"}) })
	run(opUnregister, s, func(o *op) { o.endedAt, o.cause = time.Now().UnixMilli(), feed.CauseLogout })
	kinds := ""
	for _, f := range factsAbout(t, g.store, "anna", "SDT") {
		kinds += string(rune(f.Kind))
	}
	if kinds != "STD" {
		t.Fatalf("facts %q, want STD", kinds)
	}
	for range 2 {
		if err := g.store.markDone(t.Context(), g.member.Epoch(), map[int]string{0: generationOf(t, g.store, 0)}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(factsOf(t, g.store, 0)); n != 1 { // that of joining
		t.Fatalf("%d facts of marks, want 1", n)
	}
}

func generationOf(t testing.TB, s *Store, part int) string {
	t.Helper()
	gens, err := s.generations(context.Background(), []int{part})
	if err != nil {
		t.Fatal(err)
	}
	return gens[part]
}

func TestReaderThatFellBehindIsTold(t *testing.T) {
	r := startRedis(t)
	g := startGateway(t, Config{LeaseTTL: 15 * time.Second}, "gw-1", r.Addr)
	before := factsOf(t, g.store, Partition("anna"))
	const sessions = 1200 // two facts each
	for range sessions {
		s, _ := g.login("anna", "d")
		g.logout(s)
	}
	g.flush()
	heads, err := g.store.Poll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	part := Partition("anna")
	head := heads.Parts[part]
	if want := uint64(len(before) + 2*sessions); head.Revision != want {
		t.Fatalf("revision %d, want %d", head.Revision, want)
	}
	ask := func(gen string, revision uint64) FactsOf {
		t.Helper()
		list, err := g.store.Facts(t.Context(), []FactsAfter{{Part: part, Generation: gen, Revision: revision}})
		if err != nil {
			t.Fatal(err)
		}
		return list[0]
	}
	for _, revision := range []uint64{0, 1, head.Revision + 1} {
		if of := ask(head.Generation, revision); !of.Gap || of.Facts != nil {
			t.Errorf("after %d of %d there is no gap, but %d facts", revision, head.Revision, len(of.Facts))
		}
	}
	if of := ask("another", head.Revision-1); !of.Gap {
		t.Error("no gap between generations")
	}
	for _, n := range []int{0, 1, 1450} {
		if of := ask(head.Generation, head.Revision-uint64(n)); of.Gap || len(of.Facts) != n {
			t.Errorf("of the last %d facts %d came, gap %v", n, len(of.Facts), of.Gap)
		}
	}
	if size := r.MustDo("XLEN", g.store.keys.feed[part]).(int64); size > 1700 {
		t.Errorf("the feed holds %d facts", size)
	}
}

// Data that was restored from before, as by a failover to a replica that lagged, numbers other facts alike.
func TestAnotherRunOfTheServerIsAnotherGeneration(t *testing.T) {
	r := startRedis(t)
	g := startGateway(t, Config{LeaseTTL: 15 * time.Second}, "gw-1", r.Addr)
	g.login("anna", "d")
	before, err := g.store.Poll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	same, err := openStore(t, Config{LeaseTTL: 15 * time.Second}, r.Addr).Poll(t.Context())
	if err != nil || same.Parts[5].Generation != before.Parts[5].Generation {
		t.Fatalf("another reader sees generation %q, not %q; %v", same.Parts[5].Generation, before.Parts[5].Generation, err)
	}
	r.MustDo("SAVE")
	r.Restart()
	eventually(t, func() error {
		after, err := g.store.Poll(t.Context())
		if err != nil {
			return err
		}
		for p := range after.Parts {
			if after.Parts[p].Err != nil {
				return after.Parts[p].Err
			}
			if after.Parts[p].Generation == before.Parts[p].Generation {
				t.Fatalf("partition %d has generation %q after the restart as before", p, after.Parts[p].Generation)
			}
		}
		return nil
	})
}

func TestFeedOfANodeThatIsDown(t *testing.T) {
	c := testredis.StartCluster(t, 3)
	cfg := Config{Mode: Cluster, LeaseTTL: 15 * time.Second}
	g := startGateway(t, cfg, "gw-1", c.Addrs()...)
	down := (c.NodeOf(g.store.keys.clock) + 1) % 3
	var lost, there int
	for p := range Partitions {
		if c.NodeOf(g.store.keys.meta[p]) == down {
			lost = p
		} else {
			there = p
		}
	}
	c.Nodes[down].Kill()
	heads, err := g.store.Poll(t.Context())
	if err != nil || heads.Table.Err != nil {
		t.Fatalf("poll: %v, %+v", err, heads)
	}
	if !errors.Is(heads.Parts[lost].Err, ErrUnavailable) || heads.Parts[there].Err != nil {
		t.Errorf("errors %v and %v", heads.Parts[lost].Err, heads.Parts[there].Err)
	}
	facts, err := g.store.Facts(t.Context(), []FactsAfter{{Part: lost}, {Part: there, Generation: heads.Parts[there].Generation}})
	if err == nil || facts[0].Err == nil || facts[1].Err != nil || len(facts[1].Facts) == 0 {
		t.Errorf("facts %+v, %v", facts, err)
	}
	loaded, err := g.store.Load(t.Context(), []int{lost, there})
	if err == nil || loaded[0].Err == nil || loaded[1].Err != nil || len(loaded[1].Done) != 1 {
		t.Errorf("loaded %+v, %v", loaded, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.store.Poll(ctx); !errors.Is(err, ErrUnavailable) {
		t.Errorf("poll that could read nothing: %v", err)
	}
}
