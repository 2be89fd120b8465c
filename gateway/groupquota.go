package gateway

import (
	"sync"
	"time"

	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/gateway/wheel"
)

const (
	// recipientBytes is how much content one recipient stands for: a message counts once for each recipient and begun KiB.
	recipientBytes = 1 << 10
	// maxPendingShare is how much of maxPendingBytes the messages of one user to groups may take.
	maxPendingShare = maxPendingBytes / 4
)

var (
	errGroupTooFast = wire.Errorf(wire.CodeUserLimit,
		"the user's messages to groups have too many recipients a second; send it again after delayMs, and slow down")
	errGroupUnderWay = wire.Errorf(wire.CodeUserLimit,
		"too many of the user's messages to groups are still being stored; send it again after delayMs")
)

// groupQuota limits what users have stored by sending to groups: one small frame may cost 2,000 writes. It goes by user and
// not by connection, of which a user may have many. The application's back end has no limit.
type groupQuota struct {
	wheel *wheel.Wheel
	rate  float64 // recipients a second; negative: no limit

	mu      sync.Mutex
	senders map[string]*groupSender
}

// groupSender is a user who sent to a group not long ago.
type groupSender struct {
	last time.Duration // wheel time
	// credit is how many recipients are left. It may be overdrawn by one message, so that each can be sent however low the
	// rate is; then nothing goes until that is made up for.
	credit   float64
	underWay int  // bytes of what is being stored
	leaving  bool // is looked at later, to be forgotten
}

func newGroupQuota(w *wheel.Wheel, rate int) *groupQuota {
	return &groupQuota{wheel: w, rate: float64(rate), senders: map[string]*groupSender{}}
}

// check tells whether the user may send to a group now. It is for before the store is asked who is in the group.
func (q *groupQuota) check(user string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.senders[user]
	if s == nil {
		return nil
	}
	q.refill(s)
	return q.may(s, 0)
}

// take charges a message with so many bytes of content to a user, of which so much is reserved until release.
func (q *groupQuota) take(user string, recipients, content, reserved int) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.senders[user]
	if s == nil {
		s = &groupSender{last: q.wheel.Now(), credit: 2 * q.rate}
		q.senders[user] = s
	}
	q.refill(s)
	if err := q.may(s, reserved); err != nil {
		return err
	}
	s.credit -= float64(recipients * (1 + max(content-1, 0)/recipientBytes))
	s.underWay += reserved
	return nil
}

// may tells whether a user has credit, and room for what is to be reserved. A single message always has.
func (q *groupQuota) may(s *groupSender, reserved int) error {
	switch {
	case q.rate >= 0 && s.credit <= 0:
		return errGroupTooFast
	case s.underWay > 0 && s.underWay+reserved > maxPendingShare:
		return errGroupUnderWay
	}
	return nil
}

func (q *groupQuota) refill(s *groupSender) {
	now := q.wheel.Now()
	s.credit = min(s.credit+(now-s.last).Seconds()*q.rate, 2*q.rate)
	s.last = now
}

// release gives back what a message had reserved.
func (q *groupQuota) release(user string, reserved int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.senders[user]
	if s.underWay -= reserved; s.underWay == 0 && !s.leaving {
		s.leaving = true
		q.wheel.AfterFunc(limitsRefill, func() { q.forget(user, s) })
	}
}

// forget forgets a user with nothing under way as soon as the credit is full again: who connects anew must not get a fresh one.
func (q *groupQuota) forget(user string, s *groupSender) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if s.underWay > 0 {
		s.leaving = false
		return
	}
	if q.refill(s); q.rate >= 0 && s.credit < 2*q.rate {
		q.wheel.AfterFunc(limitsRefill, func() { q.forget(user, s) })
		return
	}
	delete(q.senders, user)
}
