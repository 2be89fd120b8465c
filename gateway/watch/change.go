package watch

import (
	"context"
	"slices"
	"time"

	"github.com/imcluster/imcluster/api/wire"
)

// Change is a change of a subscriber's list. It happens as a whole, or not at all.
type Change struct {
	hub *Hub
	sub *Subscriber
	add []*Topic // pinned, none of them in the list

	// Guarded by hub.mu.
	remove  []*Topic
	missing int // of add, so many are not known yet
	ready   chan struct{}
}

// Edit says how a list is to be changed. Users may repeat, and be in the list already or not.
type Edit struct {
	// Add is who has to be in the list, Remove who must not.
	Add, Remove []string
	// Replace empties the list but for Add.
	Replace bool
}

// Begin begins a change. It does nothing to the list yet; what follows is [Change.Wait]. ErrTooMany means that the list would
// become too long, ErrUnavailable that nothing can be found out of new users now.
func (h *Hub) Begin(s *Subscriber, e Edit) (*Change, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := &Change{hub: h, sub: s, ready: make(chan struct{})}
	has := make(map[*Topic]struct{}, len(s.links))
	for _, l := range s.links {
		has[l.topic] = struct{}{}
	}
	if err := c.addLocked(e.Add, has); err != nil {
		c.cancelLocked()
		return nil, err
	}
	if e.Replace {
		c.replaceLocked(e.Add, has)
	} else {
		c.removeLocked(e.Remove, has)
	}
	if len(s.links)-len(c.remove)+len(c.add) > h.cfg.MaxSubscriptions {
		c.cancelLocked()
		return nil, ErrTooMany
	}
	if len(c.add) > 0 && !h.live && time.Since(h.since) > patience {
		c.cancelLocked()
		return nil, ErrUnavailable
	}
	c.awaitLocked()
	return c, nil
}

// addLocked pins the topics of users who are not in the list. It gives up as soon as there are more than any list may have.
func (c *Change) addLocked(users []string, has map[*Topic]struct{}) error {
	seen := make(map[string]struct{}, min(len(users), c.hub.cfg.MaxSubscriptions+1))
	for _, user := range users {
		if _, again := seen[user]; again {
			continue
		}
		if len(seen) == c.hub.cfg.MaxSubscriptions {
			return ErrTooMany
		}
		seen[user] = struct{}{}
		if t := c.hub.topics[user]; t != nil {
			if _, ok := has[t]; ok {
				continue
			}
		}
		t, err := c.hub.topicLocked(user)
		if err != nil {
			return err
		}
		c.add = append(c.add, t)
	}
	return nil
}

// replaceLocked notes who goes because a list is replaced by users.
func (c *Change) replaceLocked(users []string, has map[*Topic]struct{}) {
	for _, user := range users {
		if t := c.hub.topics[user]; t != nil {
			delete(has, t)
		}
	}
	for t := range has {
		c.remove = append(c.remove, t)
	}
}

func (c *Change) removeLocked(users []string, has map[*Topic]struct{}) {
	for _, user := range users {
		t := c.hub.topics[user]
		if _, ok := has[t]; ok {
			delete(has, t) // once
			c.remove = append(c.remove, t)
		}
	}
}

// awaitLocked counts who is not known yet.
func (c *Change) awaitLocked() {
	for _, t := range c.add {
		if s := t.state.Load(); s == nil || s.unavailable() {
			c.missing++
			c.hub.waiting[t] = append(c.hub.waiting[t], c)
		}
	}
	if len(c.add) > 0 && !c.hub.live { // what is known may be old
		c.missing++
		c.hub.paused[c] = struct{}{}
	}
	if c.missing == 0 {
		close(c.ready)
	}
}

// foundLocked tells that one of what the change waits for is there.
func (c *Change) foundLocked() {
	if c.missing--; c.missing == 0 {
		close(c.ready)
	}
}

