package store

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imcluster/imcluster/internal/testredis"
)

// onEveryRedis runs a test on one server and on a cluster of three.
func onEveryRedis(t *testing.T, test func(t *testing.T, cfg Config, addrs ...string)) {
	t.Run("standalone", func(t *testing.T) {
		t.Parallel()
		test(t, Config{}, startRedis(t).Addr)
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		test(t, Config{Mode: Cluster}, testredis.StartCluster(t, 3).Addrs()...)
	})
}

// members reads all members of a group, a page at a time.
func members(t testing.TB, s *Store, id string, perPage int) (list []string) {
	t.Helper()
	for cursor := ""; ; {
		page, err := s.Members(t.Context(), id, "", cursor, perPage)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Page) > perPage {
			t.Fatalf("a page of %d members", len(page.Page))
		}
		list = append(list, page.Page...)
		if cursor = page.Next; cursor == "" {
			return list
		}
	}
}

func TestWhoMayChangeAGroup(t *testing.T) {
	t.Parallel()
	onEveryRedis(t, func(t *testing.T, cfg Config, addrs ...string) {
		s, ctx := openStore(t, cfg, addrs...), t.Context()
		for _, id := range []string{"team", "{x}", "a:disconnect", "😀"} {
			g, err := s.CreateGroup(ctx, id, "olga", []string{"mia", "mia", "max"})
			if err != nil || g.Owner != "olga" || g.Members != 3 || g.ID != id || time.Since(g.Created).Abs() > time.Minute {
				t.Fatalf("create %q: %+v, %v", id, g, err)
			}
			for _, step := range []struct {
				name string
				do   func() error
				want error
			}{
				{"a stranger adds", func() error { _, err := s.AddMembers(ctx, id, "eve", []string{"eve"}); return err }, ErrForbidden},
				{"a member adds", func() error { _, err := s.AddMembers(ctx, id, "mia", []string{"eve"}); return err }, ErrForbidden},
				{"a member removes another", func() error { _, err := s.RemoveMembers(ctx, id, "mia", []string{"max"}); return err }, ErrForbidden},
				{"a member removes another and themselves", func() error { _, err := s.RemoveMembers(ctx, id, "mia", []string{"max", "mia"}); return err }, ErrForbidden},
				{"a member deletes", func() error { return s.DeleteGroup(ctx, id, "mia") }, ErrForbidden},
				{"a stranger reads", func() error { _, err := s.Members(ctx, id, "eve", "", 10); return err }, ErrForbidden},
				{"a member reads", func() error { _, err := s.Members(ctx, id, "mia", "", 10); return err }, nil},
				{"a member leaves", func() error { _, err := s.RemoveMembers(ctx, id, "mia", []string{"mia"}); return err }, nil},
				{"who left reads", func() error { _, err := s.Members(ctx, id, "mia", "", 10); return err }, ErrForbidden},
				{"who left leaves", func() error { _, err := s.RemoveMembers(ctx, id, "mia", []string{"mia"}); return err }, nil},
				{"the owner adds", func() error { _, err := s.AddMembers(ctx, id, "olga", []string{"ben", "max"}); return err }, nil},
				{"the owner removes", func() error { _, err := s.RemoveMembers(ctx, id, "olga", []string{"max"}); return err }, nil},
				{"the owner leaves", func() error { _, err := s.RemoveMembers(ctx, id, "olga", []string{"olga"}); return err }, ErrForbidden},
				{"the back end adds", func() error { _, err := s.AddMembers(ctx, id, "", []string{"zoe"}); return err }, nil},
			} {
				if err := step.do(); !errors.Is(err, step.want) {
					t.Errorf("%q: %s: %v", id, step.name, err)
				}
			}
			if diff := cmp.Diff([]string{"ben", "olga", "zoe"}, members(t, s, id, 2)); diff != "" {
				t.Error(diff)
			}
			if g, err := s.RemoveMembers(ctx, id, "", []string{"olga"}); err != nil || g.Owner != "" || g.Members != 2 {
				t.Errorf("without its owner: %+v, %v", g, err)
			}
			if _, err := s.AddMembers(ctx, id, "olga", []string{"olga"}); !errors.Is(err, ErrForbidden) {
				t.Errorf("who was the owner adds: %v", err)
			}
			if err := s.DeleteGroup(ctx, id, ""); err != nil {
				t.Errorf("delete: %v", err)
			}
			if _, err := s.Group(ctx, id, ""); !errors.Is(err, ErrNoGroup) {
				t.Errorf("after it was deleted: %v", err)
			}
			if err := s.DeleteGroup(ctx, id, ""); !errors.Is(err, ErrNoGroup) {
				t.Errorf("delete twice: %v", err)
			}
		}
	})
}

