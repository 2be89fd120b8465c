package replica

import (
	"slices"
	"sync"
	"time"

	"github.com/imcluster/imcluster/presence/store"
)

// catchUpTime is how long Watch waits for this pod to know what a token does.
const catchUpTime = time.Second

// Watch begins a subscription to users, who may repeat, or to everybody. Without a token it begins with a snapshot: of all
// users asked for, or of everybody who is online. With one it goes on after it: with what has changed since, perhaps with more.
// It waits at most a second for what was to be loaded. The errors are ErrRelist, ErrBehind, also when it was called before Run,
// ErrTooMany, and ErrClosed.
func (r *Replica) Watch(users []string, all bool, token string) (*Subscription, error) {
	s := &Subscription{r: r, all: all, ended: make(chan struct{}), wake: make(chan struct{}, 1),
		members: map[string]*member{}, first: true, at: r.now() - coalesce}
	s.end = sync.OnceFunc(func() { close(s.ended) })
	if all {
		users, s.set.all, s.changed, s.first = nil, true, map[string]*store.User{}, false
	}
	if token == "" {
		r.hub.awaitLoaded(users, all)
		if err := r.hub.join(s, users, nil); err != nil {
			return nil, err
		}
		return s, nil
	}
	from, err := r.hub.await(users, all, token)
	if err != nil {
		return nil, err
	}
	s.first, s.snapshotAt, s.token = false, store.Partitions, token
	if err := r.hub.join(s, users, from); err != nil {
		return nil, err
	}
	return s, nil
}

// resumption is what a token says.
type resumption struct {
	digest    uint64
	revisions map[int]uint64 // by partition; those of the token, which are 1 more
}

// await waits until this pod knows all that a token does.
func (h *hub) await(users []string, all bool, token string) (*resumption, error) {
	set := userSet{all: all}
	users = slices.Compact(slices.Sorted(slices.Values(users)))
	for _, u := range users {
		set.add(u, partitionOf(u))
	}
	digest, revisions, ok := parseToken(token, len(set.marks(&h.marks)))
	if !ok {
		return nil, ErrRelist
	}
	from := &resumption{digest, make(map[int]uint64, len(revisions))}
	for p := range set.touched {
		from.revisions[p] = revisions[len(from.revisions)]
	}
	timeout := time.NewTimer(catchUpTime)
	defer timeout.Stop()
	for {
		h.mu.Lock()
		next, closed := h.next, h.closed
		h.mu.Unlock()
		if closed {
			return nil, ErrClosed
		}
		switch marks := set.marks(&h.marks); {
		case set.digest(marks) != digest:
			// Of data that was lost, or of other users; unless it is this pod that has not loaded the data yet.
			if _, degraded := h.r.health(&set); !degraded {
				return nil, ErrRelist
			}
		case !slices.ContainsFunc(marks, func(m *mark) bool { return m.generation == "" }) && !behind(marks, revisions):
			return from, nil
		}
		select {
		case <-next:
		case <-timeout.C:
			return nil, ErrBehind
		}
	}
}

// awaitLoaded waits for Run, and for the partitions of users to be loaded, as they are shortly after the start: there is no
// token before. It does not matter if they are not.
func (h *hub) awaitLoaded(users []string, all bool) {
	h.mu.Lock()
	ready := h.closed || h.opened && h.loading == 0
	h.mu.Unlock()
	if ready {
		return
	}
	set := userSet{all: all}
	for _, u := range users {
		set.add(u, partitionOf(u))
	}
	timeout := time.NewTimer(catchUpTime)
	defer timeout.Stop()
	for {
		h.mu.Lock()
		next, opened := h.next, h.opened
		h.mu.Unlock()
		if opened && !slices.ContainsFunc(set.marks(&h.marks), func(m *mark) bool { return m.generation == "" }) {
			return
		}
		select {
		case <-next:
		case <-timeout.C:
			return
		}
	}
}

func behind(marks []*mark, revisions []uint64) bool {
	for i, m := range marks {
		if m.revision+1 < revisions[i] {
			return true
		}
	}
	return false
}

// join adds a subscription. One that resumes has been told of everything up to where it does.
func (h *hub) join(s *Subscription, users []string, from *resumption) error {
	h.mu.Lock()
	switch {
	case h.closed:
		h.mu.Unlock()
		return ErrClosed
	case !h.opened:
		h.mu.Unlock()
		return ErrBehind
	case len(h.subs) >= h.r.cfg.MaxSubscriptions:
		h.mu.Unlock()
		return ErrTooMany
	}
	h.subs[s] = struct{}{}
	if s.all {
		h.all[s] = struct{}{}
	}
	h.mu.Unlock()
	h.add(s, users, from == nil)
	if from == nil {
		return nil
	}
	if !h.resume(s, from) {
		s.end()
		h.leave(s)
		return ErrRelist
	}
	return nil
}

