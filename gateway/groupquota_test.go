package gateway

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/imcluster/imcluster/gateway/wheel"
)

// quotaAt runs a test of a quota of so many recipients a second, with a clock of its own.
func quotaAt(t *testing.T, rate int, test func(*groupQuota)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w := wheel.New(10 * time.Millisecond)
		go w.Run(ctx)
		test(newGroupQuota(w, rate))
	})
}

// send takes and releases, as a message does that is stored at once.
func (q *groupQuota) send(user string, recipients, content int) error {
	if err := errors.Join(q.check(user), q.take(user, recipients, content, 1)); err != nil {
		return err
	}
	q.release(user, 1)
	return nil
}

func TestGroupQuotaIsARateOfRecipients(t *testing.T) {
	quotaAt(t, 1000, func(q *groupQuota) {
		for i := range 2 { // two seconds' worth at once
			if err := q.send("alice", 1000, 100); err != nil {
				t.Fatalf("message %d: %v", i, err)
			}
		}
		if err := q.send("alice", 1, 100); !errors.Is(err, errGroupTooFast) {
			t.Errorf("beyond the rate: %v", err)
		}
		if err := q.send("bob", 1000, 100); err != nil {
			t.Errorf("another user: %v", err)
		}
		<-time.After(time.Second)
		if err := q.send("alice", 999, 100); err != nil {
			t.Errorf("after a second: %v", err)
		}
	})
}

func TestGroupQuotaCountsLargeMessagesMoreThanOnce(t *testing.T) {
	for content, want := range map[int]float64{0: 100, 1: 100, 1024: 100, 1025: 200, 10 << 10: 1000} {
		quotaAt(t, 1000, func(q *groupQuota) {
			if err := q.send("alice", 100, content); err != nil {
				t.Fatal(err)
			}
			if got := 2000 - q.senders["alice"].credit; got != want {
				t.Errorf("%d bytes to 100 members count as %v recipients, want %v", content, got, want)
			}
		})
	}
}

// TestGroupQuotaLetsAnyMessagePassOnce: a low rate makes messages to large groups rare, not impossible.
func TestGroupQuotaLetsAnyMessagePassOnce(t *testing.T) {
	quotaAt(t, 100, func(q *groupQuota) {
		if err := q.send("alice", 1200, 1); err != nil {
			t.Fatalf("the first: %v", err)
		}
		<-time.After(9 * time.Second)
		if err := q.send("alice", 1200, 1); !errors.Is(err, errGroupTooFast) {
			t.Errorf("after 9 s: %v", err)
		}
		<-time.After(2 * time.Second)
		if err := q.send("alice", 1200, 1); err != nil {
			t.Errorf("after 11 s: %v", err)
		}
	})
}

// TestOneSenderTakesAShareOfWhatWaitsForTheStore: the rest is for everybody else, also if there is no limit of the rate.
func TestOneSenderTakesAShareOfWhatWaitsForTheStore(t *testing.T) {
	quotaAt(t, -1, func(q *groupQuota) {
		const message = 2000 * pendingOverhead
		reserved := 0
		for q.take("alice", 2000, 1, message) == nil {
			reserved += message
		}
		if reserved > maxPendingBytes/4 || reserved < maxPendingBytes/5 {
			t.Errorf("one user reserved %d of %d bytes", reserved, maxPendingBytes)
		}
		if err := q.take("alice", 2000, 1, message); !errors.Is(err, errGroupUnderWay) {
			t.Errorf("one more: %v", err)
		}
		if err := q.take("bob", 2000, 1, message); err != nil {
			t.Errorf("another user: %v", err)
		}
		q.release("alice", message)
		if err := q.take("alice", 2000, 1, message); err != nil {
			t.Errorf("after one was stored: %v", err)
		}
	})
}

func TestGroupQuotaForgetsUsersWhoseCreditIsFull(t *testing.T) {
	for _, rate := range []int{1000, -1} {
		quotaAt(t, rate, func(q *groupQuota) {
			if err := q.send("alice", 2000, 4096); err != nil {
				t.Fatal(err)
			}
			if err := q.take("bob", 1, 1, 1); err != nil {
				t.Fatal(err)
			}
			<-time.After(limitsRefill + time.Second)
			q.mu.Lock()
			left := len(q.senders)
			q.mu.Unlock()
			if want := map[bool]int{true: 2, false: 1}[rate > 0]; left != want { // alice has sent 8,000
				t.Errorf("at %d a second %d users are known after 5 s, want %d", rate, left, want)
			}
			<-time.After(20 * time.Second)
			q.release("bob", 1)
			<-time.After(limitsRefill + time.Second)
			q.mu.Lock()
			defer q.mu.Unlock()
			if len(q.senders) != 0 {
				t.Errorf("at %d a second users are remembered for ever: %v", rate, q.senders)
			}
		})
	}
}
