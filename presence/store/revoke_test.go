package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imcluster/imcluster/internal/testredis"
)

// What is told to every gateway is done within a second: a look is never further away.
func TestLooksAreLessThanASecondApart(t *testing.T) {
	cfg, err := Config{Addresses: []string{"x"}}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if d := jitter(cfg.lookInterval()); d > 900*time.Millisecond {
			t.Fatalf("the next look is %s away", d)
		}
	}
}

func TestWhomARevocationCovers(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(1_700_000_000+int64(s), 0) }
	session := Session{User: "alice", Device: "phone", TokenID: "t1", Issued: at(10), Since: at(11)}
	unknown := session
	unknown.Issued, unknown.TokenID = time.Time{}, ""
	for _, tc := range []struct {
		name string
		r    Revocation
		s    Session
		want bool
	}{
		{"the user", Revocation{User: "alice"}, session, true},
		{"another user", Revocation{User: "bob"}, session, false},
		{"the device", Revocation{User: "alice", Device: "phone"}, session, true},
		{"another device", Revocation{User: "alice", Device: "tablet"}, session, false},
		{"the token", Revocation{User: "alice", TokenID: "t1", Before: at(1)}, session, true},
		{"another token", Revocation{User: "alice", TokenID: "t2"}, session, false},
		{"a token without an id", Revocation{User: "alice", TokenID: "t1"}, unknown, false},
		{"issued before", Revocation{User: "alice", Before: at(12)}, session, true},
		{"issued in the same second", Revocation{User: "alice", Before: at(10)}, session, true},
		{"issued after", Revocation{User: "alice", Before: at(9)}, session, false},
		{"issued nobody knows when", Revocation{User: "alice", Before: at(9)}, unknown, true},
		{"logged in since", Revocation{User: "alice", At: at(10)}, session, false},
		{"logged in before", Revocation{User: "alice", At: at(11)}, session, true},
		{"device, issued after", Revocation{User: "alice", Device: "phone", Before: at(9)}, session, false},
	} {
		if got := tc.r.Covers(tc.s); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}

