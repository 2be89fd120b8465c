package replica

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imcluster/imcluster/presence/feed"
	"github.com/imcluster/imcluster/presence/store"
)

// What an invisible user does leaves no trace: not in answers, counts and lists, nor in events, tokens aside, nor in whether Redis
// has to be asked, which could be told by the time that it takes.
func TestInvisibleUserIsAsOneWhoIsOffline(t *testing.T) {
	type trace struct {
		Answers []store.User
		Events  []Event
		Resumed []store.User
		Online  []string
		Counts  [2]int
		Misses  []int64
		Cause   string
	}
	see := func(t *testing.T, hidden bool) (seen trace) {
		redis := newFakeRedis(t)
		redis.join("e1", "e2")
		redis.login("e1", "alice", "bob")
		one, two := startFake(t, redis), startFake(t, redis)
		first := watch(t, one, "", "alice", "bob")
		everybody, err := one.Watch(nil, true, "")
		if err != nil {
			t.Fatal(err)
		}
		defer everybody.Close()
		if hidden {
			redis.setStatus("alice", feed.ShowInvisible, "not to be seen")
		} else {
			redis.logout("alice")
		}
		first.drain(t.Context())
		look := func(r *Replica) {
			misses := r.metrics.misses.Load()
			users, _, _ := r.Users(t.Context(), []string{"alice", "bob"})
			seen.Answers = append(seen.Answers, users...)
			seen.Misses = append(seen.Misses, r.metrics.misses.Load()-misses)
		}
		look(one)
		first.events = nil
		// The one who is hidden comes and goes, the other does nothing.
		if hidden {
			redis.loginDevice("e2", "alice", "web")
			first.drain(t.Context())
			redis.logout("alice")
			redis.setStatus("alice", feed.ShowInvisible, "still not")
		}
		cold := startFake(t, redis)
		look(cold)
		look(cold)
		first.drain(t.Context())
		if hidden {
			redis.kill("e2")
			redis.login("e1", "alice")
		} else {
			redis.kill("e2")
		}
		time.Sleep(time.Second) //nolint:forbidigo // in the bubble's time
		look(one)
		look(cold)
		first.drain(t.Context())
		seen.Events = first.events
		resumed := watch(t, two, first.token, "alice", "bob")
		for _, e := range resumed.events {
			seen.Resumed = append(seen.Resumed, e.Users...)
		}
		all := &client{sub: everybody, known: map[string]store.User{}}
		all.drain(t.Context())
		for _, e := range all.events {
			seen.Resumed = append(seen.Resumed, e.Users...)
		}
		page, err := one.Online(t.Context(), "", 10)
		if err != nil {
			t.Fatal(err)
		}
		counts, err := one.Counts(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		seen.Online, seen.Counts = page.Users, [2]int{counts.Users, counts.Sessions}
		_, seen.Cause = two.LastCause("alice")
		return seen
	}
	var traces [2]trace
	for i, hidden := range []bool{false, true} {
		inBubble(t, func(t *testing.T) { traces[i] = see(t, hidden) })
	}
	if diff := cmp.Diff(traces[0], traces[1]); diff != "" {
		t.Errorf("one who is invisible (+) is not as one who is offline (-):\n%s", diff)
	}
}
