package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/imcluster/imcluster/internal/testredis"
)

func TestEmptiedRedisIsFilledAgain(t *testing.T) {
	r := startRedis(t)
	g := startGateway(t, Config{LeaseTTL: 15 * time.Second}, "gw-1", r.Addr)
	h := startGateway(t, Config{LeaseTTL: 15 * time.Second}, "gw-2", r.Addr)
	s := openStore(t, Config{LeaseTTL: 15 * time.Second}, r.Addr)
	keep(t, s)
	ids := userIDs(10000)
	g.loginMany(ids[:5000])
	h.loginMany(ids[5000:])
	gone, _ := g.login("gone", "d")
	g.logout(gone)
	g.flush()
	is(t, s, "gone", Offline)
	epochs := [2]Epoch{g.member.Epoch(), h.member.Epoch()}
	stop := neverOffline(t, s, append([]string{ids[0], ids[9999]}, ids[4900:5100]...))

	start := time.Now()
	r.MustDo("FLUSHALL")
	if u := user(t, s, "gone"); u.State != Unknown || u.Reason != Unavailable {
		t.Fatalf("who is not found in an emptied Redis: %+v", u)
	}
	eventually(t, func() error { return allOnline(s, ids) })
	t.Logf("10000 sessions on two gateways were back after %s", time.Since(start).Round(time.Millisecond))
	w := stop()
	t.Logf("%d queries meanwhile, %d answers unknown, none offline", w.queries, w.unknown)
	if g.member.Epoch() != epochs[0] || h.member.Epoch() != epochs[1] {
		t.Fatal("a gateway took a new epoch because Redis was emptied")
	}
	c, err := s.count(t.Context())
	if err != nil || c.Users != len(ids) || c.Sessions != len(ids) {
		t.Fatalf("counts %+v, %v", c, err)
	}
	if c.Degraded != true {
		t.Fatal("a new lease table was trusted at once")
	}
	if k := len(g.kicked()) + len(h.kicked()); k != 0 {
		t.Fatalf("%d sessions were kicked", k)
	}
}

func TestRedisRestartedEmpty(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	g := startGateway(t, Config{}, "gw-1", r.Addr)
	s := openStore(t, Config{}, r.Addr)
	keep(t, s)
	ids := userIDs(200)
	g.loginMany(ids)
	stop := neverOffline(t, s, ids[:20])
	r.Restart()
	eventually(t, func() error { return allOnline(s, ids) })
	// A new lease table is trusted after one TTL, and then knows again who is not there.
	becomes(t, s, "nobody", Unknown, Offline)
	eventually(t, func() error {
		if u := user(t, s, "nobody"); u.Reason != NeverSeen {
			return errNotYet
		}
		return nil
	})
	stop()
}

func TestRedisRestartedWithData(t *testing.T) {
	t.Parallel()
	r := testredis.StartWith(t, testredis.Options{AOF: true, Args: []string{"--appendfsync", "always"}})
	g := startGateway(t, Config{}, "gw-1", r.Addr)
	s := openStore(t, Config{}, r.Addr)
	keep(t, s)
	g.login("alice", "d")
	bob, _ := g.login("bob", "d")
	epoch := g.member.Epoch()
	stop := neverOffline(t, s, []string{"alice"})
	r.Kill()
	g.logout(bob) // remembered
	sleep(t, 2*testTTL)
	r.Restart()
	becomes(t, s, "bob", Offline, "")
	becomes(t, s, "alice", Online, Offline)
	stop()
	if g.member.Epoch() != epoch {
		t.Fatal("the lease ended while nobody could write")
	}
}

func TestLogoutDuringOutageIsFlushedLater(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	g := startGateway(t, Config{OpTimeout: 300 * time.Millisecond}, "gw-1", r.Addr)
	s := openStore(t, Config{}, r.Addr)
	keep(t, s)
	alice, _ := g.login("alice", "d")
	g.login("bob", "d")
	r.Pause()
	g.logout(alice)
	if _, _, err := g.tryLogin(t.Context(), "carol", "d"); err == nil {
		t.Fatal("a login succeeded while Redis was paused")
	}
	sleep(t, time.Second)
	r.Resume()
	becomes(t, s, "alice", Offline, "")
	is(t, s, "bob", Online)
	// What was refused is undone, also if it was executed when Redis went on.
	g.flush()
	if u := user(t, s, "carol"); u.State == Online {
		t.Fatalf("carol, who was refused: %+v", u)
	}
	c, err := s.count(t.Context())
	if err != nil || c.Sessions != 1 {
		t.Fatalf("counts %+v, %v", c, err)
	}
}

