package store

import (
	"maps"
	"slices"
	"time"
)

// view is the lease table as the member saw it last.
type view struct {
	table *table
	peers map[Epoch]Peer
	read  time.Time
}

func newView(t *table) *view {
	v := &view{table: t, peers: map[Epoch]Peer{}, read: time.Now()}
	for e := range t.deadlines {
		if r, ok := t.records[e]; ok && t.live(e) && !e.External() {
			v.peers[e] = r.peer(e)
		}
	}
	return v
}

// live leaves the holders on live gateways. An external server is none: nobody hands it anything.
func (v *view) live(list []Holder) []Holder {
	return slices.DeleteFunc(list, func(h Holder) bool { return h.Epoch.External() || !v.table.live(h.Epoch) })
}

// settle leaves the holders on live epochs, if the lease table knows the epochs of all; else it returns them all, and false.
func (v *view) settle(list []Holder) ([]Holder, bool) {
	live := 0
	for i := range list {
		deadline, ok := v.table.deadlines[list[i].Epoch]
		if list[i].Epoch.External() {
			continue
		}
		if !ok {
			return list, false
		}
		if deadline > v.table.now {
			live++
		}
	}
	if live < len(list) {
		list = v.live(list)
	}
	return list, true
}

// Peer returns a gateway that was live a second ago, the caller included.
func (m *Member) Peer(e Epoch) (Peer, bool) {
	p, ok := m.view.Load().peers[e]
	return p, ok
}

// Gateways returns the gateways that were live when the lease table was last read, which [Store.Keep] does every second, in
// no order.
func (s *Store) Gateways() []Peer {
	t := s.latest.Load()
	if t == nil {
		return nil
	}
	return newView(t).list()
}

// Peers returns the gateways that were live a second ago, the caller included, in no order.
func (m *Member) Peers() []Peer {
	return m.view.Load().list()
}

// Seen is when the lease table was read last, which is what [Member.Peers] tells of.
func (m *Member) Seen() time.Time { return m.view.Load().read }

func (v *view) list() []Peer { return slices.Collect(maps.Values(v.peers)) }

// waiter is a Locate, or an append that is done, that waits for the next look at the lease table.
type waiter struct {
	list  []Holder
	done  func([]Holder, error)
	since time.Time
}

// unknownPatience is how long an answer waits for a look that succeeds. It is longer than the connection to one server
// takes to come back while the others have theirs; an outage of the lease table lasts longer, but then nobody joins.
const unknownPatience = 2 * time.Second

// takeWaiting returns the locates that wait for a look at the lease table; it is called before the look.
func (m *Member) takeWaiting() []waiter {
	m.mu.Lock()
	defer m.mu.Unlock()
	waiting := m.waiting
	m.waiting = nil
	return waiting
}

// waitOn has locates wait for another look, because the table could not be read: an epoch that is too young to be known is
// not a dead one. Those that have waited long are told of it as if it was live, which costs no more than a push that nobody
// takes.
func (m *Member) waitOn(waiting []waiter) {
	late := 0
	for late < len(waiting) && time.Since(waiting[late].since) > unknownPatience {
		late++
	}
	m.mu.Lock()
	m.waiting = append(slices.Clone(waiting[late:]), m.waiting...)
	m.mu.Unlock()
	v := m.view.Load()
	for _, w := range waiting[:late] {
		w.done(v.notDead(w.list), nil)
	}
}

// notDead leaves the holders on epochs that are live, or not known.
func (v *view) notDead(list []Holder) []Holder {
	return slices.DeleteFunc(list, func(h Holder) bool {
		_, known := v.table.deadlines[h.Epoch]
		return h.Epoch.External() || known && !v.table.live(h.Epoch)
	})
}

// answer answers locates by what is known now.
func (m *Member) answer(waiting []waiter) {
	v := m.view.Load()
	for _, w := range waiting {
		w.done(v.live(w.list), nil)
	}
}