// knownLocked tells those who wait for a topic that its state is there.
func (h *Hub) knownLocked(t *Topic) {
	for _, c := range h.waiting[t] {
		c.foundLocked()
	}
	delete(h.waiting, t)
}

// setLive notes whether what is known is how users are now.
func (h *Hub) setLive(live bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.setLiveLocked(live)
}

func (h *Hub) setLiveLocked(live bool) {
	if h.live == live {
		return
	}
	h.live, h.since = live, time.Now()
	if live {
		for c := range h.paused {
			c.foundLocked()
		}
		clear(h.paused)
	}
}

// Wait waits until all is known that the change needs; not for long for what presence cannot find out. What follows is [Change.Commit] or [Change.Cancel]; after an error,
// which is ErrUnavailable when ctx ends first, neither.
func (c *Change) Wait(ctx context.Context) error {
	select {
	case <-c.ready:
		return nil
	default:
	}
	hurry := time.NewTimer(faultPatience)
	defer hurry.Stop()
	for {
		select {
		case <-c.ready:
			return nil
		case <-hurry.C:
			if c.answered() {
				return nil
			}
			hurry.Reset(faultPatience / 4)
		case <-ctx.Done():
			c.Cancel()
			return ErrUnavailable
		}
	}
}

// answered tells whether presence has said something of everybody, if only that it cannot find out.
func (c *Change) answered() bool {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	return c.hub.live && !slices.ContainsFunc(c.add, func(t *Topic) bool { return t.state.Load() == nil })
}

// Cancel leaves the list as it is.
func (c *Change) Cancel() {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	c.cancelLocked()
}

func (c *Change) cancelLocked() {
	for _, t := range c.add {
		c.hub.unpinLocked(t)
		if waiting := slices.DeleteFunc(c.hub.waiting[t], func(o *Change) bool { return o == c }); len(waiting) > 0 {
			c.hub.waiting[t] = waiting
		} else {
			delete(c.hub.waiting, t)
		}
	}
	delete(c.hub.paused, c)
	c.add = nil
}

// Snapshot is how the users are who are new in a list.
type Snapshot struct {
	Presence []wire.Presence
	// Removed are who is not in the list any more. Count is how long it is.
	Removed []*Topic
	Count   int
	// AsOf is when all of this was true, Unix milliseconds. Degraded says that presence has trouble finding out.
	AsOf     int64
	Degraded bool
}

// Peek is how the users are who would be added now.
func (c *Change) Peek() []wire.Presence {
	list := make([]wire.Presence, len(c.add))
	for i, t := range c.add {
		list[i] = t.state.Load().presence(t.user) // Wait waited for it
	}
	return list
}

// Commit changes the list. Changes that its snapshot does not show are told to the sink, maybe before Commit returns.
func (c *Change) Commit() Snapshot {
	h := c.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if c.sub.left {
		c.cancelLocked()
		return Snapshot{}
	}
	if len(c.remove) > 0 {
		h.removeLocked(c.sub, c.remove)
	}
	for _, t := range c.add {
		connect(c.sub, t)
		h.unpinLocked(t)
	}
	h.links.Add(int64(len(c.add) - len(c.remove)))
	return Snapshot{Presence: c.Peek(), Removed: c.remove, Count: len(c.sub.links), AsOf: h.asOf.Load(), Degraded: h.degraded}
}

// removeLocked takes topics out of a list that has them.
func (h *Hub) removeLocked(s *Subscriber, topics []*Topic) {
	at := s.positions(topics)
	for _, t := range topics {
		i := at[t]
		last := uint32(len(s.links) - 1)
		at[s.links[last].topic] = i
		disconnect(s, i)
		h.releaseLocked(t)
	}
}

// Leave empties a list for good.
func (h *Hub) Leave(s *Subscriber) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.left = true
	h.links.Add(-int64(len(s.links)))
	for len(s.links) > 0 {
		t := s.links[len(s.links)-1].topic
		disconnect(s, uint32(len(s.links)-1))
		h.releaseLocked(t)
	}
}
