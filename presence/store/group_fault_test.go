package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imcluster/imcluster/internal/testredis"
)

func TestMessagesOfAGroupBeginInOrder(t *testing.T) {
	t.Parallel()
	r := testredis.StartWith(t, testredis.Options{AOF: true, Args: []string{"--appendfsync", "always"}})
	g := startGateway(t, Config{OpTimeout: waitLimit}, "gw-1", r.Addr)
	if _, err := g.store.CreateGroup(t.Context(), "g", "", []string{"a"}); err != nil {
		t.Fatal(err)
	}
	const n = 1000
	order := make(chan int, n)
	for i := range n {
		if i == n/2 {
			r.Restart()
		}
		g.member.BeginGroup("g", "a", [16]byte{byte(i), byte(i >> 8)}, 0, func(_ GroupSend, err error) {
			if err != nil {
				t.Errorf("message %d: %v", i, err)
			}
			order <- i
		})
	}
	for want := range n {
		if got := <-order; got != want {
			t.Fatalf("message %d came when %d was due", got, want)
		}
	}
}

func TestPausedRedisRefusesGroupMessages(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	g := startGateway(t, Config{OpTimeout: 300 * time.Millisecond}, "gw-1", r.Addr)
	if _, err := g.store.CreateGroup(t.Context(), "g", "", []string{"a"}); err != nil {
		t.Fatal(err)
	}
	r.Pause()
	if _, err := g.begin("g", "a", 1, 0); !errors.Is(err, ErrUnavailable) {
		t.Errorf("with Redis paused: %v", err)
	}
	if _, err := g.store.Members(t.Context(), "g", "", "", 10); !errors.Is(err, ErrUnavailable) {
		t.Errorf("members with Redis paused: %v", err)
	}
	r.Resume()
	eventually(t, func() error {
		send, err := g.begin("g", "a", 1, 0)
		if err == nil && (send.Done || !cmp.Equal(send.Members, []string{"a"})) {
			t.Fatalf("after the pause: %+v", send)
		}
		return err
	})
}

// Redis is killed again and again while members come and go. What was confirmed is there, what was refused with an unknown
// outcome may be, and every page shows a state that somebody asked for.
func TestRedisDiesInTheMiddleOfGroupChanges(t *testing.T) {
	t.Parallel()
	r := testredis.StartWith(t, testredis.Options{AOF: true, Args: []string{"--appendfsync", "always"}})
	s := openStore(t, Config{}, r.Addr)
	if _, err := s.CreateGroup(t.Context(), "g", "olga", nil); err != nil {
		t.Fatal(err)
	}
	// possible are the states that a member may be in.
	possible := make([]map[bool]bool, 40)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var confirmed, refused atomic.Int64
	for i := range possible {
		possible[i] = map[bool]bool{false: true}
		wg.Go(func() {
			user := []string{fmt.Sprintf("m%02d", i)}
			for ctx.Err() == nil {
				there := rand.N(2) == 0
				var err error
				if there {
					_, err = s.AddMembers(context.Background(), "g", "", user)
				} else {
					_, err = s.RemoveMembers(context.Background(), "g", "", user)
				}
				switch {
				case err == nil:
					confirmed.Add(1)
					possible[i] = map[bool]bool{there: true}
				case errors.Is(err, ErrUnavailable):
					refused.Add(1)
					possible[i][there] = true
					_ = pause(ctx, 5*time.Millisecond)
				default:
					t.Error(err)
					return
				}
			}
		})
	}
	for range 5 {
		grows(t, &confirmed, 100)
		r.Kill()
		grows(t, &refused, 10)
		r.Restart()
	}
	stop()
	wg.Wait()
	var list []string
	eventually(t, func() error {
		page, err := s.Members(t.Context(), "g", "", "", 100)
		list = page.Page
		if err == nil && page.Members != len(list) {
			t.Errorf("%d members, %d listed", page.Members, len(list))
		}
		return err
	})
	t.Logf("%d changes confirmed, %d refused", confirmed.Load(), refused.Load())
	for i, states := range possible {
		if there := slices.Contains(list, fmt.Sprintf("m%02d", i)); !states[there] {
			t.Errorf("member %d: listed %v, possible %v", i, there, states)
		}
	}
	if !slices.Contains(list, "olga") {
		t.Error("the owner is gone")
	}
}

