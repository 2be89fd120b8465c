package replica

import (
	"strings"
	"sync/atomic"
)

// table is what is known of the users of one partition: the sessions of those who have some, and of others when they were
// last seen, of as many as there is room for. It has one lookup for both: most questions of the size that counts are about
// people who are not online. Reading needs a read lock, changing the lock.
type table struct {
	index map[string]uint32
	slots []slot
	free  []uint32

	remembered int    // slots with last seen
	room       int    // how many of those at most
	hand       uint32 // of the clock that makes room
}

// slot is a user. 40 bytes, and 24 in the index.
type slot struct {
	user     string
	sessions string // packed state; empty if there are none
	seen     uint32 // if remembered: s since packBegin; 0 never
	flags    uint32 // atomically, because readers set wanted
}

// Flags of a slot.
const (
	// shown: the sessions are visible to others. It is false of invisible users, who are remembered as if they were offline.
	shown = 1 << iota
	// remembered: seen is known.
	remembered
	// wanted: was asked for since the clock's hand came by.
	wanted
)

func newTable(room int) *table { return &table{index: map[string]uint32{}, room: max(1, room)} }

// find returns the slot of a user, nil if there is none. It is good until the next change.
func (t *table) find(user string) *slot {
	if i, ok := t.index[user]; ok {
		return &t.slots[i]
	}
	return nil
}

// has tells whether a flag is set.
func (s *slot) has(flag uint32) bool { return atomic.LoadUint32(&s.flags)&flag != 0 }

// want notes that the user was asked for.
func (s *slot) want() {
	if !s.has(wanted) {
		atomic.OrUint32(&s.flags, wanted)
	}
}

// make returns the slot of a user, a new one if need be.
func (t *table) make(user string) *slot {
	if s := t.find(user); s != nil {
		return s
	}
	user = strings.Clone(user) // not the whole fact or request that it is part of
	var i uint32
	if n := len(t.free); n > 0 {
		i, t.free = t.free[n-1], t.free[:n-1]
	} else {
		i = uint32(len(t.slots))
		t.slots = append(t.slots, slot{})
	}
	t.index[user] = i
	t.slots[i] = slot{user: user}
	return &t.slots[i]
}

// put sets the sessions of a user, none if packed is empty. Who is shown is not remembered beside.
func (t *table) put(user, packed string, show bool) {
	if packed == "" {
		if s := t.find(user); s != nil {
			s.sessions = ""
			s.flags &^= shown
			t.release(s)
		}
		return
	}
	s := t.make(user)
	s.sessions = packed
	s.flags &^= shown
	if show {
		t.forget(s)
		s.flags |= shown
	}
}

// remember notes when a user who is not shown was last seen, in s since packBegin; 0 is never.
func (t *table) remember(user string, seen uint32) {
	s := t.make(user)
	s.seen = seen
	if s.has(remembered) {
		return
	}
	s.flags |= remembered | wanted
	t.remembered++
	for t.remembered > t.room {
		t.advance()
	}
}

// forget drops what is remembered of a user.
func (t *table) forget(s *slot) {
	if s.has(remembered) {
		s.flags &^= remembered | wanted
		t.remembered--
	}
}

// advance moves the hand of the clock on: who was not asked for since it came by last is forgotten (Corbató's second chance).
func (t *table) advance() {
	s := &t.slots[t.hand%uint32(len(t.slots))]
	t.hand = (t.hand + 1) % uint32(len(t.slots))
	switch {
	case !s.has(remembered):
	case s.has(wanted):
		s.flags &^= wanted
	default:
		t.forget(s)
		t.release(s)
	}
}

// release gives the slot of a user back of whom nothing is known any more.
func (t *table) release(s *slot) {
	if s.sessions != "" || s.has(remembered) {
		return
	}
	i := t.index[s.user]
	delete(t.index, s.user)
	t.slots[i] = slot{}
	t.free = append(t.free, i)
	if len(t.slots) >= 1024 && len(t.free) > len(t.slots)*3/4 {
		t.shrink()
	}
}

// shrink gives memory back: maps never do.
func (t *table) shrink() {
	old := t.slots
	t.index, t.slots, t.free, t.hand = make(map[string]uint32, len(t.index)), make([]slot, 0, len(t.index)), nil, 0
	for i := range old {
		if old[i].user != "" {
			t.index[old[i].user] = uint32(len(t.slots))
			t.slots = append(t.slots, old[i])
		}
	}
}