func TestEmptiedShardOfCluster(t *testing.T) {
	t.Parallel()
	c := testredis.StartCluster(t, 3)
	cfg := Config{Mode: Cluster, LeaseTTL: 5 * time.Second}
	g := startGateway(t, cfg, "gw-1", c.Addrs()...)
	h := startGateway(t, cfg, "gw-2", c.Addrs()[1])
	s := openStore(t, cfg, c.Addrs()[2])
	keep(t, s)
	ids := userIDs(3000)
	g.loginMany(ids[:1500])
	h.loginMany(ids[1500:])
	if err := allOnline(s, ids); err != nil {
		t.Fatal(err)
	}
	gone := make([][]string, 3) // users who logged out, by node
	for i := 0; len(gone[0]) < 5 || len(gone[1]) < 5 || len(gone[2]) < 5; i++ {
		id := fmt.Sprintf("gone-%d", i)
		n := c.NodeOf(s.keys.meta[Partition(id)])
		gone[n] = append(gone[n], id)
		session, _ := g.login(id, "d")
		g.logout(session)
	}
	g.flush()
	table := c.NodeOf(s.keys.clock)
	for node := range 3 {
		t.Run(fmt.Sprintf("node %d, lease table %t", node, node == table), func(t *testing.T) {
			for _, id := range gone[node] {
				is(t, s, id, Offline)
			}
			g.member.leaseMu.Lock() // holds the gateways up, so that the loss can be looked at
			h.member.leaseMu.Lock()
			stop := neverOffline(t, s, ids[:300])
			c.Nodes[node].MustDo("FLUSHALL")
			for _, id := range gone[node] {
				if u := user(t, s, id); u.State != Unknown || u.Reason != Unavailable {
					t.Errorf("%q, whose shard is empty: %+v", id, u)
				}
			}
			if node != table {
				for _, id := range gone[(node+1)%3] {
					is(t, s, id, Offline)
				}
			}
			g.member.leaseMu.Unlock()
			h.member.leaseMu.Unlock()
			eventually(t, func() error { return allOnline(s, ids) })
			stop()
			// After a while the lease table is trusted again, if it was lost.
			eventually(t, func() error {
				if _, _, degraded := s.Users(t.Context(), ids); degraded {
					return errNotYet
				}
				return nil
			})
			gone[node] = nil // forgotten with the data
		})
	}
}

func TestMovedSlot(t *testing.T) {
	t.Parallel()
	c := testredis.StartCluster(t, 3)
	cfg := Config{Mode: Cluster, LeaseTTL: 3 * time.Second}
	g := startGateway(t, cfg, "gw-1", c.Addrs()...)
	s := openStore(t, cfg, c.Addrs()...)
	keep(t, s)
	session, _ := g.login("alice", "d")
	stop := neverOffline(t, s, []string{"alice"})
	key := s.keys.meta[Partition("alice")]
	to := (c.NodeOf(key) + 1) % 3
	c.MoveSlot(key, to)
	stop()
	// Writes follow the slot, in order.
	for range 20 {
		g.logout(session)
		session, _ = g.login("alice", "other")
		g.logout(session)
		session, _ = g.login("alice", "d")
	}
	g.flush()
	if got := g.locate("alice"); len(got) != 1 || got[0].Conn != session.Conn {
		t.Fatalf("located %+v", got)
	}
	is(t, s, "alice", Online)
	// The lease table too.
	c.MoveSlot(s.keys.clock, (c.NodeOf(s.keys.clock)+1)%3)
	sleep(t, 2*cfg.LeaseTTL)
	is(t, s, "alice", Online)
}

func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	set := testredis.StartSentinel(t)
	cfg := Config{Mode: Sentinel, MasterName: "mymaster", LeaseTTL: 5 * time.Second}
	g := startGateway(t, cfg, "gw-1", set.Sentinel.Addr)
	s := openStore(t, cfg, set.Sentinel.Addr)
	keep(t, s)
	ids := userIDs(500)
	g.loginMany(ids)
	stop := neverOffline(t, s, ids[:50])
	set.Failover()
	eventually(t, func() error { return allOnline(s, ids) })
	session, _ := g.login("late", "d")
	g.logout(session)
	becomes(t, s, "late", Offline, Unknown)
	stop()
}

// A replica that lagged takes over, or a reply is lost with the name of the session that it replaced: single writes are
// missing under an unchanged generation.
func TestSingleLostWritesAreFoundByAudit(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	g := startGateway(t, Config{}, "gw-1", r.Addr)
	h := startGateway(t, Config{}, "gw-2", r.Addr)
	lost, _ := g.login("lost", "d")
	moved, _ := g.login("moved", "d")
	undone, _ := g.login("undone", "d")
	h.login("moved", "d") // nobody tells gw-1

	p := Partition("lost")
	r.MustDo("DEL", g.store.keys.userKey(p, "lost"))
	r.MustDo("HDEL", g.store.keys.indexKey(p, g.member.Epoch()), indexEntry("lost", "d"))
	g.mu.Lock()
	delete(g.sessions, undone.Conn) // its logout was lost
	g.mu.Unlock()
	g.member.lanes.mu.Lock()
	g.member.lanes.parts[Partition("undone")].count--
	g.member.lanes.mu.Unlock()

	eventually(t, func() error {
		if k := g.kicked(); len(k) != 1 || k[0].Conn != moved.Conn {
			return fmt.Errorf("kicked %+v, want %+v", k, moved)
		}
		return nil
	})
	becomes(t, h.store, "lost", Online, "")
	if got := h.locate("lost"); len(got) != 1 || got[0].Conn != lost.Conn {
		t.Fatalf("located %+v", got)
	}
	becomes(t, h.store, "undone", Offline, "") // after evictAge
}
