package replica

import (
	"errors"
	"testing"

	"github.com/imcluster/imcluster/presence/feed"
	"github.com/imcluster/imcluster/presence/store"
)

// An answer of Redis that is older than a fact applied while it was on its way must not be remembered.
func TestAnAnswerOvertakenByAFactIsNotRemembered(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		redis := newFakeRedis(t)
		redis.join("e1")
		r := startFake(t, redis)
		overtake := func() {
			redis.onAnswer(nil)
			redis.login("e1", "alice")
			redis.logout("alice")
			waitFor(t, r, "alice", 2)
		}
		redis.onAnswer(overtake)
		users, _, _ := r.Users(t.Context(), []string{"alice"})
		if users[0].Reason != store.NeverSeen {
			t.Errorf("the answer on its way became %+v", users[0])
		}
		if users, _, _ = r.Users(t.Context(), []string{"alice"}); users[0].State != store.Offline {
			t.Errorf("remembered %+v", users[0])
		}
	})
}

// waitFor waits until a replica has applied a revision of a user's partition.
func waitFor(t *testing.T, r *Replica, user string, revision uint64) {
	t.Helper()
	eventually(t, func() error {
		if m := r.hub.marks[partitionOf(user)].Load(); m.revision < revision {
			return errors.New("not yet")
		}
		return nil
	})
}

// The same of an answer for those who watch.
func TestAnAnswerOvertakenByAFactIsNotTold(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		redis := newFakeRedis(t)
		redis.join("e1")
		r := startFake(t, redis)
		redis.onAnswer(func() {
			redis.onAnswer(nil)
			redis.login("e1", "alice")
			redis.logout("alice")
			waitFor(t, r, "alice", 3)
		})
		c := watch(t, r, "", "alice")
		c.expect(t, []string{offline}, "alice")
	})
}

// What one pod told and another saw taken back at once is told again to who comes from the first to the second.
func TestAChangeTakenBackIsTakenBackOnEveryPod(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		redis := newFakeRedis(t)
		redis.join("e1")
		redis.login("e1", "alice", "bob")
		one, two := startFake(t, redis), startFake(t, redis)
		c := watch(t, one, "", "alice")
		redis.setDeaf(two)
		redis.setStatus("alice", feed.ShowBusy, "")
		c.drain(t.Context())
		if c.known["alice"].Status != feed.ShowBusy {
			t.Fatalf("alice is %+v", c.known["alice"])
		}
		redis.setStatus("alice", "", "")
		redis.setDeaf(nil)
		resumed := watch(t, two, c.token, "alice")
		if u := resumed.known["alice"]; u.Status != feed.ShowOnline {
			t.Errorf("after the resumption alice is %+v", u)
		}
	})
}

// Who resumes on a pod that has asked Redis, and so knows of a change before its fact has come, is told of it all the same.
func TestAChangeThatRedisToldBeforeTheFactIsTold(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		redis := newFakeRedis(t)
		redis.join("e1")
		one, two := startFake(t, redis), startFake(t, redis)
		c := watch(t, one, "", "alice")
		redis.setDeaf(two)
		redis.login("e1", "alice")
		redis.logout("alice")
		resumed := watch(t, two, c.token, "alice") // asks Redis
		if len(resumed.known) > 0 {
			t.Errorf("told %v before the fact", resumed.known)
		}
		redis.setDeaf(nil)
		resumed.drain(t.Context())
		resumed.expect(t, []string{offline}, "alice")
	})
}
