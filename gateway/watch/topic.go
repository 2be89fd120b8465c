package watch

import "sync/atomic"

// Topic is a user whom somebody wants to know about, or wanted to a moment ago.
type Topic struct {
	user  string
	state atomic.Pointer[State] // nil until presence has told it

	// Guarded by hub.mu.
	edges  []edge // who subscribed
	pins   int32  // lists that are about to have it
	sent   bool   // presence was told of it by the stream of now
	gone   bool   // not in hub.topics any more
	idle   bool   // in hub.idle
	listed uint32 // the stream that it has been heard of by
}

// edge and link are the two ends of a subscription. Each knows where the other is, so that ending one takes the same time
// however many there are. Measured with 1,000 connections that have 1,000 subscriptions each: 33 bytes a subscription if they
// are to the same users, 224 if each is to another user.
type edge struct {
	sub *Subscriber
	at  uint32 // in sub.links
}

type link struct {
	topic *Topic
	at    uint32 // in topic.edges
}

// Sink is told of changes.
type Sink interface {
	// Changed tells how users are now. It must not block. Calls come one after the other, in the order of the changes.
	Changed(b *Batch)
}

// Subscriber is one who wants to know about users. Its list is changed by one goroutine at a time.
type Subscriber struct {
	sink Sink

	// Guarded by hub.mu.
	links   []link
	left    bool
	changed []uint32 // while changes are handed out: which of them are for it
}

// NewSubscriber returns one with an empty list.
func NewSubscriber(sink Sink) *Subscriber { return &Subscriber{sink: sink} }

// connect makes a subscription that there is not yet.
func connect(s *Subscriber, t *Topic) {
	s.links = append(s.links, link{t, uint32(len(t.edges))})
	t.edges = append(t.edges, edge{s, uint32(len(s.links) - 1)})
}

// disconnect ends the subscription s.links[i]. The last ones take the places that become free.
func disconnect(s *Subscriber, i uint32) {
	l := s.links[i]
	edges := l.topic.edges
	last := len(edges) - 1
	moved := edges[last]
	edges[l.at] = moved
	moved.sub.links[moved.at].at = l.at
	edges[last] = edge{}
	l.topic.edges = shrink(edges[:last])

	last = len(s.links) - 1
	other := s.links[last]
	s.links[i] = other
	if int(i) != last {
		other.topic.edges[other.at].at = i
	}
	s.links[last] = link{}
	s.links = shrink(s.links[:last])
}

// shrink gives memory back when most of it is unused.
func shrink[T any](s []T) []T {
	if cap(s) < 16 || len(s) > cap(s)/4 {
		return s
	}
	return append(make([]T, 0, 2*len(s)), s...)
}

// positions returns where the subscriptions to topics are in the list of s; what is missing there, is missing.
func (s *Subscriber) positions(topics []*Topic) map[*Topic]uint32 {
	wanted := make(map[*Topic]uint32, len(topics))
	for _, t := range topics {
		wanted[t] = 0
	}
	found := make(map[*Topic]uint32, len(wanted))
	for i, l := range s.links {
		if _, ok := wanted[l.topic]; ok {
			found[l.topic] = uint32(i)
		}
	}
	return found
}
