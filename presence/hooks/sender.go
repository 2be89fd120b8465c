package hooks

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/imcluster/imcluster/presence/store"
)

const (
	// retryPause is when what could not be read or noted is tried again.
	retryPause = time.Second
	// logInterval is how often it is logged that the receiver takes nothing.
	logInterval = time.Minute
)

// sender tells about the users of its partitions, one request at a time.
type sender struct {
	d     *Dispatcher
	parts map[int]*partition
	wake  chan struct{}

	// Of the goroutine of run.
	waiting  backlog // users to compare with what the receiver was told
	parked   backlog // those whose state is not known now
	request  *request
	answered chan *request
	failures int
	pause    time.Time // until when nothing is sent
	retry    *time.Timer
	lately   map[string]time.Time // when users changed whose partition is another pod's
	logged   time.Time

	mu      sync.Mutex
	noticed map[string]time.Time
	anybody bool
	shown   Status
}

// request is what is under way.
type request struct {
	events   []Event
	tellings []store.HookTelling
	since    map[string]time.Time
	took     time.Duration
	err      error
}

func newSender(d *Dispatcher, index int) *sender {
	s := &sender{d: d, parts: map[int]*partition{}, wake: make(chan struct{}, 1), answered: make(chan *request, 1), noticed: map[string]time.Time{}, lately: map[string]time.Time{}}
	for p := index; p < store.Partitions; p += senders {
		s.parts[p] = &partition{index: p}
	}
	return s
}

// notice has users compared; nil means everybody.
func (s *sender) notice(users []string) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.anybody = s.anybody || users == nil
	for _, u := range users {
		if _, ok := s.noticed[u]; !ok {
			s.noticed[u] = now
		}
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *sender) status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shown
}

// show publishes the status.
func (s *sender) show() {
	owned := 0
	for _, p := range s.parts {
		if p.mine {
			owned++
		}
	}
	pending, oldest := len(s.waiting.since)+len(s.parked.since), earliest(s.waiting.oldest(), s.parked.oldest())
	if s.request != nil {
		pending += len(s.request.since)
		for _, at := range s.request.since {
			oldest = earliest(oldest, at)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shown.Partitions, s.shown.Pending, s.shown.OldestPending = owned, pending, oldest
	if pending == 0 {
		s.shown.LastError, s.shown.Refusal = "", 0 // another pod has taken over what was not taken here, or it does not matter any more
	}
}

// earliest of two moments, of which zero is none.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func (s *sender) run(ctx context.Context) {
	claim := time.NewTicker(LeaseTTL / 3)
	defer claim.Stop()
	s.retry = time.NewTimer(0)
	defer s.retry.Stop()
	s.claim(ctx)
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-s.wake:
		case <-claim.C:
			s.claim(ctx)
		case <-s.retry.C:
			s.unpark()
		case r := <-s.answered:
			s.finish(ctx, r)
		}
		s.compare(ctx)
		s.send(ctx)
		s.show()
	}
	// What is under way is finished and noted, and others need not wait for the leases to end.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.d.cfg.Timeout+retryPause)
	defer cancel()
	if s.request != nil {
		s.finish(ctx, <-s.answered)
	}
	s.d.cfg.Memory.ClaimHooks(ctx, s.d.claimant, s.owned(), 0, LeaseTTL)
}

// again has the loop come by after d, at the latest.
func (s *sender) again(d time.Duration) { s.retry.Reset(d) }

// unpark looks again at those whose state was not known.
func (s *sender) unpark() {
	users, since := s.parked.take(len(s.parked.queue))
	for i, u := range users {
		s.waiting.add(u, since[i])
	}
}

// compare finds users whom the receiver may have to be told about.
func (s *sender) compare(ctx context.Context) {
	s.mu.Lock()
	noticed, anybody := s.noticed, s.anybody
	s.noticed, s.anybody = map[string]time.Time{}, false
	s.mu.Unlock()
	for u, at := range noticed {
		p := s.parts[store.Partition(u)]
		if p.lost() {
			s.suspect(ctx, p, []string{u}, p.mine)
		}
		if p.mine {
			s.waiting.add(u, at)
		} else {
			s.remember(u, at) // whoever has the partition tells the receiver
		}
	}
	now := time.Now()
	for _, p := range s.parts {
		p.everybody = p.everybody || anybody
		if !p.mine || !p.everybody {
			continue
		}
		users, ok := s.different(ctx, p)
		if !ok {
			s.again(retryPause)
			continue
		}
		p.everybody = false
		for _, u := range users {
			s.waiting.add(u, now)
		}
	}
}

// send starts the next request, if there is none and something to tell.
func (s *sender) send(ctx context.Context) {
	if s.request != nil {
		return
	}
	if pause := time.Until(s.pause); pause > 0 {
		s.again(pause)
		return
	}
	for len(s.waiting.since) > 0 && ctx.Err() == nil {
		r := s.next(ctx)
		if len(r.tellings) == 0 {
			continue
		}
		if err := s.d.cfg.Memory.TellHooks(ctx, s.d.claimant, r.tellings); err != nil {
			s.doubt(r)
			s.pause = time.Now().Add(retryPause)
			s.again(retryPause)
			return
		}
		if s.number(r); len(r.events) == 0 {
			continue
		}
		s.request = r
		go func() {
			start := time.Now()
			r.err = s.d.post(context.WithoutCancel(ctx), r.events)
			r.took = time.Since(start)
			s.answered <- r
		}()
		return
	}
}

