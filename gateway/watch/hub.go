package watch

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	presencev1 "github.com/imcluster/imcluster/api/presence/v1"
)

const (
	// linger is how long presence is still asked about a user whom nobody wants to know about any more: clients look at
	// one page and then at another, and those that reconnect come with the same list.
	linger = 5 * time.Second
	// patience is how long presence must have been away until changes are refused at once: most often it is back before
	// a client would come again.
	patience = 3 * time.Second
	// faultPatience is how long a change waits for users of whom presence said that it cannot find out how they are: while it
	// starts, or a gateway registers anew, it can a moment later.
	faultPatience = time.Second
	// maxTopics is how many users there may be, which take about 220 MB. Nobody reaches it but by design: clients of 20,000
	// connections who all look at other users.
	maxTopics = 1_000_000
)

// Errors of [Hub.Begin] and [Change.Wait].
var (
	// ErrUnavailable: presence cannot be asked now.
	ErrUnavailable = errors.New("presence cannot be asked now")
	// ErrTooMany: the list would become longer than it may be.
	ErrTooMany = errors.New("too many subscriptions")
)

// Config is what a Hub needs.
type Config struct {
	// Client asks presence.
	Client presencev1.PresenceServiceClient
	// Key returns what proves to presence who asks.
	Key func() string
	// MaxSubscriptions is how long the list of one subscriber may be; required.
	MaxSubscriptions int
	// Logger; nil means no logs.
	Logger *slog.Logger
}

// Hub is the watch. Its methods may be called concurrently.
type Hub struct {
	cfg  Config
	asOf atomic.Int64 // of the last event, Unix milliseconds

	// For metrics.
	links, events, changes, streams atomic.Int64

	mu       sync.Mutex
	topics   map[string]*Topic
	fresh    []*Topic // that presence has not been told of
	removed  []string // likewise, that they are gone; before fresh
	idle     []idleTopic
	waiting  map[*Topic][]*Change
	stream   uint32 // number of the stream of now
	unlisted int    // topics that the stream was begun with and that have not been heard of; 0: the stream is live
	live     bool
	since    time.Time            // when live changed
	paused   map[*Change]struct{} // that wait until live
	degraded bool
	token    string

	kick   chan struct{} // holds a token when there is something to tell presence
	freed  [][]uint32    // for Subscriber.changed; owned by the goroutine of Run
	target []delivery    // likewise
}

type idleTopic struct {
	topic *Topic
	until time.Time
}

// New makes a hub that is of use once it runs.
func New(cfg Config) *Hub {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Hub{cfg: cfg, topics: map[string]*Topic{}, waiting: map[*Topic][]*Change{}, paused: map[*Change]struct{}{},
		since: time.Now(), kick: make(chan struct{}, 1)}
}

// Stats are figures for metrics.
type Stats struct {
	// Users are those that presence is asked about, Subscriptions how often.
	Users, Subscriptions int64
	// Live tells that the stream is up.
	Live bool
	// Events came from presence, with Changes of users that somebody subscribed to; Streams were begun.
	Events, Changes, Streams int64
}

// Stats returns the figures of now.
func (h *Hub) Stats() Stats {
	h.mu.Lock()
	users, live := int64(len(h.topics)), h.live
	h.mu.Unlock()
	return Stats{Users: users, Live: live, Subscriptions: h.links.Load(), Events: h.events.Load(), Changes: h.changes.Load(),
		Streams: h.streams.Load()}
}

// topicLocked returns the topic of a user, pinned, which is made if there is none.
func (h *Hub) topicLocked(user string) (*Topic, error) {
	t := h.topics[user]
	if t == nil {
		if len(h.topics) >= maxTopics {
			h.forgetLocked(time.Now().Add(linger))
		}
		if len(h.topics) >= maxTopics {
			return nil, ErrUnavailable
		}
		t = &Topic{user: user}
		h.topics[user] = t
		h.fresh = append(h.fresh, t)
		h.wake()
	}
	t.pins++
	return t, nil
}

// unpinLocked is what topicLocked has to be followed by.
func (h *Hub) unpinLocked(t *Topic) {
	t.pins--
	h.releaseLocked(t)
}

// releaseLocked notes when nobody wants to know about a user any more.
func (h *Hub) releaseLocked(t *Topic) {
	if t.idle || t.pins > 0 || len(t.edges) > 0 {
		return
	}
	t.idle = true
	h.idle = append(h.idle, idleTopic{t, time.Now().Add(linger)})
}

// forgetLocked takes topics out that have been idle until now.
func (h *Hub) forgetLocked(now time.Time) {
	n := 0
	for ; n < len(h.idle) && h.idle[n].until.Before(now); n++ {
		t := h.idle[n].topic
		t.idle = false
		if t.pins > 0 || len(t.edges) > 0 {
			continue
		}
		t.gone = true
		if t.sent {
			h.heardLocked(t) // never, but nobody waits for it
		}
		delete(h.topics, t.user)
		if t.sent {
			h.removed = append(h.removed, t.user)
		}
	}
	h.idle = append(h.idle[:0], h.idle[n:]...)
}

// wake has the sender look for something to tell presence.
func (h *Hub) wake() {
	select {
	case h.kick <- struct{}{}:
	default:
	}
}
