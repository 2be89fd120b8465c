package replica

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/imcluster/imcluster/presence/store"
)

// Subscription tells of changes. Its methods may be called concurrently, Next by one goroutine at a time.
type Subscription struct {
	r     *Replica
	all   bool
	ended chan struct{}
	end   func()
	wake  chan struct{}

	editing sync.Mutex // of Update and Replace

	mu      sync.Mutex
	members map[string]*member
	set     userSet
	fresh   []*member // added, and to be told in a snapshot
	first   bool      // the snapshot that Watch asked for is due
	dirty   []*member
	awaited int // members that must be told
	// Of a subscription to everybody: who has changed, and the partition at which the snapshot goes on.
	changed    map[string]*store.User
	snapshotAt int

	token    string // of the last event
	begun    string // of the beginning of a snapshot in several events
	at       time.Duration
	late     bool // waits in hub.late
	bookmark bool // is due
	degraded bool // as it was told last
}

// snapshotUsers is how many users an event of a snapshot of everybody has, or a partition more.
const snapshotUsers = 5000

// maxChanged is how many changes wait for a slow reader of everybody. With more, it gets a snapshot.
const maxChanged = 50_000

// Update adds users to the subscription, and removes others. The next event is a snapshot of those who were added.
func (s *Subscription) Update(add, remove []string) {
	s.editing.Lock()
	defer s.editing.Unlock()
	s.r.hub.remove(s, remove)
	s.r.hub.add(s, add, true)
	s.poke()
}

// Replace has the subscription be to users from now on. The next event is a snapshot of those to whom it was not.
func (s *Subscription) Replace(users []string) {
	s.editing.Lock()
	defer s.editing.Unlock()
	keep := make(map[string]struct{}, len(users))
	for _, u := range users {
		keep[u] = struct{}{}
	}
	var gone []string
	s.mu.Lock()
	for u := range s.members {
		if _, ok := keep[u]; !ok {
			gone = append(gone, u)
		}
	}
	s.mu.Unlock()
	s.r.hub.remove(s, gone)
	s.r.hub.add(s, users, true)
	s.poke()
}

// Close ends the subscription; Next returns ErrClosed.
func (s *Subscription) Close() {
	s.editing.Lock()
	defer s.editing.Unlock()
	s.end()
	s.r.hub.leave(s)
}

// Next waits for the next event: a snapshot as soon as it can be told, changes at most every 100 ms, a bookmark after 15 s
// without. It tells how users are when it is called, so a slow reader gets fewer events, and newer states. The error is that
// of ctx, or ErrClosed.
func (s *Subscription) Next(ctx context.Context) (Event, error) {
	for {
		s.mu.Lock()
		e, ok := s.take()
		s.mu.Unlock()
		if ok {
			s.r.metrics.event(&e)
			return e, nil
		}
		select {
		case <-ctx.Done():
			return Event{}, ctx.Err()
		case <-s.ended:
			return Event{}, ErrClosed
		case <-s.wake:
		}
	}
}

// take makes the event that is due, if there is one.
//
// The token is made before the states are read, of marks that are set after everybody was told of the facts before them: so it
// never promises more than was told.
func (s *Subscription) take() (e Event, ok bool) {
	now := s.r.now()
	listing := s.all && s.snapshotAt < store.Partitions
	switch {
	case listing:
		ok = s.listable()
	case s.first || len(s.fresh) > 0:
		ok = s.awaited == 0
		e.Snapshot = ok
	}
	if !ok && !listing && !s.first {
		ok = len(s.dirty)+len(s.changed) > 0 && now >= s.at+coalesce
	}
	// A bookmark must not overtake changes.
	if !ok && (!s.bookmark || len(s.dirty)+len(s.changed) > 0 && !listing) {
		return e, false
	}
	e.Token = s.set.token(s.r.hub)
	switch {
	case ok && listing:
		s.takeEverybody(&e)
	case ok:
		s.takeChanges(&e)
		if ok = e.Snapshot || len(e.Users) > 0; !ok && !s.bookmark {
			return e, false // those who had changed were removed, or are not known
		}
	}
	e.Bookmark = !ok
	if s.waits() {
		e.Token = s.token // that of before still holds
	}
	if e.More {
		e.Token = ""
	} else {
		s.token = e.Token
	}
	s.at, s.bookmark = now, false
	e.AsOf, e.Degraded = s.r.health(&s.set)
	s.degraded = e.Degraded
	return e, true
}

// takeChanges fills in a snapshot of those who were added, or changes. A snapshot has the changes too, as its token says.
func (s *Subscription) takeChanges(e *Event) {
	e.Users = make([]store.User, 0, len(s.dirty)+len(s.changed))
	if e.Snapshot {
		e.Users = s.tell(e.Users, &s.fresh)
		s.first = false
	}
	e.Users = s.tell(e.Users, &s.dirty)
	for _, u := range s.changed {
		e.Users = append(e.Users, *u)
	}
	clear(s.changed)
}

// waits tells whether there is something before the marks that is still to be told, and that no token can say.
func (s *Subscription) waits() bool {
	if s.all {
		return s.r.hub.owingAll.Load() > 0 || s.snapshotAt < store.Partitions
	}
	return s.first || len(s.fresh) > 0
}

