package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/imcluster/imcluster/presence/feed"
)

// follower folds the feed of all partitions, as a replica does.
type follower struct {
	t     testing.TB
	store *Store
	heads *Heads
	parts [Partitions]followed
	facts int // applied
	loads int // partitions loaded
}

type followed struct {
	gen      string
	revision uint64
	users    map[string]feed.State
	done     map[Epoch]bool
}

func follow(t testing.TB, s *Store) *follower {
	t.Helper()
	f := &follower{t: t, store: s}
	f.catchUp()
	return f
}

// catchUp polls until everything that was written before the call is folded.
func (f *follower) catchUp() {
	f.t.Helper()
	eventually(f.t, func() error { return f.round(context.Background()) })
}

func (f *follower) round(ctx context.Context) error {
	heads, err := f.store.Poll(ctx)
	if err != nil {
		return err
	}
	if heads.Table.Err != nil {
		return heads.Table.Err
	}
	f.heads = heads
	var load []int
	var behind []FactsAfter
	for p, h := range heads.Parts {
		if h.Err != nil {
			return h.Err
		}
		part := &f.parts[p]
		switch {
		case h.Generation == "":
			return fmt.Errorf("partition %d has no generation", p)
		case part.gen != h.Generation || part.revision > h.Revision:
			load = append(load, p)
		case part.revision < h.Revision:
			behind = append(behind, FactsAfter{Part: p, Generation: part.gen, Revision: part.revision})
		}
	}
	if len(load) > 0 {
		return errors.Join(f.load(ctx, load), errNotYet)
	}
	if len(behind) == 0 {
		return nil
	}
	list, err := f.store.Facts(ctx, behind)
	if err != nil {
		return err
	}
	for i := range list {
		if list[i].Gap {
			f.parts[list[i].Part] = followed{} // is loaded next time
			err = errNotYet
			continue
		}
		f.apply(&list[i])
		if part := &f.parts[list[i].Part]; part.revision < heads.Parts[list[i].Part].Revision {
			err = errNotYet
		}
	}
	return err
}

func (f *follower) load(ctx context.Context, parts []int) error {
	list, err := f.store.Load(ctx, parts)
	if err != nil {
		return err
	}
	for _, l := range list {
		part := followed{gen: l.Generation, revision: l.Revision, users: map[string]feed.State{}, done: map[Epoch]bool{}}
		for _, u := range l.Users {
			part.users[u.ID] = u.State
		}
		for _, e := range l.Done {
			part.done[e] = true
		}
		f.parts[l.Part] = part
		f.loads++
	}
	return nil
}

func (f *follower) apply(of *FactsOf) {
	part := &f.parts[of.Part]
	for i := range of.Facts {
		fact := &of.Facts[i]
		if fact.Revision != part.revision+1 {
			f.t.Errorf("partition %d: fact %d after %d", of.Part, fact.Revision, part.revision)
		}
		part.revision = fact.Revision
		f.facts++
		switch fact.Kind {
		case feed.EpochDone:
			part.done[fact.Epoch] = true
		case feed.EpochDead:
			for id, s := range part.users {
				if s.Apply(fact) {
					part.users[id] = s
				}
			}
		default:
			s := part.users[fact.User]
			s.Apply(fact)
			part.users[fact.User] = s
		}
	}
}

// user answers from the fold. sure is false if only Redis knows when the user was last seen, or the partition is not
// complete.
func (f *follower) user(id string) (u User, sure bool) {
	part := &f.parts[Partition(id)]
	if !f.heads.Table.Complete(func(e Epoch) bool { return part.done[e] }) {
		return User{ID: id}, false
	}
	s, known := part.users[id]
	online := len(s.Sessions) > 0
	v := feed.Visible(online, &s.Status, s.LastSeen, f.heads.AsOf, f.store.cfg.Retention)
	pod := func(e Epoch) string { return f.heads.Table.Live[e].PodName }
	return Answer(id, v, s.Sessions, pod), known && (online || s.LastSeen > 0)
}

// online lists who is visibly online by the fold, and how many sessions they have.
func (f *follower) online() (users []string, sessions int) {
	for p := range f.parts {
		for id := range f.parts[p].users {
			if u, _ := f.user(id); u.State == Online {
				users = append(users, id)
				sessions += len(u.Devices)
			}
		}
	}
	slices.Sort(users)
	return users, sessions
}

// agrees compares what the fold tells with what Redis tells of users, one by one, in the list and in the counts.
func (f *follower) agrees(ids []string) error {
	if err := f.round(context.Background()); err != nil {
		return err
	}
	users, _, degraded := f.store.Users(context.Background(), ids)
	if degraded {
		return errors.New("degraded")
	}
	for _, want := range users {
		got, sure := f.user(want.ID)
		if !sure && got.State != Online && want.State != Online {
			continue
		}
		if !sameUser(got, want) {
			return fmt.Errorf("the fold says %+v, Redis %+v", got, want)
		}
	}
	listed, sessions := f.online()
	page, err := f.store.Online(context.Background(), "", 10000)
	if err != nil {
		return err
	}
	slices.Sort(page.Users)
	if !slices.Equal(page.Users, listed) {
		return fmt.Errorf("the fold lists %v, Redis %v", listed, page.Users)
	}
	counts, err := f.store.count(context.Background())
	if err != nil {
		return err
	}
	if counts.Users != len(listed) || counts.Sessions != sessions {
		return fmt.Errorf("the fold counts %d users and %d sessions, Redis %+v", len(listed), sessions, counts)
	}
	return nil
}

func sameUser(a, b User) bool {
	same := a.ID == b.ID && a.State == b.State && a.Reason == b.Reason && a.Status == b.Status && a.Text == b.Text &&
		a.LastSeen.Equal(b.LastSeen)
	return same && slices.EqualFunc(a.Devices, b.Devices, func(x, y Device) bool {
		return x.ID == y.ID && x.Platform == y.Platform && x.Gateway == y.Gateway && x.LoginTime.Equal(y.LoginTime)
	})
}

// factsOf reads the whole feed of a partition.
func factsOf(t testing.TB, s *Store, part int) []feed.Fact {
	t.Helper()
	heads, err := s.Poll(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	list, err := s.Facts(context.Background(), []FactsAfter{{Part: part, Generation: heads.Parts[part].Generation}})
	if err != nil || list[0].Gap {
		t.Fatalf("facts of partition %d: %+v, %v", part, list, err)
	}
	return list[0].Facts
}

// factsAbout are the facts of some kinds about a user.
func factsAbout(t testing.TB, s *Store, user string, kinds string) []feed.Fact {
	t.Helper()
	return slices.DeleteFunc(factsOf(t, s, Partition(user)), func(f feed.Fact) bool {
		return f.User != user || !slices.Contains([]byte(kinds), byte(f.Kind))
	})
}

// setStatus sets a status by the API; the test fails if that fails.
func setStatus(t testing.TB, s *Store, user, show, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := s.SetStatus(ctx, user, Status{Show: show, Text: text}); err != nil {
		t.Fatal(err)
	}
}
