package replica

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imcluster/imcluster/presence/feed"
	"github.com/imcluster/imcluster/presence/store"
)

const online, offline, never, unavailable = "online", "offline", "unknownnever_seen", "unknownunavailable"

func (c *client) expect(t *testing.T, want []string, users ...string) {
	t.Helper()
	if got := c.says(users...); !cmp.Equal(got, want) {
		t.Errorf("the watcher knows %v of %v, want %v", got, users, want)
	}
}

func TestWatchBeginsWithASnapshotAndGoesOnWithChanges(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		redis := newFakeRedis(t)
		redis.join("e1", "e2")
		redis.login("e1", "alice", "bob")
		redis.logout("bob")
		r := startFake(t, redis)
		c := watch(t, r, "", "alice", "bob", "carol", "alice")
		if len(c.events) != 1 || !c.events[0].Snapshot || len(c.events[0].Users) != 3 || c.token == "" {
			t.Fatalf("the first events are %+v", c.events)
		}
		c.expect(t, []string{online, offline, never}, "alice", "bob", "carol")

		redis.logout("alice")
		redis.login("e2", "carol")
		c.drain(t.Context())
		c.expect(t, []string{offline, offline, online}, "alice", "bob", "carol")
		if d := c.known["carol"].Devices; len(d) != 1 || d[0].Gateway != "pod-e2" || d[0].Platform != "web" {
			t.Errorf("carol has the devices %+v", d)
		}
		redis.kill("e2")
		redis.setStatus("alice", feed.ShowAway, "")
		c.drain(t.Context())
		c.expect(t, []string{offline, offline, offline}, "alice", "bob", "carol")
		if ip, cause := r.LastCause("carol"); ip != "203.0.113.7" || cause != string(feed.CauseExpired) {
			t.Errorf("carol came from %q and ended by %q", ip, cause)
		}
	})
}

// Changes are told at once after a pause, and then once in 100 ms, the newest state only.
func TestChangesAreCoalesced(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		redis := newFakeRedis(t)
		redis.join("e1")
		r := startFake(t, redis)
		c := watch(t, r, "", "alice", "bob")
		c.events = nil
		began := time.Now()
		redis.login("e1", "alice")
		e, err := c.sub.Next(t.Context())
		if err != nil || time.Since(began) > pollPause || len(e.Users) != 1 {
			t.Fatalf("the first change took %v: %+v, %v", time.Since(began), e, err)
		}
		first := time.Now()
		redis.logout("alice")
		redis.login("e1", "bob")
		e, err = c.sub.Next(t.Context())
		if took := time.Since(first); err != nil || took < coalesce || took > coalesce+tickPause || len(e.Users) != 2 {
			t.Fatalf("the next change took %v: %+v, %v", took, e, err)
		}
		for range 10 {
			redis.login("e1", "alice")
			redis.logout("alice", "bob")
			redis.login("e1", "bob")
			time.Sleep(time.Second) //nolint:forbidigo // a slow reader, in the bubble's time
		}
		c.events = nil
		c.drain(t.Context())
		if len(c.events) != 1 {
			t.Errorf("a slow reader gets %d events", len(c.events))
		}
		c.expect(t, []string{offline, online}, "alice", "bob")
	})
}

func TestAChangeThatIsTakenBackAtOnceIsNotTold(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		redis := newFakeRedis(t)
		redis.join("e1")
		redis.login("e1", "alice")
		r := startFake(t, redis)
		c := watch(t, r, "", "alice")
		redis.setStatus("alice", feed.ShowAway, "")
		redis.setStatus("alice", feed.ShowOnline, "")
		c.events = nil
		c.drain(t.Context())
		if len(c.events) > 0 {
			t.Errorf("told %+v", c.events)
		}
	})
}

func TestIdleWatchersGetBookmarks(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		redis := newFakeRedis(t)
		redis.join("e1")
		r := startFake(t, redis)
		c := watch(t, r, "", "alice")
		began := time.Now()
		for range 3 {
			e, err := c.sub.Next(t.Context())
			if err != nil || !e.Bookmark || e.Token == "" || len(e.Users) > 0 {
				t.Fatalf("%+v, %v", e, err)
			}
		}
		if took := time.Since(began); took < 3*bookmarkIdle-2*time.Second || took > 3*bookmarkIdle+3*time.Second {
			t.Errorf("three bookmarks took %v", took)
		}
	})
}