// What was confirmed survives the primary, under the durability that is promised so.
func TestConfirmedGroupsSurviveAFailover(t *testing.T) {
	t.Parallel()
	c := testredis.StartReplicated(t, 3)
	s, ctx := openStore(t, Config{Mode: Cluster, Durability: DurabilityReplicated}, c.Addrs()...), t.Context()
	for round := range 3 {
		want := map[string][]string{}
		for i := range 12 {
			id := fmt.Sprintf("group-%d-%d", round, i)
			want[id] = []string{"a", "c"}
			for _, change := range []func() error{
				func() error { _, err := s.CreateGroupOnce(ctx, "key", id, "", []string{"a", "b"}); return err },
				func() error { _, err := s.AddMembers(ctx, id, "", []string{"c"}); return err },
				func() error { _, err := s.RemoveMembers(ctx, id, "", []string{"b"}); return err },
			} {
				eventually(t, change)
			}
		}
		c.FailOver(round)
		for id, users := range want {
			var page MemberPage
			eventually(t, func() (err error) {
				page, err = s.Members(ctx, id, "", "", 10)
				if errors.Is(err, ErrNoGroup) {
					t.Fatalf("%s is lost", id)
				}
				return err
			})
			if !cmp.Equal(page.Page, users) {
				t.Errorf("%s has %q", id, page.Page)
			}
		}
	}
}

func TestUnreplicatedGroupIsNotConfirmed(t *testing.T) {
	t.Parallel()
	s, ctx := openStore(t, Config{Durability: DurabilityReplicated}, startRedis(t).Addr), t.Context()
	if _, err := s.CreateGroupOnce(ctx, "key", "g", "", nil); !errors.Is(err, ErrUnavailable) {
		t.Errorf("create without a replica: %v", err)
	}
	if err := s.Revoke(ctx, Revocation{User: "alice"}, time.Hour); !errors.Is(err, ErrUnavailable) {
		t.Errorf("revoke without a replica: %v", err)
	}
	if err := s.Revoke(ctx, Revocation{User: "alice"}, 0); err != nil {
		t.Errorf("disconnect without a replica: %v", err)
	}
}

// Groups stay until they are deleted: they must not take the memory that presence needs.
func TestFullRedisRefusesGroups(t *testing.T) {
	t.Parallel()
	r := testredis.StartWith(t, testredis.Options{Args: []string{"--maxmemory", "30mb", "--maxmemory-policy", "noeviction"}})
	s, ctx := openStore(t, Config{}, r.Addr), t.Context()
	if _, err := s.CreateGroup(ctx, "early", "", []string{"a"}); err != nil {
		t.Fatal(err)
	}
	for i := 0; s.room(ctx, 0) == nil; i++ {
		r.MustDo("SET", fmt.Sprint("ballast-", i), strings.Repeat("x", 1<<20))
	}
	if _, err := s.CreateGroup(ctx, "late", "", []string{"a"}); !errors.Is(err, ErrStoreFull) {
		t.Errorf("create: %v", err)
	}
	if _, err := s.AddMembers(ctx, "early", "", []string{"b"}); !errors.Is(err, ErrStoreFull) {
		t.Errorf("add: %v", err)
	}
	if _, err := s.RemoveMembers(ctx, "early", "", []string{"a"}); err != nil {
		t.Errorf("remove: %v", err)
	}
	if err := s.Revoke(ctx, Revocation{User: "alice"}, time.Hour); err != nil {
		t.Errorf("revoke: %v", err)
	}
	if err := s.DeleteGroup(ctx, "early", ""); err != nil {
		t.Errorf("delete: %v", err)
	}
}

// grows waits until a counter has grown by n.
func grows(t testing.TB, counter *atomic.Int64, n int64) {
	t.Helper()
	target := counter.Load() + n
	eventually(t, func() error {
		if counter.Load() < target {
			return errNotYet
		}
		return nil
	})
}
