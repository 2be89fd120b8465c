package replica

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/imcluster/imcluster/presence/store"
)

const (
	// coalesce is the least time between two events of a subscription, bookmarkIdle the longest.
	coalesce     = 100 * time.Millisecond
	bookmarkIdle = 15 * time.Second
	// tickPause is the clock of all subscriptions: none has a timer.
	tickPause = 25 * time.Millisecond
	// askAgain is when Redis is asked again for watched users it could not tell of.
	askAgain = time.Second
	// resolveAtOnce is for how many watched users Redis is asked at a time.
	resolveAtOnce = 5000
	// ageStep is how many partitions are searched every second for watched users who are forgotten by now: once a minute each.
	ageStep = 3
)

// hub tells subscriptions of changes. A user who is watched has one topic, however many watch; a change costs the making of one
// answer, and 50 ns for each who watches. Locks are taken in the order of hub, Subscription, Replica.
type hub struct {
	r *Replica
	// marks are up to where of each partition everybody was told.
	marks [store.Partitions]atomic.Pointer[mark]
	// generations counts, from 1 on, how often a mark got another one.
	generations atomic.Uint64
	// owingAll counts the topics that subscriptions to everybody are still to be told of.
	owingAll atomic.Int64
	wake     chan struct{} // for resolveLoop

	mu      sync.Mutex
	opened  bool
	closed  bool
	loading int // partitions that were never loaded
	topics  [store.Partitions]map[string]*topic
	members int // subscribers of all topics
	subs    map[*Subscription]struct{}
	all     map[*Subscription]struct{} // those of subs that are to everybody
	history [store.Partitions]history
	// late are subscriptions with changes that came too soon after the last event.
	late []*Subscription
	// queue are topics that Redis has to be asked about; unsettled those about which it could not tell.
	queue     []*topic
	unsettled map[*topic]struct{}
	unsure    map[*topic]struct{}
	ageing    int // the partition to be searched next
	degraded  [store.Partitions]bool
	next      chan struct{} // closed at the next poll
}

// mark is a revision of a partition.
type mark struct {
	generation string
	revision   uint64
}

// topic is a user who is watched. Guarded by hub.mu, but for the state.
type topic struct {
	user string
	part int
	// state is what everybody who watches is to know; nil while it is not known yet. What it points to never changes.
	state   atomic.Pointer[store.User]
	members []*member
	version uint64 // counts what facts said of the user
	queued  bool   // waits to be asked about
	asking  bool   // is being asked about
	// owing: some member is owed something; blind: some member is blind.
	owing, blind bool
	// forAll: subscriptions to everybody are to be told, too, when it is known.
	forAll bool
}

// member is a subscription to a topic.
type member struct {
	sub   *Subscription
	topic *topic
	index int // in topic.members

	// Guarded by sub.mu.
	fresh bool // to be told in the next snapshot
	dirty bool // to be told in the next event
	must  bool // to be told as soon as it is known
	owed  bool // there may be something to tell that is not known yet: no token may go beyond it
	// unsure: what is known is too old for who did not know it. They are told that it is not known.
	unsure bool
	// blind: resumed, and was told nothing. The state of the topic may be ahead of the facts that the token was, if it is from
	// Redis: the next fact is told even if it changes nothing.
	blind bool
	gone  bool
}

func newHub(r *Replica) *hub {
	h := &hub{r: r, wake: make(chan struct{}, 1), subs: map[*Subscription]struct{}{}, all: map[*Subscription]struct{}{},
		loading: store.Partitions, unsettled: map[*topic]struct{}{}, unsure: map[*topic]struct{}{}, next: make(chan struct{})}
	for p := range h.topics {
		h.topics[p] = map[string]*topic{}
		h.marks[p].Store(&mark{})
	}
	h.generations.Store(1)
	return h
}

// polled lets those go on who wait for facts.
func (h *hub) polled() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.advance()
}

func (h *hub) advance() {
	close(h.next)
	h.next = make(chan struct{})
}

// open lets subscriptions in.
func (h *hub) open() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.opened = true
	h.advance()
}

// close ends all subscriptions.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for s := range h.subs {
		s.end()
	}
}

// tell publishes changes of a partition, and then that all facts up to its revision are told.
func (h *hub) tell(part *partition, changes []change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := part.number
	for i := range changes {
		c := &changes[i]
		h.history[p].add(c)
		t := h.topics[p][c.user]
		if t == nil && len(h.all) == 0 {
			continue
		}
		switch {
		case c.online || c.known:
			u := h.r.answer(part, c)
			if t != nil {
				t.version++
				h.set(t, u, true)
				h.settleAll(t, u)
			}
			if !c.back && (c.online || c.was) {
				h.tellAll(u)
			}
		case t != nil:
			t.version++
			h.owe(t)
			h.resolve(t)
		}
	}
	h.marks[p].Store(&mark{part.generation, part.revision})
}

// answer is what is to be told of a user who has changed.
func (r *Replica) answer(part *partition, c *change) *store.User {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var u store.User
	if s := part.table.find(c.user); s != nil && s.has(shown) {
		state := r.names.unpack(s.sessions)
		u = r.online(strings.Clone(c.user), &state)
	} else {
		u = r.away(strings.Clone(c.user), c.seen, r.wall())
	}
	return &u
}