func TestOneOfManyCreatorsGetsTheGroup(t *testing.T) {
	t.Parallel()
	onEveryRedis(t, func(t *testing.T, cfg Config, addrs ...string) {
		stores := []*Store{openStore(t, cfg, addrs...), openStore(t, cfg, addrs...)}
		for round := range 20 {
			id := fmt.Sprint("group-", round)
			var winners []string
			var mu sync.Mutex
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					owner := fmt.Sprint("owner-", i)
					switch _, err := stores[i%2].CreateGroup(t.Context(), id, owner, []string{"m-" + owner}); {
					case err == nil:
						mu.Lock()
						winners = append(winners, owner)
						mu.Unlock()
					case !errors.Is(err, ErrGroupExists):
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if len(winners) != 1 {
				t.Fatalf("%q created %s", winners, id)
			}
			if got := members(t, stores[0], id, 10); !cmp.Equal(got, []string{"m-" + winners[0], winners[0]}) {
				t.Errorf("%s of %s has %q", id, winners[0], got)
			}
		}
	})
}

func TestCreationMayBeRepeated(t *testing.T) {
	t.Parallel()
	s, ctx := openStore(t, Config{}, startRedis(t).Addr), t.Context()
	first, err := s.CreateGroupOnce(ctx, "key", "g", "olga", nil)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := s.CreateGroupOnce(ctx, "key", "g", "olga", nil); err != nil || again != first {
		t.Errorf("repeated: %+v, %v", again, err)
	}
	if _, err := s.CreateGroupOnce(ctx, "other key", "g", "olga", nil); !errors.Is(err, ErrGroupExists) {
		t.Errorf("with another key: %v", err)
	}
	if err := s.DeleteGroup(ctx, "g", ""); err != nil {
		t.Fatal(err)
	}
	if again, err := s.CreateGroupOnce(ctx, "key", "g", "olga", nil); err != nil || again.Version <= first.Version {
		t.Errorf("created anew: %+v after %+v, %v", again, first, err)
	}
}

func TestGroupHasAtMost2000Members(t *testing.T) {
	t.Parallel()
	onEveryRedis(t, func(t *testing.T, cfg Config, addrs ...string) {
		s, ctx := openStore(t, cfg, addrs...), t.Context()
		users := userIDs(MaxGroupMembers + 1)
		if _, err := s.CreateGroup(ctx, "large", "", users); !errors.Is(err, ErrTooManyMembers) {
			t.Errorf("2,001 members: %v", err)
		}
		if _, err := s.CreateGroup(ctx, "large", "", users[:1999]); err != nil {
			t.Fatal(err)
		}
		before, err := s.Group(ctx, "large", "")
		if err != nil || before.Members != 1999 {
			t.Fatalf("%+v, %v", before, err)
		}
		if _, err := s.AddMembers(ctx, "large", "", users[1998:]); !errors.Is(err, ErrTooManyMembers) {
			t.Errorf("2 more: %v", err)
		}
		if after, err := s.Group(ctx, "large", ""); err != nil || after != before {
			t.Errorf("a refused change changed %+v to %+v, %v", before, after, err)
		}
		if g, err := s.AddMembers(ctx, "large", "", users[:2000]); err != nil || g.Members != 2000 || g.Version <= before.Version {
			t.Errorf("the last one, among all: %+v, %v", g, err)
		}
		if diff := cmp.Diff(users[:2000], members(t, s, "large", 300)); diff != "" {
			t.Error(diff)
		}
		if g, err := s.RemoveMembers(ctx, "large", "", users); err != nil || g.Members != 0 {
			t.Errorf("all removed: %+v, %v", g, err)
		}
	})
	s := openStore(t, Config{}, startRedis(t).Addr)
	if _, err := s.CreateGroup(t.Context(), "g", "", []string{"a"}); err != nil {
		t.Fatal(err)
	}
	for _, cursor := range []string{"not base64!", "*"} {
		if _, err := s.Members(t.Context(), "g", "", cursor, 10); !errors.Is(err, ErrInvalidCursor) {
			t.Errorf("cursor %q: %v", cursor, err)
		}
	}
}

// A cache that compares versions must never take members for current that are not.
func TestVersionsOfAGroupAreNeverRepeated(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	s, ctx := openStore(t, Config{}, r.Addr), t.Context()
	var last uint64
	newer := func(g Group, err error) {
		t.Helper()
		if err != nil || g.Version <= last {
			t.Fatalf("version %d after %d, %v", g.Version, last, err)
		}
		last = g.Version
	}
	for i := range 50 {
		newer(s.CreateGroup(ctx, "g", "", []string{"a"}))
		newer(s.AddMembers(ctx, "g", "", []string{"b"}))
		if g, err := s.AddMembers(ctx, "g", "", []string{"b"}); err != nil || g.Version != last {
			t.Fatalf("nothing changed, but the version is %d after %d, %v", g.Version, last, err)
		}
		newer(s.RemoveMembers(ctx, "g", "", []string{"a"}))
		if i == 25 {
			r.MustDo("FLUSHALL")
			at := time.Now().UnixMilli()
			eventually(t, func() error { // versions go by Redis' clock
				if time.Now().UnixMilli() == at {
					return errNotYet
				}
				return nil
			})
			continue
		}
		if err := s.DeleteGroup(ctx, "g", ""); err != nil {
			t.Fatal(err)
		}
	}
	if ttl, _ := r.MustDo("PTTL", s.keys.group[Partition("g")]+"g").(int64); ttl <= 0 {
		t.Errorf("what is left of a deleted group lives for %d ms", ttl)
	}
}

// begin begins to send a message to a group.
func (g *gateway) begin(group, sender string, msg byte, known uint64) (GroupSend, error) {
	type answer struct {
		send GroupSend
		err  error
	}
	c := make(chan answer, 1)
	g.member.BeginGroup(group, sender, [16]byte{msg}, known, func(s GroupSend, err error) { c <- answer{s, err} })
	a := <-c
	return a.send, a.err
}

// The scenario of data-loss by dedupe: a message that was begun is due again until its fan-out was finished.
func TestInterruptedFanOutIsFinishedByTheResend(t *testing.T) {
	t.Parallel()
	onEveryRedis(t, func(t *testing.T, cfg Config, addrs ...string) {
		first, second := startGateway(t, cfg, "gw-1", addrs...), startGateway(t, cfg, "gw-2", addrs...)
		s, ctx := first.store, t.Context()
		if _, err := s.CreateGroup(ctx, "g", "olga", []string{"mia"}); err != nil {
			t.Fatal(err)
		}
		begun, err := first.begin("g", "mia", 1, 0)
		if err != nil || begun.Done || !cmp.Equal(begun.Members, []string{"mia", "olga"}) {
			t.Fatalf("begun: %+v, %v", begun, err)
		}
		// The gateway dies; a member comes; the client resends on another gateway.
		if _, err := s.AddMembers(ctx, "g", "", []string{"max"}); err != nil {
			t.Fatal(err)
		}
		again, err := second.begin("g", "mia", 1, begun.Version)
		if err != nil || again.Done || !cmp.Equal(again.Members, []string{"max", "mia", "olga"}) {
			t.Fatalf("begun again: %+v, %v", again, err)
		}
		if known, err := second.begin("g", "mia", 1, again.Version); err != nil || known.Done || known.Members != nil {
			t.Fatalf("with known members: %+v, %v", known, err)
		}
		second.member.FinishGroup("g", [16]byte{1})
		if done, err := first.begin("g", "mia", 1, again.Version); err != nil {
			t.Fatal(err)
		} else if !done.Done { // another gateway's lane may be ahead
			second.flush()
			if done, err = first.begin("g", "mia", 1, again.Version); err != nil || !done.Done {
				t.Fatalf("after it was finished: %+v, %v", done, err)
			}
		}
		if other, err := first.begin("g", "mia", 2, 0); err != nil || other.Done {
			t.Errorf("another message: %+v, %v", other, err)
		}
		for sender, want := range map[string]error{"": nil, "eve": ErrForbidden} {
			if _, err := first.begin("g", sender, 3, 0); !errors.Is(err, want) {
				t.Errorf("sent by %q: %v", sender, err)
			}
		}
		if err := s.DeleteGroup(ctx, "g", "olga"); err != nil {
			t.Fatal(err)
		}
		if _, err := first.begin("g", "mia", 1, 0); !errors.Is(err, ErrNoGroup) {
			t.Errorf("after it was deleted: %v", err)
		}
		if _, err := s.CreateGroup(ctx, "g", "mia", nil); err != nil {
			t.Fatal(err)
		}
		if fresh, err := first.begin("g", "mia", 1, again.Version); err != nil || fresh.Done || !cmp.Equal(fresh.Members, []string{"mia"}) {
			t.Errorf("in another group of that name: %+v, %v", fresh, err)
		}
	})
}

func TestGroupRemembersItsLast128Messages(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	g := startGateway(t, Config{}, "gw-1", r.Addr)
	if _, err := g.store.CreateGroup(t.Context(), "g", "", []string{"a"}); err != nil {
		t.Fatal(err)
	}
	for i := range 129 {
		if send, err := g.begin("g", "a", byte(i), 0); err != nil || send.Done {
			t.Fatalf("message %d: %+v, %v", i, send, err)
		}
		g.member.FinishGroup("g", [16]byte{byte(i)})
	}
	for msg, done := range map[byte]bool{128: true, 1: true} {
		if send, err := g.begin("g", "a", msg, 0); err != nil || send.Done != done {
			t.Errorf("message %d again: %+v, %v", msg, send, err)
		}
	}
	if send, err := g.begin("g", "a", 0, 0); err != nil || send.Done {
		t.Errorf("the 129th last message again: %+v, %v", send, err)
	}
	key := g.store.keys.sent[Partition("g")] + "g"
	if encoding := r.MustDo("OBJECT", "ENCODING", key); encoding != "listpack" {
		t.Errorf("the ids are kept in a %s", encoding)
	}
	if ttl, _ := r.MustDo("TTL", key).(int64); ttl < 86000 || ttl > 86400 {
		t.Errorf("the ids live for %d s", ttl)
	}
	t.Logf("128 ids take %v bytes", r.MustDo("MEMORY", "USAGE", key))
}