func TestUpdateTellsOfThoseWhoWereAdded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		redis := newFakeRedis(t)
		redis.join("e1")
		redis.login("e1", "alice", "bob", "carol")
		r := startFake(t, redis)
		c := watch(t, r, "")
		if len(c.events) != 1 || !c.events[0].Snapshot || len(c.events[0].Users) > 0 {
			t.Fatalf("a watch of nobody begins with %+v", c.events)
		}
		c.events = nil
		c.sub.Update([]string{"alice", "bob"}, nil)
		c.drain(t.Context())
		if len(c.events) != 1 || !c.events[0].Snapshot || len(c.events[0].Users) != 2 {
			t.Fatalf("adding two users is told as %+v", c.events)
		}
		c.events = nil
		c.sub.Replace([]string{"bob", "carol"})
		c.drain(t.Context())
		if len(c.events) != 1 || len(c.events[0].Users) != 1 || c.events[0].Users[0].ID != "carol" {
			t.Fatalf("replacing a user is told as %+v", c.events)
		}
		c.events = nil
		redis.logout("alice", "bob", "carol")
		c.drain(t.Context())
		c.expect(t, []string{online, offline, offline}, "alice", "bob", "carol")
		if v := r.vitals(); v.pairs != 2 || v.subs != 1 {
			t.Errorf("%+v", v)
		}
		c.sub.Close()
		if _, err := c.sub.Next(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		if v := r.vitals(); v.pairs != 0 || v.subs != 0 {
			t.Errorf("left behind: %+v", v)
		}
		for p := range r.hub.topics {
			if len(r.hub.topics[p]) > 0 {
				t.Errorf("topics are left: %v", r.hub.topics[p])
			}
		}
	})
}

func TestTokenResumesOnAnotherPod(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		redis := newFakeRedis(t)
		redis.join("e1")
		redis.login("e1", "alice", "bob", "carol", "dave")
		one, two := startFake(t, redis), startFake(t, redis)
		c := watch(t, one, "", "alice", "bob", "carol")
		watch(t, two, "", "alice") // wait for it
		c.sub.Close()
		redis.logout("alice", "dave")
		redis.setStatus("bob", feed.ShowBusy, "in a meeting")

		resumed := watch(t, two, c.token, "carol", "bob", "alice")
		if len(resumed.known) != 2 || resumed.events[0].Snapshot {
			t.Errorf("told again: %+v", resumed.events)
		}
		resumed.expect(t, []string{offline, online}, "alice", "bob")
		if u := resumed.known["bob"]; u.Status != feed.ShowBusy || u.Text != "in a meeting" {
			t.Errorf("bob is %+v", u)
		}
		// A pod that started later does not know what changed one by one, and tells of everybody in the partitions that have.
		cold := startFake(t, redis)
		resumed = watch(t, cold, c.token, "carol", "bob", "alice")
		resumed.expect(t, []string{offline, online}, "alice", "bob")

		for what, token := range map[string]string{"nonsense": "nonsense", "of other users": watch(t, one, "", "alice").token, "truncated": c.token[:len(c.token)-3]} {
			if _, err := two.Watch([]string{"alice", "bob", "carol"}, false, token); !errors.Is(err, ErrRelist) {
				t.Errorf("a token %s: %v", what, err)
			}
		}
	})
}

func TestTokenOfTheFutureIsBehind(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		redis := newFakeRedis(t)
		redis.join("e1")
		one := startFake(t, redis)
		c := watch(t, one, "", "alice")
		redis.login("e1", "alice")
		c.drain(t.Context())
		// This one never hears of anything later.
		old := newFakeRedis(t)
		old.join("e1")
		two := startFake(t, old)
		watch(t, two, "", "alice")
		began := time.Now()
		if _, err := two.Watch([]string{"alice"}, false, c.token); !errors.Is(err, ErrBehind) || time.Since(began) < time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		// Facts that come in time let it go on.
		go func() {
			time.Sleep(300 * time.Millisecond) //nolint:forbidigo // in the bubble's time
			old.login("e1", "alice")
		}()
		if sub, err := two.Watch([]string{"alice"}, false, c.token); err != nil {
			t.Error(err)
		} else {
			sub.Close()
		}
	})
}

