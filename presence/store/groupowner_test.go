package store

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// groupsOf lists the ids of the groups that a user owns, a page at a time.
func groupsOf(t testing.TB, s *Store, owner string, perPage int) (ids []string) {
	t.Helper()
	for cursor := ""; ; {
		page, err := s.OwnedGroups(t.Context(), owner, cursor, perPage)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range page.Groups {
			if g.Owner != owner || g.Members < 1 || g.Created.IsZero() || g.Version == 0 {
				t.Errorf("the list of %s has %+v", owner, g)
			}
			ids = append(ids, g.ID)
		}
		if cursor = page.Next; cursor == "" {
			return ids
		}
	}
}

func TestUserOwnsALimitedNumberOfGroups(t *testing.T) {
	t.Parallel()
	onEveryRedis(t, func(t *testing.T, cfg Config, addrs ...string) {
		cfg.MaxOwnedGroups = 5
		s, ctx := openStore(t, cfg, addrs...), t.Context()
		var want []string
		for i := range 5 {
			id := fmt.Sprintf("g%d", i)
			want = append(want, id)
			if _, err := s.CreateGroup(ctx, id, "olga", nil); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.CreateGroup(ctx, "more", "olga", nil); !errors.Is(err, ErrTooManyGroups) {
			t.Errorf("one more: %v", err)
		}
		if _, err := s.Group(ctx, "more", ""); !errors.Is(err, ErrNoGroup) {
			t.Errorf("the group that was refused: %v", err)
		}
		if _, err := s.CreateGroup(ctx, "more", "omar", nil); err != nil {
			t.Errorf("another user: %v", err)
		}
		if _, err := s.CreateGroup(ctx, "g0", "olga", nil); !errors.Is(err, ErrGroupExists) {
			t.Errorf("one of hers again: %v", err)
		}
		if _, err := s.CreateGroupOnce(ctx, "key", "given", "olga", nil); err != nil {
			t.Errorf("the back end gives her one: %v", err)
		}
		if diff := cmp.Diff(append(want, "given"), groupsOf(t, s, "olga", 2)); diff != "" {
			t.Errorf("her groups (-want +got):\n%s", diff)
		}
		for _, id := range []string{"given", "g3"} {
			if err := s.DeleteGroup(ctx, id, "olga"); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.CreateGroup(ctx, "g5", "olga", nil); err != nil {
			t.Errorf("after one was deleted: %v", err)
		}
		if diff := cmp.Diff([]string{"g0", "g1", "g2", "g4", "g5"}, groupsOf(t, s, "olga", 2)); diff != "" {
			t.Errorf("her groups (-want +got):\n%s", diff)
		}
	})
}

// TestGroupsOfAUserAreCountedOnceHoweverManyAreMadeAtOnce: nobody slips over the limit between the count and the group.
func TestGroupsOfAUserAreCountedOnceHoweverManyAreMadeAtOnce(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	cfg := Config{MaxOwnedGroups: 10}
	stores := []*Store{openStore(t, cfg, r.Addr), openStore(t, cfg, r.Addr)}
	var made atomic.Int64
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			switch _, err := stores[i%2].CreateGroup(t.Context(), fmt.Sprint("g", i), "olga", nil); {
			case err == nil:
				made.Add(1)
			case !errors.Is(err, ErrTooManyGroups):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if list := groupsOf(t, stores[0], "olga", 100); made.Load() != 10 || len(list) != 10 {
		t.Errorf("%d groups were made and %d are listed, want 10", made.Load(), len(list))
	}
}

// TestClaimsWithoutAGroupAreFoundWhenTheyMatter: whatever ended before the group was made, or after it was deleted, costs the
// user nothing for ever.
func TestClaimsWithoutAGroupAreFoundWhenTheyMatter(t *testing.T) {
	t.Parallel()
	onEveryRedis(t, func(t *testing.T, cfg Config, addrs ...string) {
		cfg.MaxOwnedGroups = 4
		s, ctx := openStore(t, cfg, addrs...), t.Context()
		for _, id := range []string{"mine", "lost", "orphaned"} {
			if _, err := s.CreateGroup(ctx, id, "olga", nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.claimGroup(ctx, "olga", "never-made", 4); err != nil { // and the gateway died
			t.Fatal(err)
		}
		part := Partition("lost")
		if err := s.exchange(ctx, read(part, "del", s.keys.groupKeys(part, "lost")[0])); err != nil { // as by a loss of data
			t.Fatal(err)
		}
		if _, err := s.RemoveMembers(ctx, "orphaned", "", []string{"olga"}); err != nil { // is the back end's now
			t.Fatal(err)
		}
		if _, err := s.CreateGroup(ctx, "early", "olga", nil); !errors.Is(err, ErrTooManyGroups) {
			t.Errorf("while the claims may be of groups that are being made: %v", err)
		}
		olga := Partition("olga") // a minute later
		if err := s.exchange(ctx, read(olga, "del", s.keys.ownedKeys(olga, "olga")[1])); err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			if _, err := s.CreateGroup(ctx, fmt.Sprint("new", i), "olga", nil); err != nil {
				t.Errorf("group %d: %v", i, err)
			}
		}
		if _, err := s.CreateGroup(ctx, "new3", "olga", nil); !errors.Is(err, ErrTooManyGroups) {
			t.Errorf("one too many: %v", err)
		}
		if diff := cmp.Diff([]string{"mine", "new0", "new1", "new2"}, groupsOf(t, s, "olga", 100)); diff != "" {
			t.Errorf("her groups (-want +got):\n%s", diff)
		}
	})
}

// TestGroupOfSomebodyElseIsNotClaimed: a name that is taken costs whoever tries nothing.
func TestGroupOfSomebodyElseIsNotClaimed(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	s := openStore(t, Config{MaxOwnedGroups: 1}, r.Addr)
	if _, err := s.CreateGroup(t.Context(), "taken", "omar", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateGroup(t.Context(), "taken", "olga", nil); !errors.Is(err, ErrGroupExists) {
		t.Fatalf("a name that is taken: %v", err)
	}
	part := Partition("olga")
	if n := r.MustDo("ZCARD", s.keys.ownedKeys(part, "olga")[0]); n != int64(0) {
		t.Errorf("%v groups are noted for olga", n)
	}
	if _, err := s.CreateGroup(t.Context(), "free", "olga", nil); err != nil {
		t.Error(err)
	}
}

// TestListOfGroupsMendsItself: what the loss of the user's slot took away comes back with the next change of a group.
func TestListOfGroupsMendsItself(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	s, ctx := openStore(t, Config{}, r.Addr), t.Context()
	for _, id := range []string{"a", "b", "c"} {
		if _, err := s.CreateGroup(ctx, id, "olga", nil); err != nil {
			t.Fatal(err)
		}
	}
	r.MustDo("DEL", s.keys.ownedKeys(Partition("olga"), "olga")[0])
	if _, err := s.AddMembers(ctx, "a", "olga", []string{"mia"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.RemoveMembers(ctx, "b", "", []string{"mia"}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "b"}, groupsOf(t, s, "olga", 100)); diff != "" {
		t.Errorf("her groups (-want +got):\n%s", diff)
	}
	if _, err := s.OwnedGroups(ctx, "olga", "?", 10); !errors.Is(err, ErrInvalidCursor) {
		t.Errorf("a cursor that nobody gave: %v", err)
	}
}