// set notes what is known of a topic for certain, by a fact or from Redis, and tells everybody who watches if it is something
// else than before. If nothing was known before, and no fact has come, those are told who wait for it.
func (h *hub) set(t *topic, u *store.User, fact bool) {
	was := t.state.Load()
	delete(h.unsettled, t)
	delete(h.unsure, t)
	changed := was == nil || !same(was, u)
	if changed {
		t.state.Store(u)
	} else if !t.owing && (!fact || !t.blind) {
		return
	}
	t.owing, t.blind = false, t.blind && !fact
	now := h.r.now()
	for _, m := range t.members {
		if m.sub.settle(m, now, changed && (fact || was != nil), changed, fact) {
			h.late = append(h.late, m.sub)
		}
	}
}

// owe notes that there may be something to tell of a topic that is not known yet.
func (h *hub) owe(t *topic) {
	t.owing = true
	for _, m := range t.members {
		m.sub.owe(m)
	}
}

// tellAll tells the subscriptions to everybody.
func (h *hub) tellAll(u *store.User) {
	now := h.r.now()
	for s := range h.all {
		if s.notifyAll(u, now) {
			h.late = append(h.late, s)
		}
	}
}

// settleAll tells the subscriptions to everybody of a topic if they are owed that.
func (h *hub) settleAll(t *topic, u *store.User) {
	if !t.forAll {
		return
	}
	h.tellAll(u)
	t.forAll = false
	h.owingAll.Add(-1) // after they have it: no token may come in between
	h.drop(t)
}

// same tells whether two answers say the same.
func same(a, b *store.User) bool {
	return a.State == b.State && a.Reason == b.Reason && a.Status == b.Status && a.Text == b.Text &&
		a.LastSeen.Equal(b.LastSeen) && slices.EqualFunc(a.Devices, b.Devices, func(a, b store.Device) bool {
		return a.ID == b.ID && a.Platform == b.Platform && a.Gateway == b.Gateway && a.LoginTime.Equal(b.LoginTime)
	})
}

// reloaded compares what was known of a partition with what there is now. Who is online is told at once; of the others Redis
// knows when they were last seen. What happened in between is not known one by one: who resumes from before is told of
// everybody.
func (h *hub) reloaded(old, part *partition) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := part.number
	h.history[p] = history{since: part.revision}
	for _, t := range h.topics[p] {
		t.version++
		if u := h.r.shownIn(part, t.user); u != nil {
			h.set(t, u, true)
			h.settleAll(t, u)
			continue
		}
		h.owe(t)
		h.resolve(t)
	}
	switch {
	case old == nil:
		h.loading--
	case len(h.all) > 0:
		h.reloadedAll(old, part)
	}
	h.marks[p].Store(&mark{part.generation, part.revision})
	h.generations.Add(1) // after it: who computes a digest in between does so again
}

// shownIn is the answer about a user who is shown as online, else nil.
func (r *Replica) shownIn(part *partition, user string) *store.User {
	r.mu.RLock()
	defer r.mu.RUnlock()
	s := part.table.find(user)
	if s == nil || !s.has(shown) {
		return nil
	}
	state := r.names.unpack(s.sessions)
	u := r.online(s.user, &state)
	return &u
}

// reloadedAll tells the subscriptions to everybody of what a reload has changed.
func (h *hub) reloadedAll(old, part *partition) {
	h.r.mu.RLock()
	var gone []string
	var changed []*store.User
	for i := range old.table.slots {
		s := &old.table.slots[i]
		if now := part.table.find(s.user); s.has(shown) && (now == nil || !now.has(shown)) {
			gone = append(gone, s.user)
		}
	}
	for i := range part.table.slots {
		s := &part.table.slots[i]
		if !s.has(shown) {
			continue
		}
		is := h.r.names.unpack(s.sessions)
		if before := old.table.find(s.user); before != nil && before.has(shown) {
			if was := h.r.names.unpack(before.sessions); !differ(&was, &is) {
				continue
			}
		}
		u := h.r.online(s.user, &is)
		changed = append(changed, &u)
	}
	h.r.mu.RUnlock()
	for _, u := range changed {
		h.tellAll(u)
	}
	for _, user := range gone {
		t := h.topic(part.number, user)
		if !t.forAll {
			t.forAll = true
			h.owingAll.Add(1)
		}
		h.resolve(t)
	}
}

// renamed looks again at users whose pod had no name when they came.
func (h *hub) renamed() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for p := range h.topics {
		part := h.r.part(p)
		for _, t := range h.topics[p] {
			if u := t.state.Load(); part != nil && u != nil && slices.ContainsFunc(u.Devices, func(d store.Device) bool { return d.Gateway == "" }) {
				if u := h.r.shownIn(part, t.user); u != nil {
					h.set(t, u, true)
				}
			}
		}
	}
}

// topic returns the topic of a user, a new one if need be.
func (h *hub) topic(part int, user string) *topic {
	t := h.topics[part][user]
	if t == nil {
		t = &topic{user: strings.Clone(user), part: part}
		h.topics[part][t.user] = t
	}
	return t
}

// drop forgets a topic that nobody watches.
func (h *hub) drop(t *topic) {
	if len(t.members) == 0 && !t.forAll && h.topics[t.part][t.user] == t {
		delete(h.topics[t.part], t.user)
		delete(h.unsettled, t)
		delete(h.unsure, t)
	}
}