// next makes a request of those who wait first and differ from what the receiver was told.
func (s *sender) next(ctx context.Context) *request {
	ids, since := s.waiting.take(BatchEvents)
	users, asOf, _ := s.d.cfg.Presence.Users(ctx, ids)
	r := &request{since: map[string]time.Time{}}
	of := map[int]int{} // partition to its telling
	for i, u := range users {
		p := s.parts[store.Partition(ids[i])]
		online := u.State == store.Online
		switch {
		case !p.usable():
			continue // who takes the lease, compares everybody
		case u.State == store.Unknown && u.Reason != store.NeverSeen:
			s.parked.add(ids[i], since[i])
			s.again(retryPause)
			continue
		case p.told(ids[i], online):
			continue
		}
		at, ok := of[p.index]
		if !ok {
			at = len(r.tellings)
			of[p.index] = at
			r.tellings = append(r.tellings, store.HookTelling{Part: p.index})
		}
		t := &r.tellings[at]
		t.Users, t.Online = append(t.Users, ids[i]), append(t.Online, online)
		r.since[ids[i]] = since[i]
		r.events = append(r.events, s.event(ids[i], online, asOf))
	}
	return r
}

func (s *sender) event(user string, online bool, asOf time.Time) Event {
	e := Event{Hook: ClientOnline, PeerID: user, Timestamp: asOf.UnixMilli()}
	e.SourceIP, e.Reason = s.d.cfg.Presence.LastCause(user)
	if online {
		e.Reason = ""
	} else {
		e.Hook = ClientOffline
	}
	return e
}

// number gives events the numbers of their tellings, and leaves out those of partitions that were lost.
func (s *sender) number(r *request) {
	numbers := map[int]int64{}
	kept := r.tellings[:0]
	for _, t := range r.tellings {
		if t.Lost {
			s.parts[t.Part].mine = false // what it was told is kept: perhaps Redis lost it, and the lease
			for _, u := range t.Users {
				delete(r.since, u)
			}
			continue
		}
		numbers[t.Part] = t.Number
		kept = append(kept, t)
	}
	r.tellings = kept
	events := r.events[:0]
	for _, e := range r.events {
		if n, ok := numbers[store.Partition(e.PeerID)]; ok {
			e.Seq = n
			events = append(events, e)
		}
	}
	r.events = events
}

// finish notes what the receiver answered.
func (s *sender) finish(ctx context.Context, r *request) {
	s.request = nil
	s.d.telem.posted(ctx, r.events, r.took, r.err)
	s.outcome(r)
	if r.err != nil {
		s.doubt(r)
		return
	}
	if err := s.d.cfg.Memory.ToldHooks(ctx, s.d.claimant, r.tellings); err != nil {
		s.doubt(r) // it is told again
		s.pause = time.Now().Add(retryPause)
		return
	}
	for _, t := range r.tellings {
		p := s.parts[t.Part]
		p.mine = p.mine && !t.Lost
		for i, u := range t.Users {
			p.believe(u, t.Online[i], t.Lost)
		}
	}
}

// doubt has what may or may not have been told told again.
func (s *sender) doubt(r *request) {
	for _, t := range r.tellings {
		p := s.parts[t.Part]
		for _, u := range t.Users {
			if p.beliefs != nil {
				p.beliefs[u] = store.InDoubt
			}
			s.waiting.add(u, r.since[u])
		}
	}
}

// outcome remembers and logs how a request ended, and sets the pause after a failure.
func (s *sender) outcome(r *request) {
	s.mu.Lock()
	s.shown.LastError, s.shown.Refusal = "", 0
	if no, ok := errors.AsType[*refused](r.err); ok {
		s.shown.Refusal = no.status
	}
	if r.err != nil {
		s.shown.LastError = plain(r.err)
	} else {
		s.shown.LastSuccess = time.Now()
	}
	s.mu.Unlock()
	if r.err == nil {
		if s.failures > 0 {
			s.d.cfg.Logger.Info("the receiver of the hooks takes events again", "failures", s.failures)
		}
		s.failures, s.pause, s.logged = 0, time.Time{}, time.Time{}
		return
	}
	s.failures++
	pause := time.Duration(float64(backoff(s.failures)) * (0.8 + 0.4*rand.Float64())) //nolint:gosec // not for security
	if no, ok := errors.AsType[*refused](r.err); ok {
		pause = max(pause, no.after)
	}
	s.pause = time.Now().Add(pause)
	if time.Since(s.logged) >= logInterval {
		s.logged = time.Now()
		s.d.cfg.Logger.Warn("the receiver of the hooks did not take events; they are sent again", "error", r.err, "failures", s.failures,
			"users", len(s.waiting.since)+len(r.events), "pause", pause)
	}
}