// While partitions are emptied and register again nothing is told; then only what is really different.
func TestLostDataIsNoChange(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		redis := newFakeRedis(t)
		redis.join("e1")
		redis.login("e1", "alice", "bob")
		redis.login("e1", "gone")
		redis.logout("gone")
		r := startFake(t, redis)
		users := []string{"alice", "bob", "gone"}
		c := watch(t, r, "", users...)
		all, err := r.Watch(nil, true, "")
		if err != nil {
			t.Fatal(err)
		}
		everybody := &client{sub: all, known: map[string]store.User{}}
		defer all.Close()
		everybody.drain(t.Context())
		c.events, everybody.events = nil, nil
		everywhere := make([]int, store.Partitions)
		for p := range everywhere {
			everywhere[p] = p
		}
		redis.lose(everywhere...)
		c.drain(t.Context())
		if len(c.events) > 0 || !c.degraded {
			t.Errorf("told of a loss: %+v, degraded %v", c.events, c.degraded)
		}
		answers, _, degraded := r.Users(t.Context(), users)
		for _, u := range answers {
			if u.State != store.Unknown || u.Reason != store.Unavailable || !degraded {
				t.Errorf("after the loss: %+v, degraded %v", u, degraded)
			}
		}
		late := watch(t, r, "", users...)
		late.expect(t, []string{unavailable, unavailable, unavailable}, users...)
		if !late.events[0].Degraded {
			t.Errorf("who came late has %+v", late.events)
		}
		redis.restore("g2", "e1", everywhere, "alice") // bob left meanwhile
		c.drain(t.Context())
		c.expect(t, []string{online, never, never}, users...)
		if c.degraded {
			t.Error("still told to be degraded")
		}
		late.drain(t.Context())
		late.expect(t, []string{online, never, never}, users...)
		everybody.drain(t.Context())
		if u := everybody.known["bob"]; u.Reason != store.NeverSeen {
			t.Errorf("who watches everybody knows of bob: %+v", u)
		}
		for i, e := range c.events {
			for _, u := range e.Users {
				if u.State == store.Offline {
					t.Errorf("event %d says that %s is offline", i, u.ID)
				}
			}
		}
		old := watch(t, startFake(t, redis), "", users...)
		if _, err := r.Watch(users, false, old.token); err != nil {
			t.Errorf("a token of the new data: %v", err)
		}
	})
}

func TestTokenOfLostDataRelists(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		redis := newFakeRedis(t)
		redis.join("e1")
		redis.login("e1", "alice")
		r := startFake(t, redis)
		c := watch(t, r, "", "alice")
		other := watch(t, r, "", "zoe")
		p := partitionOf("alice")
		redis.lose(p)
		redis.restore("g2", "e1", []int{p}, "alice")
		c.drain(t.Context())
		for what, r := range map[string]*Replica{"the same pod": r, "another": startFake(t, redis)} {
			watch(t, r, "", "alice") // until it has loaded
			if _, err := r.Watch([]string{"alice"}, false, c.events[0].Token); !errors.Is(err, ErrRelist) {
				t.Errorf("%s: %v", what, err)
			}
			if _, err := r.Watch([]string{"zoe"}, false, other.token); err != nil {
				t.Errorf("%s, of a partition that was not concerned: %v", what, err)
			}
		}
	})
}

// A stream that was trimmed has the partition loaded again; what differs is told, on both sides of a token.
func TestGapIsReloadedAndTold(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		redis := newFakeRedis(t)
		redis.join("e1")
		redis.login("e1", "alice", "bob")
		r := startFake(t, redis)
		c := watch(t, r, "", "alice", "bob")
		redis.logout("alice")
		redis.trim()
		c.drain(t.Context())
		c.expect(t, []string{offline, online}, "alice", "bob")
		if r.metrics.gaps.Load() == 0 {
			t.Error("there was no gap")
		}
	})
}