// tell appends the states of members, and empties the list. Those that are not known yet will be told when they are.
func (s *Subscription) tell(users []store.User, list *[]*member) []store.User {
	for _, m := range *list {
		m.fresh, m.dirty, m.blind = false, false, false
		u := m.topic.state.Load()
		switch {
		case u == nil:
		case m.unsure:
			users = append(users, store.User{ID: u.ID, State: store.Unknown, Reason: store.Unavailable})
		default:
			users = append(users, *u)
		}
	}
	clear(*list)
	*list = (*list)[:0]
	return users
}

// listable tells whether a snapshot of everybody can be made: each partition was complete once, as who is not in it is not online.
func (s *Subscription) listable() bool {
	s.r.mu.RLock()
	defer s.r.mu.RUnlock()
	return !slices.ContainsFunc(s.r.parts[:], func(p *partition) bool { return p == nil || !p.whole })
}

// takeEverybody fills in the next event of a snapshot of everybody online. Its token is that of when it began: what changed since is
// told afterwards.
func (s *Subscription) takeEverybody(e *Event) {
	s.r.mu.RLock()
	defer s.r.mu.RUnlock()
	if s.snapshotAt == 0 {
		clear(s.changed) // the snapshot has them
		s.begun = e.Token
	}
	for ; s.snapshotAt < store.Partitions && len(e.Users) < snapshotUsers; s.snapshotAt++ {
		e.Users = s.r.appendOnline(e.Users, s.r.parts[s.snapshotAt])
	}
	e.Snapshot, e.More, e.Token = true, s.snapshotAt < store.Partitions, s.begun
}

// appendOnline appends everybody in a partition who is shown as online. The caller holds mu.
func (r *Replica) appendOnline(users []store.User, part *partition) []store.User {
	for i := range part.table.slots {
		if s := &part.table.slots[i]; s.has(shown) {
			state := r.names.unpack(s.sessions)
			users = append(users, r.online(s.user, &state))
		}
	}
	return users
}

// settle notes that the state of a member is known for certain: whether it is news to everybody, whether it is another than what
// was known, if anything was, and whether a fact told it. It returns whether the subscription is to be put among the late ones.
func (s *Subscription) settle(m *member, now time.Duration, news, changed, fact bool) (late bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	news = news || m.must || m.unsure || m.owed && (changed || m.blind) || fact && m.blind
	s.setOwed(m, false)
	s.setMust(m, false)
	m.unsure = false
	return news && s.note(m, now)
}

// reassure notes that the state of a member is not too old any more.
func (s *Subscription) reassure(m *member, now time.Duration) (late bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !m.unsure {
		return false
	}
	m.unsure = false
	s.setOwed(m, false)
	return s.note(m, now)
}

// owe notes that there may be something to tell that is not known yet.
func (s *Subscription) owe(m *member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setOwed(m, true)
}

func (s *Subscription) setOwed(m *member, owed bool) {
	if by := flip(&m.owed, owed); by != 0 {
		s.set.owe(m.topic.part, by)
	}
}

func (s *Subscription) setMust(m *member, must bool) { s.awaited += flip(&m.must, must) }

// flip sets a flag, and returns by how much that changes the number of those that are set.
func flip(flag *bool, to bool) int {
	was := *flag
	*flag = to
	switch {
	case to && !was:
		return 1
	case was && !to:
		return -1
	}
	return 0
}

// note puts a member into the next event.
func (s *Subscription) note(m *member, now time.Duration) (late bool) {
	if !m.fresh && !m.dirty {
		m.dirty = true
		s.dirty = append(s.dirty, m)
	}
	return s.rouse(now)
}

// notifyAll notes a change of anybody.
func (s *Subscription) notifyAll(u *store.User, now time.Duration) (late bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed[u.ID] = u; len(s.changed) > maxChanged {
		clear(s.changed)
		s.snapshotAt = 0
	}
	return s.rouse(now)
}

// rouse wakes Next if it may tell something, or returns true if that is too soon.
func (s *Subscription) rouse(now time.Duration) (late bool) {
	if len(s.fresh) == 0 && !s.first && now < s.at+coalesce {
		late = !s.late
		s.late = true
		return late
	}
	s.poke()
	return false
}

// poke wakes Next.
func (s *Subscription) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// release wakes a late subscription when it is time.
func (s *Subscription) release(now time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now < s.at+coalesce {
		return false
	}
	s.late = false
	s.poke()
	return true
}

// checkHealth has a bookmark sent if what was told last of degraded is not so any more.
func (s *Subscription) checkHealth(degraded *[store.Partitions]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.set.touched {
		if degraded[p] {
			s.remark(true)
			return
		}
	}
	s.remark(false)
}

func (s *Subscription) remark(degraded bool) {
	if degraded != s.degraded {
		s.bookmark = true
		s.poke()
	}
}

// mark has a bookmark sent if there was no event for long.
func (s *Subscription) mark(now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now >= s.at+bookmarkIdle {
		s.bookmark = true
		s.poke()
	}
}