// add subscribes to users: with snapshot they are to be told at once.
func (h *hub) add(s *Subscription, users []string, snapshot bool) {
	if len(users) == 0 || s.all {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.subs[s]; !ok {
		return // closed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h.r.mu.RLock()
	defer h.r.mu.RUnlock()
	now, wall := h.r.now(), h.r.wall()
	for _, user := range users {
		if s.members[user] != nil {
			continue
		}
		p := partitionOf(user)
		t := h.topic(p, user)
		if t.state.Load() == nil && !t.queued {
			var u store.User
			if h.r.remembers(h.r.parts[p], t.user, now, wall, &u) {
				t.state.Store(&u)
			} else {
				h.resolve(t)
			}
		}
		m := &member{sub: s, topic: t, index: len(t.members), fresh: snapshot}
		t.members = append(t.members, m)
		h.members++
		s.members[t.user] = m
		s.set.add(t.user, p)
		if snapshot {
			s.fresh = append(s.fresh, m)
			h.expect(m, now)
		}
	}
}

// expect prepares to tell a member the state of its topic: it may have to wait until that is known, or the state may be too
// old to be told to who does not know it. The caller holds all locks.
func (h *hub) expect(m *member, now time.Duration) {
	t, s := m.topic, m.sub
	state, part := t.state.Load(), h.r.parts[m.topic.part]
	_, unsettled := h.unsettled[t]
	switch {
	case state == nil:
		s.setMust(m, true)
		s.setOwed(m, true)
		t.owing = true
	case !part.fresh(now) || !part.complete && state.State != store.Online:
		m.unsure = true
		s.setOwed(m, true)
		t.owing = true
		h.unsure[t] = struct{}{}
	case unsettled || t.queued || t.asking:
		s.setOwed(m, true)
		t.owing = true
	}
}

// resume has users told of who has changed since. It returns false if that is not known.
func (h *hub) resume(s *Subscription, since *resumption) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	h.r.mu.RLock()
	defer h.r.mu.RUnlock()
	if s.set.digest(s.set.marks(&h.marks)) != since.digest {
		return false // data was loaded anew in this moment
	}
	from, now := since.revisions, h.r.now()
	if s.all {
		return h.resumeAll(s, from)
	}
	again := func(m *member) {
		if m != nil && !m.dirty {
			m.dirty = true
			s.dirty = append(s.dirty, m)
			h.expect(m, now)
		}
	}
	for _, m := range s.members {
		p := m.topic.part
		if from[p] <= h.history[p].since {
			again(m)
		}
	}
	for p, revision := range from {
		if revision > h.history[p].since {
			for c := range h.history[p].after(revision - 1) {
				again(s.members[c.user])
			}
		}
	}
	for _, m := range s.members {
		if !m.dirty {
			m.blind, m.topic.blind = true, true
		}
	}
	return true
}

func (h *hub) resumeAll(s *Subscription, from map[int]uint64) bool {
	wall := h.r.wall()
	for p, revision := range from {
		if revision <= h.history[p].since {
			return false
		}
		for c := range h.history[p].after(revision - 1) {
			if s.changed[c.user] != nil {
				continue
			}
			var u store.User
			if slot := h.r.parts[p].table.find(c.user); slot != nil && slot.has(shown) {
				state := h.r.names.unpack(slot.sessions)
				u = h.r.online(c.user, &state)
			} else if c.known {
				u = h.r.away(c.user, c.seen, wall)
			} else {
				continue // was not online, and is not
			}
			s.changed[c.user] = &u
		}
	}
	return true
}

// remove ends the subscription to users.
func (h *hub) remove(s *Subscription, users []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, user := range users {
		if m := s.members[user]; m != nil {
			h.removeMember(s, m)
		}
	}
	s.fresh = slices.DeleteFunc(s.fresh, func(m *member) bool { return m.gone })
	s.dirty = slices.DeleteFunc(s.dirty, func(m *member) bool { return m.gone })
}

func (h *hub) removeMember(s *Subscription, m *member) {
	t := m.topic
	last := t.members[len(t.members)-1]
	t.members[m.index], last.index = last, m.index
	t.members[len(t.members)-1] = nil
	t.members = t.members[:len(t.members)-1]
	h.members--
	s.setOwed(m, false)
	s.setMust(m, false)
	delete(s.members, t.user)
	s.set.remove(t.user, t.part)
	m.gone = true
	h.drop(t)
}

// leave removes a subscription.
func (h *hub) leave(s *Subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(h.subs, s)
	delete(h.all, s)
	for _, m := range s.members {
		h.removeMember(s, m)
	}
	s.fresh, s.dirty, s.changed = nil, nil, nil
}

// health tells Redis' clock at the last poll, and whether some partition that the users are in cannot be answered for.
func (r *Replica) health(set *userSet) (asOf time.Time, degraded bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	now := r.now()
	for p := range set.touched {
		part := r.parts[p]
		degraded = degraded || !part.fresh(now) || !part.complete
	}
	return r.asOf, degraded
}