// A replica that is cut off makes nobody offline, and tells those who come then that it does not know.
func TestOutageTellsNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		redis := newFakeRedis(t)
		redis.join("e1")
		redis.login("e1", "alice")
		r := startFake(t, redis)
		c := watch(t, r, "", "alice", "bob")
		c.events = nil
		redis.setDown(true)
		time.Sleep(30 * time.Second) //nolint:forbidigo // in the bubble's time
		if len(c.events) > 0 {
			t.Errorf("told %+v", c.events)
		}
		late := watch(t, r, "", "alice", "bob", "carol")
		late.expect(t, []string{unavailable, unavailable, unavailable}, "alice", "bob", "carol")
		if users, _, degraded := r.Users(t.Context(), []string{"alice"}); users[0].Reason != store.Unavailable || !degraded {
			t.Errorf("answered %+v, degraded %v", users[0], degraded)
		}
		redis.login("e1", "bob")
		redis.setDown(false)
		c.drain(t.Context())
		// One who was told that nothing is known, and comes back with the token of that, is told all.
		again := watch(t, startFake(t, redis), late.token, "alice", "bob", "carol")
		again.expect(t, []string{online, online, never}, "alice", "bob", "carol")
		c.expect(t, []string{online}, "bob")
		late.drain(t.Context())
		late.expect(t, []string{online, online, never}, "alice", "bob", "carol")
		for _, e := range slices.Concat(c.events, late.events) {
			if slices.ContainsFunc(e.Users, func(u store.User) bool { return u.State == store.Offline }) {
				t.Errorf("told %+v", e)
			}
		}
	})
}

func TestForgottenUsersAreTold(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		redis := newFakeRedis(t)
		redis.join("e1")
		redis.login("e1", "alice")
		redis.logout("alice")
		r := startFake(t, redis)
		c := watch(t, r, "", "alice")
		c.expect(t, []string{offline}, "alice")
		time.Sleep(retention + 2*time.Minute) //nolint:forbidigo // in the bubble's time
		c.drain(t.Context())
		c.expect(t, []string{never}, "alice")
		if users, _, _ := r.Users(t.Context(), []string{"alice"}); users[0].Reason != store.NeverSeen {
			t.Errorf("answered %+v", users[0])
		}
	})
}

// While a gateway is alive that has not registered its sessions, who is not found is unknown: to who asks and to who begins to watch.
func TestWhoIsNotFoundIsUnknownUntilAllGatewaysHaveRegistered(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		redis := newFakeRedis(t)
		redis.join("e1")
		redis.login("e1", "alice", "bob")
		redis.logout("bob")
		r := startFake(t, redis)
		users := []string{"alice", "bob", "carol"}
		before := watch(t, r, "", users...)
		before.events = nil
		redis.mu.Lock()
		redis.live["e2"] = store.Peer{Epoch: "e2", PodName: "pod-e2"}
		redis.mu.Unlock()
		before.drain(t.Context())
		if len(before.events) > 0 || !before.degraded {
			t.Errorf("told %+v, degraded %v", before.events, before.degraded)
		}
		answers, _, degraded := r.Users(t.Context(), users)
		briefs := make([]Brief, len(users))
		degraded = r.Briefs(t.Context(), users, briefs) && degraded
		if !cmp.Equal(briefs, []Brief{Online, Unavailable, Unavailable}) || answers[1].Reason != store.Unavailable || !degraded {
			t.Errorf("answered %v and %+v, degraded %v", briefs, answers[1], degraded)
		}
		if _, err := r.Counts(t.Context()); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("counted all the same: %v", err)
		}
		late := watch(t, r, "", users...)
		late.expect(t, []string{online, unavailable, unavailable}, users...)
		redis.login("e2", "carol")
		redis.join("e2")
		late.drain(t.Context())
		late.expect(t, []string{online, offline, online}, users...)
	})
}

// A token that comes while somebody who was added cannot be told yet does not say that the others who were added were told.
func TestNoTokenOvertakesASnapshot(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		redis := newFakeRedis(t)
		redis.join("e1")
		redis.login("e1", "known", "other")
		one, two := startFake(t, redis), startFake(t, redis)
		watch(t, one, "", "known")
		c := watch(t, one, "", "other")
		hung := make(chan struct{})
		redis.onAnswer(func() { <-hung })
		c.sub.Update([]string{"known", "asked"}, nil)
		redis.setStatus("other", feed.ShowBusy, "")
		c.drain(t.Context())
		redis.onAnswer(nil)
		if c.known["other"].Status != feed.ShowBusy || c.known["known"].State != "" {
			t.Fatalf("the watcher knows %+v", c.known)
		}
		sub, err := two.Watch([]string{"known", "asked", "other"}, false, c.token)
		if err == nil {
			defer sub.Close()
			c.sub = sub
			c.drain(t.Context())
			c.expect(t, []string{online, never, online}, "known", "asked", "other")
		} else if !errors.Is(err, ErrRelist) {
			t.Error(err)
		}
		close(hung)
	})
}
