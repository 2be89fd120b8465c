package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/imcluster/imcluster/internal/testredis"
)

func TestBatchOfUsersIsOneRoundTripPerNode(t *testing.T) {
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
			g := startGateway(t, c.cfg, "gw-1", c.addrs...)
			s := openStore(t, c.cfg, c.addrs...)
			ids := userIDs(1000)
			g.loginMany(ids[:300])
			for _, id := range ids[300:350] {
				session, _ := g.login(id, "d")
				g.logout(session)
			}
			g.flush()
			s.Users(t.Context(), ids) // learns the partitions
			var hooks []*roundTrips
			for _, n := range s.servers.routes.Load().nodes() {
				h := &roundTrips{}
				n.reads.AddHook(h)
				hooks = append(hooks, h)
			}
			users, asOf, degraded := s.Users(t.Context(), ids)
			for i, h := range hooks {
				if n := h.take(); n != 1 {
					t.Errorf("%d round trips to node %d", n, i)
				}
			}
			if degraded || time.Since(asOf).Abs() > 10*time.Second {
				t.Errorf("degraded %v, as of %s", degraded, asOf)
			}
			counts := map[string]int{}
			for i, u := range users {
				if u.ID != ids[i] {
					t.Fatalf("answer %d is about %q", i, u.ID)
				}
				counts[string(u.State)+string(u.Reason)]++
			}
			if counts["online"] != 300 || counts["offline"] != 50 || counts["unknownnever_seen"] != 650 {
				t.Errorf("answers %v", counts)
			}
		})
	}
}

func TestOneNodeDownMakesItsUsersUnknown(t *testing.T) {
	c := testredis.StartCluster(t, 3)
	cfg := Config{Mode: Cluster, LeaseTTL: 15 * time.Second}
	g := startGateway(t, cfg, "gw-1", c.Addrs()...)
	ids := userIDs(300)
	g.loginMany(ids)
	s := g.store
	table := c.NodeOf(s.keys.clock)
	down := (table + 1) % 3
	c.Nodes[down].Kill()
	users, _, degraded := s.Users(t.Context(), ids)
	if !degraded {
		t.Error("not degraded")
	}
	for _, u := range users {
		want := Online
		if c.NodeOf(s.keys.meta[Partition(u.ID)]) == down {
			want = Unknown
		}
		if u.State != want {
			t.Fatalf("%q is %s %s, want %s", u.ID, u.State, u.Reason, want)
		}
	}
	if _, err := s.Online(t.Context(), "", 10000); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("list: %v", err)
	}
	if _, err := s.Counts(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("counts: %v", err)
	}
}

func TestOnlinePages(t *testing.T) {
	r := startRedis(t)
	cfg := Config{LeaseTTL: 15 * time.Second}
	g := startGateway(t, cfg, "gw-1", r.Addr)
	h := startGateway(t, cfg, "gw-2", r.Addr)
	ids := userIDs(500)
	g.loginMany(ids)
	for _, id := range ids[:100] { // a second device elsewhere
		h.login(id, "laptop")
	}
	for _, limit := range []int{1, 7, 499, 500, 5000} {
		var got []string
		cursor, pages := "", 0
		for {
			page, err := g.store.Online(t.Context(), cursor, limit)
			if err != nil || page.Degraded {
				t.Fatalf("page %+v, %v", page, err)
			}
			if len(page.Users) > limit {
				t.Fatalf("a page of %d", len(page.Users))
			}
			got = append(got, page.Users...)
			pages++
			if cursor = page.Next; cursor == "" {
				break
			}
			if limit == 1 && pages == 20 { // enough of this
				break
			}
		}
		if limit == 1 {
			continue
		}
		slices.Sort(got)
		if !slices.Equal(got, ids) {
			t.Fatalf("with pages of %d: %d users, want %d", limit, len(got), len(ids))
		}
	}
	c, err := g.store.Counts(t.Context())
	want := []GatewayCount{{"gw-1", 500}, {"gw-2", 100}}
	if err != nil || c.Users != 500 || c.Sessions != 600 || !slices.Equal(c.Gateways, want) || c.Degraded {
		t.Fatalf("counts %+v, %v", c, err)
	}
	for _, bad := range []string{"!", "x", FormatCursor(0, "u")[:2], FormatCursor(500, "u")} {
		if _, err := g.store.Online(t.Context(), bad, 10); !errors.Is(err, ErrInvalidCursor) {
			t.Fatalf("cursor %q: %v", bad, err)
		}
	}
}

func TestFirstInstallIsUnknownUntilSettled(t *testing.T) {
	r := startRedis(t)
	s, err := Open(t.Context(), Config{Addresses: []string{r.Addr}, LeaseTTL: testTTL})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	keep(t, s)
	// A new table may be one that was lost: a gateway that is cut off would come back within a lease.
	if u := user(t, s, "alice"); u.Reason != Unavailable {
		t.Fatalf("at first: %+v", u)
	}
	g := startGateway(t, Config{}, "gw-1", r.Addr)
	g.login("bob", "d")
	is(t, s, "bob", Online)
	eventually(t, func() error {
		if u := user(t, s, "alice"); u.Reason != NeverSeen {
			return fmt.Errorf("%+v", u)
		}
		return nil
	})
}

func TestIncarnations(t *testing.T) {
	r := startRedis(t)
	g := startGateway(t, Config{LeaseTTL: 5 * time.Second}, "gw-1", r.Addr)
	g.login("alice", "d")
	eventually(t, func() error {
		list, degraded, err := g.store.Incarnations(t.Context())
		if err != nil {
			return err
		}
		if degraded || len(list) != 1 {
			return fmt.Errorf("%+v, degraded %v", list, degraded)
		}
		i := list[0]
		if i.Epoch != g.member.Epoch() || i.PodName != "gw-1" || i.PodUID != "uid-gw-1" || i.Address != "gw-1:9091" ||
			i.LeaseRemaining <= 0 || i.LeaseRemaining > 5*time.Second || i.Draining {
			t.Fatalf("%+v", i)
		}
		if i.Sessions != 1 {
			return errNotYet // reported with the next renewal
		}
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := g.store.Incarnations(ctx); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("cancelled: %v", err)
	}
}