// ended are the devices whose sessions revocations have ended.
func (g *gateway) endedDevices() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := []string{}
	for _, s := range g.ended {
		list = append(list, s.User+"/"+s.Device)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// ends waits until exactly these sessions were ended.
func (g *gateway) ends(want ...string) {
	g.t.Helper()
	eventually(g.t, func() error {
		if got := g.endedDevices(); !cmp.Equal(got, append([]string{}, want...)) {
			return fmt.Errorf("%s ended %q, want %q", g.pod, got, want)
		}
		return nil
	})
}

func TestRevocationsEndSessionsOnEveryGateway(t *testing.T) {
	t.Parallel()
	onEveryRedis(t, func(t *testing.T, cfg Config, addrs ...string) {
		one, two := startGateway(t, cfg, "gw-1", addrs...), startGateway(t, cfg, "gw-2", addrs...)
		s := openStore(t, cfg, addrs...)
		one.login("alice", "phone")
		two.login("alice", "tablet")
		one.login("bob", "phone")
		two.login("bob", "tablet")
		two.login("carol", "phone")
		for _, r := range []Revocation{{User: "alice"}, {User: "bob", Device: "tablet"}, {User: "nobody"}} {
			if err := s.Revoke(t.Context(), r, time.Hour); err != nil {
				t.Fatal(err)
			}
		}
		one.ends("alice/phone")
		two.ends("alice/tablet", "bob/tablet")
		becomes(t, s, "alice", Offline, Unknown)
		is(t, s, "bob", Online)
		is(t, s, "carol", Online)
	})
}

// Sessions that may be there again after a revocation are not ended by it, however often a gateway hears of it.
func TestDisconnectedUsersMayComeBack(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	g := startGateway(t, Config{}, "gw-1", r.Addr)
	g.login("alice", "phone")
	if err := g.store.Revoke(t.Context(), Revocation{User: "alice"}, 0); err != nil {
		t.Fatal(err)
	}
	g.ends("alice/phone")
	back, _ := g.login("alice", "phone")
	eventually(t, func() error { // the revocation is told again with every look
		if g.heardOf("alice") < 4 {
			return errNotYet
		}
		return nil
	})
	g.mu.Lock()
	_, there := g.sessions[back.Conn]
	g.mu.Unlock()
	if !there {
		t.Error("the session was ended by a revocation that is older")
	}
	if n := r.MustDo("EXISTS", g.store.keys.revokedKey(Partition("alice"), "alice")); n != int64(0) {
		t.Error("a revocation that refuses nothing is kept")
	}
}

func TestGatewayThatWasAwayHearsOfRevocations(t *testing.T) {
	t.Parallel()
	onEveryRedis(t, func(t *testing.T, cfg Config, addrs ...string) {
		cfg.LeaseTTL = time.Minute // it is paused for less
		g, other := startGateway(t, cfg, "gw-1", addrs...), startGateway(t, cfg, "gw-2", addrs...)
		for i := range 700 { // more than a page of the log
			g.login(fmt.Sprintf("user-%03d", i), "d")
		}
		other.login("user-000", "e")
		g.stop()
		var want []string
		for i := range 600 {
			user := fmt.Sprintf("user-%03d", i)
			want = append(want, user+"/d")
			if err := other.store.Revoke(t.Context(), Revocation{User: user}, time.Hour); err != nil {
				t.Fatal(err)
			}
		}
		other.ends("user-000/e")
		g.ends()
		g.stop = background(t, g.member.Run)
		g.ends(want...)
	})
}

// The log forgets what is old. A gateway that was away for longer compares its sessions with what is kept.
func TestGatewayThatMissedTheLogComparesItsSessions(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	cfg := Config{LeaseTTL: time.Minute}
	g, s := startGateway(t, cfg, "gw-1", r.Addr), openStore(t, cfg, r.Addr)
	for _, user := range []string{"alice", "bob", "carol", "dave"} {
		g.login(user, "d")
	}
	g.stop()
	for _, rev := range []struct {
		Revocation
		ttl time.Duration
	}{
		{Revocation{User: "alice"}, time.Hour}, {Revocation{User: "bob", Device: "d"}, time.Hour},
		{Revocation{User: "carol", Device: "other"}, time.Hour}, {Revocation{User: "dave"}, time.Millisecond},
	} {
		if err := s.Revoke(t.Context(), rev.Revocation, rev.ttl); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range maxControl / 16 {
				if err := s.Revoke(t.Context(), Revocation{User: fmt.Sprint(i, "-", j)}, 0); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if n := r.MustDo("XLEN", s.keys.control); n != int64(maxControl) {
		t.Fatalf("the log has %v entries", n)
	}
	t.Logf("%d entries of the log take %v bytes", maxControl, r.MustDo("MEMORY", "USAGE", s.keys.control, "SAMPLES", "0"))
	g.stop = background(t, g.member.Run)
	g.ends("alice/d", "bob/d")
}

// The node of the lease table loses its data before a gateway has read the log. What the users' nodes keep is found.
func TestLostLogIsMadeUpFor(t *testing.T) {
	t.Parallel()
	c := testredis.StartCluster(t, 3)
	cfg := Config{Mode: Cluster, LeaseTTL: time.Minute}
	g, s := startGateway(t, cfg, "gw-1", c.Addrs()...), openStore(t, cfg, c.Addrs()...)
	leases := c.NodeOf("{gw}")
	var elsewhere string
	for _, user := range userIDs(100) {
		if c.NodeOf("{"+tag(Partition(user))+"}") != leases {
			elsewhere = user
			break
		}
	}
	g.login(elsewhere, "d")
	g.stop()
	if err := s.Revoke(t.Context(), Revocation{User: elsewhere}, time.Hour); err != nil {
		t.Fatal(err)
	}
	c.Nodes[leases].MustDo("FLUSHALL")
	g.stop = background(t, g.member.Run)
	g.ends(elsewhere + "/d")
	// And the log that begins anew is read from its start.
	g.login("late", "d")
	if err := s.Revoke(t.Context(), Revocation{User: "late"}, 0); err != nil {
		t.Fatal(err)
	}
	g.ends("late/d", elsewhere+"/d")
}

func TestRevocationWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	g, s := startGateway(t, Config{}, "gw-1", r.Addr), openStore(t, Config{}, r.Addr)
	g.login("alice", "phone")
	r.Pause()
	if err := s.Revoke(t.Context(), Revocation{User: "alice"}, time.Hour); !errors.Is(err, ErrUnavailable) {
		t.Errorf("with Redis paused: %v", err)
	}
	if err := s.Reinstate(t.Context(), "alice"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("reinstate with Redis paused: %v", err)
	}
	g.ends()
	r.Resume()
	if err := s.Revoke(t.Context(), Revocation{User: "alice"}, time.Hour); err != nil {
		t.Fatal(err)
	}
	g.ends("alice/phone")
}

func TestRevocationsOfAUserAddUp(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	s, ctx := openStore(t, Config{}, r.Addr), t.Context()
	key := s.keys.revokedKey(Partition("alice"), "alice")
	kept := func() []Revocation {
		list, _ := r.MustDo("HGETALL", key).([]any)
		return parseRevocations("alice", list, time.Now().UnixMilli())
	}
	revoke := func(rev Revocation, ttl time.Duration) {
		t.Helper()
		rev.User = "alice"
		if err := s.Revoke(ctx, rev, ttl); err != nil {
			t.Fatal(err)
		}
	}
	early, late := time.UnixMilli(1_000_000), time.UnixMilli(2_000_000)
	revoke(Revocation{Before: late}, time.Minute)
	revoke(Revocation{Before: early}, time.Hour)
	if got := kept(); len(got) != 1 || !got[0].Before.Equal(late) {
		t.Errorf("the later time does not hold: %+v", got)
	}
	revoke(Revocation{Before: early}, time.Second)
	if ttl, _ := r.MustDo("PTTL", key).(int64); ttl < 3_590_000 || ttl > 3_600_000 {
		t.Errorf("the longer one does not hold: %d ms", ttl)
	}
	revoke(Revocation{Device: "d", Before: early}, time.Millisecond)
	for i := range maxRevocations - 1 {
		revoke(Revocation{TokenID: fmt.Sprint(i)}, time.Minute)
	}
	if err := s.Revoke(ctx, Revocation{User: "alice", TokenID: "one more"}, time.Minute); !errors.Is(err, ErrTooManyRevocations) {
		t.Errorf("257 revocations: %v", err)
	}
	revoke(Revocation{TokenID: "0"}, time.Minute)
	revoke(Revocation{}, time.Minute)
	if n := len(kept()); n != maxRevocations {
		t.Errorf("%d are kept", n)
	}
	if err := s.Reinstate(ctx, "alice"); err != nil || len(kept()) != 0 {
		t.Errorf("after they were lifted: %v, %v", kept(), err)
	}
}

// A session may reach the gateway after the revocation does, by as long as a reply takes.
func TestRevocationsAreToldAgainForAWhile(t *testing.T) {
	c := &control{gen: "g"}
	now, tb := time.Now(), &table{gen: "g", control: 1}
	first := []any{[]any{"1-0", []any{"e", encodeControl(Revocation{User: "alice", Reason: "because"})}}}
	for i, step := range []struct {
		entries []any
		after   time.Duration
		want    int
	}{{first, 0, 1}, {nil, controlRepeat / 2, 1}, {nil, controlRepeat - 1, 1}, {nil, controlRepeat, 0}} {
		tell, more := c.follow(tb, step.entries, now.Add(step.after))
		if len(tell) != step.want || more || c.behind.Load() {
			t.Errorf("step %d: told %v, more %v", i, tell, more)
		}
		if len(tell) > 0 && (tell[0].User != "alice" || tell[0].Reason != "because") {
			t.Errorf("told %+v", tell)
		}
	}
	if _, _ = c.follow(&table{gen: "g", control: 5}, nil, now); !c.behind.Load() || c.last != 5 {
		t.Errorf("the lost end of the log was not missed: %d", c.last)
	}
}

func TestEntriesOfTheLogThatAreNotKnownArePassedOver(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	g := startGateway(t, Config{}, "gw-1", r.Addr)
	g.login("alice", "phone")
	if _, err := g.store.tableCall(t.Context(), controlScript, `{"something":"new"}`, maxControl); err != nil {
		t.Fatal(err)
	}
	if _, err := g.store.tableCall(t.Context(), controlScript, strings.Repeat("x", 10), maxControl); err != nil {
		t.Fatal(err)
	}
	if err := g.store.Revoke(t.Context(), Revocation{User: "alice"}, 0); err != nil {
		t.Fatal(err)
	}
	g.ends("alice/phone")
}

// A replica that takes over may lack the end of the log, whose numbers are then given again.
func TestLogThatWentBackIsReadAnew(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	cfg := Config{LeaseTTL: time.Minute}
	g, s := startGateway(t, cfg, "gw-1", r.Addr), openStore(t, cfg, r.Addr)
	for _, user := range []string{"alice", "bob", "carol"} {
		g.login(user, "d")
	}
	revoke := func(user string) {
		t.Helper()
		if err := s.Revoke(t.Context(), Revocation{User: user}, 0); err != nil {
			t.Fatal(err)
		}
	}
	revoke("nobody")
	revoke("alice")
	g.ends("alice/d")
	g.stop()
	// As if the second entry had not reached the replica.
	r.MustDo("HSET", s.keys.clock, "ctl", "1")
	r.MustDo("DEL", s.keys.control)
	r.MustDo("XADD", s.keys.control, "1-0", "e", encodeControl(Revocation{User: "nobody"}))
	revoke("bob")
	g.stop = background(t, g.member.Run)
	g.ends("alice/d", "bob/d")
	// And as if nothing had come since.
	g.stop()
	r.MustDo("HSET", s.keys.clock, "ctl", "1")
	r.MustDo("DEL", s.keys.control)
	g.stop = background(t, g.member.Run)
	revoke("carol")
	g.ends("alice/d", "bob/d", "carol/d")
}
