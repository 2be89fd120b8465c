package replica

import (
	"time"

	"github.com/imcluster/imcluster/presence/feed"
	"github.com/imcluster/imcluster/presence/store"
)

// partition is the fold of the facts of one partition. Only the goroutine of Run changes it, but for what is remembered of
// users who are not online.
type partition struct {
	number     int
	generation string
	revision   uint64 // of the last fact that was applied
	done       map[feed.Epoch]struct{}
	table      *table

	users, sessions int // that are shown
	perEpoch        map[feed.Epoch]int

	// How far it can be believed.
	polled   time.Duration // on the replica's clock, when it last had all facts that there were
	usable   bool          // the generation is the one in Redis, and the lease table is settled
	complete bool          // usable, and every gateway alive has registered all its sessions: who is not here is not online
	whole    bool          // has been complete
}

// fold makes a partition of what was loaded.
func (n *names) fold(l *store.Loaded, room int) *partition {
	p := &partition{number: l.Part, generation: l.Generation, revision: l.Revision,
		done: map[feed.Epoch]struct{}{}, table: newTable(room), perEpoch: map[feed.Epoch]int{}}
	for _, e := range l.Done {
		p.done[e] = struct{}{}
	}
	for i := range l.Users {
		p.put(n, l.Users[i].ID, &feed.State{}, &l.Users[i].State)
	}
	return p
}

// shownAs tells whether somebody who has this state is seen to be online.
func shownAs(s *feed.State) bool { return len(s.Sessions) > 0 && !s.Status.Invisible() }

// put replaces the state of a user.
func (p *partition) put(n *names, user string, was, is *feed.State) {
	p.count(was, -1)
	p.count(is, +1)
	if len(is.Sessions) == 0 {
		p.table.put(user, "", false)
		return
	}
	var b [256]byte
	p.table.put(user, string(n.pack(b[:0], is)), shownAs(is))
}

func (p *partition) count(s *feed.State, by int) {
	if !shownAs(s) {
		return
	}
	p.users += by
	p.sessions += by * len(s.Sessions)
	for i := range s.Sessions {
		e := s.Sessions[i].Epoch
		if p.perEpoch[e] += by; p.perEpoch[e] == 0 {
			delete(p.perEpoch, e)
		}
	}
}

// touch is what facts have made of a user.
type touch struct {
	user     string
	was, is  feed.State
	known    bool // is tells all: the user had sessions, or a login told the status
	standing bool // a status that is not invisible was set while the user had no session here
	moved    bool // some fact changed what is seen, even if a later one changed it back
	revision uint64
	addr     string // of the last login
	cause    feed.Cause
}

// apply folds facts, which follow the last one, and returns what they did to users, in the order in which they came up.
func (p *partition) apply(n *names, facts []feed.Fact) []change {
	var order []*touch
	byUser := map[string]*touch{}
	touched := func(user string) *touch {
		t := byUser[user]
		if t == nil {
			t = &touch{user: user}
			if s := p.table.find(user); s != nil && s.sessions != "" {
				t.was, t.known = n.unpack(s.sessions), true
				t.is = t.was
			}
			byUser[user] = t
			order = append(order, t)
		}
		return t
	}
	for i := range facts {
		f := &facts[i]
		p.revision = f.Revision
		switch f.Kind {
		case feed.Put, feed.Ended, feed.StatusSet:
			touched(f.User).take(f)
		case feed.EpochDead:
			for _, user := range p.on(n, f.Epoch, order) {
				touched(user).take(f)
			}
		case feed.EpochDone:
			p.done[f.Epoch] = struct{}{}
		}
	}
	changes := make([]change, 0, len(order))
	for _, t := range order {
		p.put(n, t.user, &t.was, &t.is)
		if c, ok := p.judge(t); ok {
			changes = append(changes, c)
		}
	}
	return changes
}

// take folds one fact about the user.
func (t *touch) take(f *feed.Fact) {
	before := t.is
	t.is.Apply(f)
	t.moved = t.moved || shownAs(&before) != shownAs(&t.is) || shownAs(&t.is) && differ(&before, &t.is)
	t.revision = f.Revision
	switch f.Kind {
	case feed.Put:
		t.known, t.addr = true, f.Session.Addr
	case feed.Ended, feed.EpochDead:
		t.cause = f.Cause
	case feed.StatusSet:
		t.standing = t.standing || !f.Status.Invisible()
	}
}

// on returns who has a session on an epoch, those who were touched first.
func (p *partition) on(n *names, e feed.Epoch, order []*touch) (users []string) {
	seen := map[string]struct{}{}
	for _, t := range order {
		seen[t.user] = struct{}{}
		if t.is.On(e) {
			users = append(users, t.user)
		}
	}
	for i := range p.table.slots {
		s := &p.table.slots[i]
		if s.sessions == "" {
			continue
		}
		state := n.unpack(s.sessions)
		if _, ok := seen[s.user]; !ok && state.On(e) {
			users = append(users, s.user)
		}
	}
	return users
}

// change is a user of whom others may see something else than before.
type change struct {
	user     string
	revision uint64
	// online: is seen to be online now; was: before. back: what is seen is the same again.
	online, was, back bool
	// known: of who is not online, seen is when that user was last seen, in s since packBegin. Otherwise Redis knows.
	known bool
	seen  uint32

	addr  string
	cause feed.Cause
}

// judge says whether others may see a change, and remembers when who is not shown any more was last seen. A change that was
// taken back counts as well: another pod may have told of it.
//
// What an invisible user does must leave no trace: it is no change, and nothing is remembered that was not.
func (p *partition) judge(t *touch) (change, bool) {
	c := change{user: t.user, revision: t.revision, online: shownAs(&t.is), was: shownAs(&t.was), addr: t.addr, cause: t.cause}
	switch {
	case c.online:
		c.back = c.was && !differ(&t.was, &t.is)
		return c, t.moved
	case !t.known:
		// Nothing but a status was set, of somebody who is offline, or an end was told twice. What is remembered may be wrong now.
		if s := p.table.find(t.user); s != nil {
			p.table.forget(s)
			p.table.release(s)
		}
		return c, t.standing
	}
	if c.was && t.is.Status.Invisible() {
		c.cause = feed.CauseLogout // as it looks
	}
	view := feed.Visible(false, &t.is.Status, t.is.LastSeen, time.Unix(0, 0), time.Hour) // not aged yet
	c.known, c.seen = true, uint32(since(view.LastSeen))
	if s := p.table.find(t.user); c.was || s != nil && s.has(remembered) {
		p.table.remember(t.user, c.seen)
	}
	return c, t.moved
}

// differ tells whether others see a difference between two states of one who is online.
func differ(a, b *feed.State) bool {
	if a.Status.Show != b.Status.Show || a.Status.Text != b.Status.Text || len(a.Sessions) != len(b.Sessions) {
		return true
	}
	for i := range a.Sessions {
		x, y := &a.Sessions[i], &b.Sessions[i]
		if x.Device != y.Device || x.Epoch != y.Epoch || x.Since != y.Since || x.Platform != y.Platform {
			return true
		}
	}
	return false
}
