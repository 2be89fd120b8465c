package store

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/imcluster/imcluster/presence/feed"
)

// dying starts a gateway with users and lets it fall silent.
func dying(t *testing.T, addr string, ids []string) *gateway {
	t.Helper()
	g := startGateway(t, Config{}, "gw-dead", addr)
	g.loginMany(ids)
	g.stop()
	return g
}

// cutOff fails every call after a number of pipelines, as a reaper that is killed half-way.
type cutOff struct {
	roundTrips
	left int
}

func (h *cutOff) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h.mu.Lock()
		h.left--
		cut := h.left < 0
		h.mu.Unlock()
		if cut {
			return context.Canceled
		}
		return next(ctx, cmds)
	}
}

func TestReaperResumesWhereItWasKilled(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	ids := userIDs(1000)
	g := dying(t, r.Addr, ids)
	alive := startGateway(t, Config{}, "gw-alive", r.Addr)
	// Some have moved to a gateway that lives.
	for _, id := range ids[:50] {
		alive.login(id, "d")
	}
	becomes(t, alive.store, ids[999], Offline, Unknown)

	killed := openStore(t, Config{}, r.Addr)
	h := &cutOff{left: 1 << 30}
	killed.servers.routes.Load().node[0].reads.AddHook(h)
	table, err := killed.readTable(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	h.left = 9
	h.mu.Unlock()
	k := &keeper{Store: killed, orphans: map[Epoch]time.Time{}}
	if err := k.bury(t.Context(), table, g.member.Epoch()); err == nil {
		t.Fatal("the reaper was not cut off")
	}
	left := indexed(t, alive.store, g.member.Epoch())
	if left == 0 || left == 950 {
		t.Fatalf("%d sessions left, which is not half-way", left)
	}
	for _, id := range ids[50:] {
		is(t, alive.store, id, Offline)
	}
	// Two others go on at once.
	second := openStore(t, Config{}, r.Addr)
	third := openStore(t, Config{}, r.Addr)
	keep(t, second)
	keep(t, third)
	eventually(t, func() error {
		if n := indexed(t, alive.store, g.member.Epoch()); n > 0 {
			return fmt.Errorf("%d sessions left", n)
		}
		return nil
	})
	if err := allOnline(alive.store, ids[:50]); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids[50:] {
		is(t, alive.store, id, Offline)
	}
	// In the end nothing is left of the epoch but what it was last seen.
	eventually(t, func() error {
		if n := r.MustDo("HEXISTS", second.keys.records, string(g.member.Epoch())); n != int64(0) {
			return errNotYet
		}
		return nil
	})
	for p := range Partitions {
		if v := r.MustDo("HGET", second.keys.meta[p], doneField+string(g.member.Epoch())); v != nil {
			t.Fatalf("partition %d still has a mark of the dead epoch", p)
		}
	}
	is(t, alive.store, ids[999], Offline)
}

// indexed counts the sessions in the index of an epoch.
func indexed(t *testing.T, s *Store, e Epoch) int {
	t.Helper()
	reqs := make([]*request, Partitions)
	for p := range reqs {
		reqs[p] = read(p, "hlen", s.keys.indexKey(p, e))
	}
	if err := s.exchange(t.Context(), reqs...); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, r := range reqs {
		n += int(intOf(r.text()))
	}
	return n
}

// The lease table is lost and a gateway never comes back: only the partitions know its epoch.
func TestEpochThatTheTableLostIsReaped(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	g := startGateway(t, Config{LeaseTTL: 500 * time.Millisecond}, "gw-dead", r.Addr)
	s := openStore(t, Config{LeaseTTL: 500 * time.Millisecond}, r.Addr)
	g.login("alice", "d")
	g.stop()
	r.MustDo("DEL", s.keys.clock, s.keys.live, s.keys.records)
	if u := user(t, s, "alice"); u.State != Unknown || u.Reason != Unavailable {
		t.Fatalf("without a lease table: %+v", u)
	}
	keep(t, s)
	becomes(t, s, "alice", Offline, Online)
	eventually(t, func() error {
		if n := indexed(t, s, g.member.Epoch()); n != 0 {
			return errNotYet
		}
		return nil
	})
	is(t, s, "alice", Offline)
}

func TestLastSeenOfManyStaysCompact(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	g := startGateway(t, Config{LeaseTTL: 15 * time.Second}, "gw-1", r.Addr)
	part := Partition("the one")
	var ids []string
	for i := 0; len(ids) < 3000; i++ {
		if id := fmt.Sprintf("user-%07d", i); Partition(id) == part {
			ids = append(ids, id)
		}
	}
	at := time.Now().Add(-time.Hour).Truncate(time.Second)
	var wg sync.WaitGroup
	for chunk := range 30 {
		wg.Go(func() {
			for _, id := range ids[chunk*100 : chunk*100+100] {
				s, _, err := g.tryLogin(t.Context(), id, "d")
				if err != nil {
					t.Errorf("log in: %v", err)
					return
				}
				g.mu.Lock()
				delete(g.sessions, s.Conn)
				g.mu.Unlock()
				g.member.Unregister(s, at, feed.CauseLogout)
			}
		})
	}
	wg.Wait()
	g.flush()
	s := openStore(t, Config{}, r.Addr) // knows nothing of the buckets
	for i := 0; i < len(ids); i += 500 {
		users, _, _ := s.Users(t.Context(), ids[i:i+500])
		for _, u := range users {
			if u.State != Offline || !u.LastSeen.Equal(at) {
				t.Fatalf("%+v, want last seen %s", u, at)
			}
		}
	}
	buckets, err := strconv.Atoi(r.MustDo("HGET", s.keys.meta[part], bucketsField).(string))
	if err != nil || buckets < 7 || buckets > 20 {
		t.Fatalf("%d users are in %d buckets, %v", len(ids), buckets, err)
	}
	total := int64(0)
	for b := range buckets {
		n, _ := r.MustDo("HLEN", s.keys.seenKey(part, b)).(int64)
		total += n
		if enc := r.MustDo("OBJECT", "ENCODING", s.keys.seenKey(part, b)); enc != "listpack" && enc != "ziplist" {
			t.Errorf("bucket %d with %d users is a %v", b, n, enc)
		}
	}
	if total != int64(len(ids)) {
		t.Fatalf("%d users in the buckets, want %d", total, len(ids))
	}
}

func TestRetention(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	cfg := Config{Retention: time.Hour}
	g := startGateway(t, cfg, "gw-1", r.Addr)
	for id, ago := range map[string]time.Duration{"old": 61 * time.Minute, "young": 59 * time.Minute} {
		s, _ := g.login(id, "d")
		g.mu.Lock()
		delete(g.sessions, s.Conn)
		g.mu.Unlock()
		g.member.Unregister(s, time.Now().Add(-ago), feed.CauseLogout)
	}
	g.flush()
	if u := user(t, g.store, "old"); u.Reason != NeverSeen {
		t.Fatalf("beyond the retention: %+v", u)
	}
	is(t, g.store, "young", Offline)
	// The memory is freed some time.
	p := Partition("old")
	k := &keeper{Store: g.store, part: p}
	table, err := g.store.readTable(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := k.forget(t.Context(), table); err != nil {
		t.Fatal(err)
	}
	if v := r.MustDo("HGET", g.store.keys.seenKey(p, 0), "old"); v != nil {
		t.Fatalf("an old entry is still there: %v", v)
	}
	is(t, g.store, "young", Offline)
}
