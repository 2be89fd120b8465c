package watch

import (
	"encoding/binary"
	"slices"

	presencev1 "github.com/imcluster/imcluster/api/presence/v1"
	"github.com/imcluster/imcluster/api/wire"
)

// event is what presence said at once of users whom somebody subscribed to.
type event struct {
	asOf     int64
	topics   []*Topic
	states   []*State                 // of the topics
	elements [wire.NumCodecs][][]byte // of the topics; nil until somebody needs them
}

// element is a topic as a part of a frame. It is encoded once, however many frames it is in.
func (e *event) element(codec wire.Codec, i uint32) []byte {
	if e.elements[codec] == nil {
		e.elements[codec] = make([][]byte, len(e.topics))
	}
	if e.elements[codec][i] == nil {
		p := e.states[i].presence(e.topics[i].user)
		e.elements[codec][i] = codec.AppendPresence(make([]byte, 0, 128), &p)
	}
	return e.elements[codec][i]
}

// Batch is what is told to all who subscribed to the same of the users who changed. It is used by the goroutine that calls
// [Sink.Changed], and while that is called.
type Batch struct {
	event  *event
	which  []uint32 // in event.topics
	frames [wire.NumCodecs][]byte
}

// Len is how many users changed.
func (b *Batch) Len() int { return len(b.which) }

// Frame is the encoded event, which all who use the codec share: it must not be changed.
func (b *Batch) Frame(codec wire.Codec) []byte {
	if b.frames[codec] == nil {
		elements := make([][]byte, len(b.which))
		size := 64
		for n, i := range b.which {
			elements[n] = b.event.element(codec, i)
			size += len(elements[n]) + 1
		}
		b.frames[codec] = codec.AppendEvent(make([]byte, 0, size), b.event.asOf, elements...)
	}
	return b.frames[codec]
}

// Topics adds who changed to a set.
func (b *Batch) Topics(to map[*Topic]struct{}) {
	for _, i := range b.which {
		to[b.event.topics[i]] = struct{}{}
	}
}

// Frame takes up to most topics out of a set, and encodes an event of how they are by now.
func (h *Hub) Frame(codec wire.Codec, topics map[*Topic]struct{}, most int) []byte {
	f := wire.Frame{Type: wire.TypePresenceEvent, AsOf: h.asOf.Load()}
	for t := range topics {
		if len(f.Presence) == most {
			break
		}
		delete(topics, t)
		f.Presence = append(f.Presence, t.state.Load().presence(t.user)) // a topic that changed has one
	}
	return codec.Append(make([]byte, 0, 64+128*len(f.Presence)), &f)
}

type delivery struct {
	sub   *Subscriber
	batch *Batch
}

// apply takes over what presence said, and tells the subscribers.
func (h *Hub) apply(m *presencev1.WatchResponse) {
	e := &event{asOf: m.GetAsOfMs()}
	h.mu.Lock()
	if e.asOf > 0 {
		h.asOf.Store(e.asOf)
	}
	h.degraded = m.GetDegraded()
	if token := m.GetToken(); token != "" {
		h.token = token
	}
	for _, u := range m.GetUsers() {
		h.changeLocked(u, e)
	}
	h.groupLocked(e)
	h.mu.Unlock()
	h.events.Add(1)
	h.changes.Add(int64(len(e.topics)))
	h.deliver()
}

// changeLocked takes over how a user is, and adds him to the event if that is news for somebody.
func (h *Hub) changeLocked(u *presencev1.User, e *event) {
	t := h.topics[u.GetUser()]
	if t == nil {
		return
	}
	h.heardLocked(t)
	state := stateOf(u)
	old := t.state.Load()
	// Who is not known any more because of a fault has not changed, as far as anybody can tell.
	if old != nil && (*old == state || state.unavailable()) {
		return
	}
	t.state.Store(&state)
	if !state.unavailable() {
		h.knownLocked(t)
	}
	if old == nil {
		return
	}
	if len(t.edges) > 0 {
		e.topics, e.states = append(e.topics, t), append(e.states, &state)
	}
}

// groupLocked finds out whom to tell of what. Those who are told of the same share a batch.
func (h *Hub) groupLocked(e *event) {
	h.target = h.target[:0]
	if len(e.topics) == 1 {
		b := &Batch{event: e, which: []uint32{0}}
		for _, edge := range e.topics[0].edges {
			h.target = append(h.target, delivery{edge.sub, b})
		}
		return
	}
	for i, t := range e.topics {
		for _, edge := range t.edges {
			s := edge.sub
			if len(s.changed) == 0 {
				h.target = append(h.target, delivery{sub: s})
				if n := len(h.freed); n > 0 {
					s.changed, h.freed = h.freed[n-1], h.freed[:n-1]
				}
			}
			s.changed = append(s.changed, uint32(i))
		}
	}
	batches := map[string]*Batch{}
	var key []byte
	for i := range h.target {
		s := h.target[i].sub
		key = key[:0]
		for _, n := range s.changed {
			key = binary.NativeEndian.AppendUint32(key, n)
		}
		b := batches[string(key)]
		if b == nil {
			b = &Batch{event: e, which: slices.Clone(s.changed)}
			batches[string(key)] = b
		}
		h.target[i].batch = b
		if cap(s.changed) <= keptChanges {
			h.freed = append(h.freed, s.changed[:0])
		}
		s.changed = nil
	}
}

// deliver tells the subscribers, without the mutex: what they do about it takes longer than to find them. Whoever changes its
// list meanwhile gets a snapshot that is as new.
func (h *Hub) deliver() {
	for _, d := range h.target {
		d.sub.sink.Changed(d.batch)
	}
	clear(h.target)
	if cap(h.target) > maxKept {
		h.target = nil
	}
	if len(h.freed) > maxKept {
		h.freed = nil
	}
}

const (
	// maxKept is how many places are kept for the next event, and keptChanges how many of a subscriber's changes.
	maxKept     = 16384
	keptChanges = 64
)
