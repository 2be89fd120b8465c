package watch

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	presencev1 "github.com/imcluster/imcluster/api/presence/v1"
	"github.com/imcluster/imcluster/api/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSubscribersGetASnapshotAndThenChanges(t *testing.T) {
	h, p := start(t, 10)
	p.set(online("a", "ios"), offline("b", 5))
	w, other := newWatcher(t, h), newWatcher(t, h)
	w.must(Edit{Add: []string{"a", "b", "a", "c"}}, "a online", "b offline", "c unknown")
	other.must(Edit{Add: []string{"c"}}, "c unknown")
	p.set(offline("a", 7), online("c", "web"), online("nobody asked for", ""))
	w.expect("a offline", "c online")
	other.expect("c online")
	p.set(offline("a", 7)) // said again, it is no change
	p.set(offline("a", 8))
	w.expect("a offline")

	w.must(Edit{Remove: []string{"a", "a", "never there"}})
	w.must(Edit{Add: []string{"b", "c"}})
	p.set(online("a", ""), online("b", ""))
	w.expect("b online")
	w.must(Edit{Replace: true, Add: []string{"c", "a"}}, "a online")
	p.set(offline("b", 9))
	p.set(offline("a", 9), offline("c", 9))
	w.expect("a offline", "c offline")
	w.must(Edit{Replace: true})
	p.set(online("a", ""), online("c", ""))
	other.expect("c offline", "c online")
	if got := w.told(); got != nil {
		t.Errorf("told %q without a subscription", got)
	}
	if s := h.Stats(); s.Subscriptions != 1 || !s.Live {
		t.Errorf("%+v", s)
	}
}

// TestAListThatWouldBeTooLongStaysAsItIs, also if only one user is too many, or a million.
func TestAListThatWouldBeTooLongStaysAsItIs(t *testing.T) {
	h, p := start(t, 3)
	w := newWatcher(t, h)
	w.must(Edit{Add: []string{"a", "b"}}, "a unknown", "b unknown")
	million := make([]string, 1_000_000)
	for i := range million {
		million[i] = fmt.Sprint("user", i)
	}
	for name, e := range map[string]Edit{
		"one more": {Add: []string{"c", "d"}}, "other ones": {Replace: true, Add: []string{"c", "d", "e", "f"}}, "a million": {Add: million},
	} {
		if _, err := w.edit(e); !errors.Is(err, ErrTooMany) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(h.topics); n > 10 {
		t.Errorf("presence is asked about %d users", n)
	}
	p.set(online("a", ""), online("b", ""), online("c", ""), online("d", ""), online("user0", ""))
	w.expect("a online", "b online")
	w.must(Edit{Replace: true, Add: []string{"c", "d", "c", "b"}}, "c online", "d online")
}

// TestPresenceIsAskedOnlyAboutWhoIsWanted, and still about who was until a moment ago.
func TestPresenceIsAskedOnlyAboutWhoIsWanted(t *testing.T) {
	h, p := start(t, 10)
	w := newWatcher(t, h)
	w.must(Edit{Add: []string{"a", "b"}}, "a unknown", "b unknown")
	h.Leave(w.sub)
	if h.take(time.Now()); len(h.topics) != 2 {
		t.Fatalf("%d users are left", len(h.topics))
	}
	again := newWatcher(t, h)
	again.must(Edit{Add: []string{"a"}}, "a unknown") // without asking
	h.mu.Lock()
	h.forgetLocked(time.Now().Add(2 * linger))
	h.mu.Unlock()
	again.must(Edit{Add: []string{"b"}}, "b unknown") // before presence knows that it went
	eventually(t, "presence knows whom to watch", func() bool { return slices.Equal(p.watched(), []string{"a", "b"}) })
	p.set(online("a", ""), online("b", ""))
	again.expect("a online", "b online")
}

// TestOnlyDifferencesAreToldWhenPresenceIsBack: what changed while it was away, once, and nothing else.
func TestOnlyDifferencesAreToldWhenPresenceIsBack(t *testing.T) {
	for name, forget := range map[string]bool{"from the token": false, "with a new list": true} {
		t.Run(name, func(t *testing.T) {
			h, p := start(t, 10)
			p.set(online("a", ""), online("b", ""), offline("c", 3))
			p.forget = forget
			w := newWatcher(t, h)
			w.must(Edit{Add: []string{"a", "b", "c"}}, "a online", "b online", "c offline")
			gone := status.Error(codes.Unavailable, "gone")
			p.fail(gone, gone)
			eventually(t, "the hub knows", func() bool { return !h.Stats().Live })
			p.set(offline("b", 4), online("d", ""))
			p.set(online("c", ""))
			p.set(offline("c", 3))
			p.setAway(nil)
			w.expect("b offline")
			w.must(Edit{Add: []string{"d"}}, "d online")
			p.set(online("b", ""))
			w.expect("b online")
			last := p.tokens[len(p.tokens)-1]
			if forget != (last == "") {
				t.Errorf("begun with the tokens %q", p.tokens)
			}
		})
	}
}

// TestFaultsChangeNobody: who cannot be found out stays as he was.
func TestFaultsChangeNobody(t *testing.T) {
	h, p := start(t, 10)
	p.set(online("a", ""), unavailable("b"))
	w := newWatcher(t, h)
	w.must(Edit{Add: []string{"a", "b"}}, "a online", "b unknown")
	p.set(unavailable("a"))
	p.set(online("b", ""))
	w.expect("b online")
	if got, err := newWatcher(t, h).edit(Edit{Add: []string{"a"}}); err != nil || !slices.Equal(got, []string{"a online"}) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestNobodyNewWhilePresenceIsAway(t *testing.T) {
	h, p := start(t, 10)
	w := newWatcher(t, h)
	w.must(Edit{Add: []string{"a", "b"}}, "a unknown", "b unknown")
	gone := status.Error(codes.Unavailable, "gone")
	p.fail(gone, gone)
	eventually(t, "the hub knows", func() bool { return !h.Stats().Live })

	c, err := h.Begin(w.sub, Edit{Replace: true, Add: []string{"c"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Wait(ctx); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("waited: %v", err)
	}
	w.must(Edit{Remove: []string{"a"}})
	waited := make(chan error, 1)
	if c, err = h.Begin(w.sub, Edit{Add: []string{"d"}}); err != nil {
		t.Fatal(err)
	}
	go func() { waited <- c.Wait(t.Context()) }()
	h.mu.Lock()
	h.since = time.Now().Add(-patience - time.Second)
	h.mu.Unlock()
	if _, err := h.Begin(w.sub, Edit{Add: []string{"e"}}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("long away: %v", err)
	}
	p.set(online("b", ""))
	p.setAway(nil)
	if err := <-waited; err != nil {
		t.Fatal(err)
	}
	if s := c.Commit(); s.Count != 2 || len(s.Presence) != 1 {
		t.Errorf("%+v", s)
	}
	w.expect("b online")
	if len(h.waiting)+len(h.paused) > 0 {
		t.Errorf("still waiting: %v, %v", h.waiting, h.paused)
	}
}

// TestALongListGoesInParts, and is not too long for a message.
func TestALongListGoesInParts(t *testing.T) {
	h, p := start(t, 3*partUsers)
	users := make([]string, 2*partUsers+1)
	for i := range users {
		users[i] = fmt.Sprintf("user %d %s", i, strings.Repeat("x", 100))
	}
	w := newWatcher(t, h)
	if got, err := w.edit(Edit{Add: users}); err != nil || len(got) != len(users) {
		t.Fatalf("%d of %d, %v", len(got), len(users), err)
	}
	if len(p.lists) < 3 {
		t.Errorf("it came in %d parts", len(p.lists))
	}
	p.set(online(users[2*partUsers], ""))
	w.expect(users[2*partUsers] + " online")
}

// sharing is a sink that keeps the frames that it gets.
type sharing struct {
	codec wire.Codec
	got   [][]byte
}

func (s *sharing) Changed(b *Batch) { s.got = append(s.got, b.Frame(s.codec)) }

// TestOneFrameForAllWhoAreToldTheSame, in each codec: not one each.
func TestOneFrameForAllWhoAreToldTheSame(t *testing.T) {
	h, p := start(t, 10)
	const n = 100
	sinks := make([]*sharing, n)
	for i := range sinks {
		sinks[i] = &sharing{codec: wire.Codec(i % 2)}
		w := newWatcher(t, h)
		w.sub = NewSubscriber(sinks[i])
		users := []string{"a"}
		if i >= n/2 {
			users = append(users, "b")
		}
		if _, err := w.edit(Edit{Add: users}); err != nil {
			t.Fatal(err)
		}
	}
	p.set(online("a", "ios"))
	p.set(offline("a", 5), offline("b", 6))
	eventually(t, "all are told", func() bool { return h.Stats().Changes == 3 })
	p.fail(status.Error(codes.Unavailable, "gone"), nil) // its end comes after all were told
	eventually(t, "the stream is back", func() bool { return h.Stats().Streams == 2 })
	for event, want := range []int{2, 4} {
		frames := map[*byte]string{}
		for _, s := range sinks {
			fr, err := s.codec.DecodeServer(s.got[event])
			if err != nil || fr.Type != wire.TypePresenceEvent {
				t.Fatalf("%q: %v", s.got[event], err)
			}
			frames[&s.got[event][0]] = fmt.Sprint(fr.Presence)
		}
		if len(frames) != want {
			t.Errorf("event %d: %d frames, want %d: %v", event, len(frames), want, frames)
		}
	}
}

// TestWhoIsDueIsToldTheNewest: a frame for one who was busy has the states of now.
func TestWhoIsDueIsToldTheNewest(t *testing.T) {
	h, p := start(t, 10)
	w := newWatcher(t, h)
	w.must(Edit{Add: []string{"a", "b"}}, "a unknown", "b unknown")
	due := map[*Topic]struct{}{h.topics["a"]: {}, h.topics["b"]: {}}
	p.set(online("a", ""), online("b", ""))
	p.set(offline("a", 3), offline("b", 3))
	w.expect("a online", "b online", "a offline", "b offline")
	for left := 1; left >= 0; left-- {
		fr, err := wire.JSON.DecodeServer(h.Frame(wire.JSON, due, 1))
		if err != nil || len(fr.Presence) != 1 || fr.Presence[0].State != wire.StateOffline || len(due) != left {
			t.Fatalf("%+v, %v, %d left", fr, err, len(due))
		}
	}
}

// TestIndexOfSubscriptions against a model: whatever is subscribed to and given up, each end knows the other.
func TestIndexOfSubscriptions(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	topics := make([]*Topic, 20)
	subs := make([]*Subscriber, 20)
	model := map[*Subscriber]map[*Topic]bool{}
	for i := range topics {
		topics[i], subs[i] = &Topic{user: fmt.Sprint(i)}, NewSubscriber(nil)
		model[subs[i]] = map[*Topic]bool{}
	}
	for range 20000 {
		s, x := subs[r.IntN(len(subs))], topics[r.IntN(len(topics))]
		if model[s][x] {
			disconnect(s, s.positions([]*Topic{x})[x])
			delete(model[s], x)
		} else {
			connect(s, x)
			model[s][x] = true
		}
		for _, s := range subs {
			if len(s.links) != len(model[s]) {
				t.Fatalf("%d subscriptions, want %d", len(s.links), len(model[s]))
			}
			for i, l := range s.links {
				if e := l.topic.edges[l.at]; !model[s][l.topic] || e.sub != s || int(e.at) != i {
					t.Fatalf("subscription %d: %+v, whose other end is %+v", i, l, e)
				}
			}
		}
	}
}

// TestSubscriptionsAreCheap measures what one takes of connections with 1,000 each, to the same users and to others.
func TestSubscriptionsAreCheap(t *testing.T) {
	const most = 1000
	for _, tc := range []struct {
		name   string
		n      int // connections
		user   func(connection, i int) string
		budget float64 // bytes
	}{
		{"same users", 1000, func(_, i int) string { return fmt.Sprintf("user-%012d", i) }, 48},
		{"different users", 200, func(c, i int) string { return fmt.Sprintf("user-%06d%06d", c, i) }, 330},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := New(Config{MaxSubscriptions: most, Key: func() string { return "" }})
			h.setLive(true)
			subs := make([]*Subscriber, tc.n)
			before := heap()
			for c := range subs {
				subs[c] = NewSubscriber(nil)
				users := make([]string, most)
				for i := range users {
					users[i] = tc.user(c, i)
				}
				change, err := h.Begin(subs[c], Edit{Add: users})
				if err != nil {
					t.Fatal(err)
				}
				list := &presencev1.WatchResponse{}
				for _, u := range users {
					list.Users = append(list.Users, online(u, "ios"))
				}
				h.take(time.Now())
				h.apply(list)
				change.Commit()
			}
			got := float64(heap()-before) / float64(tc.n*most)
			t.Logf("%.0f bytes a subscription", got)
			if got > tc.budget {
				t.Errorf("%.0f bytes a subscription, want at most %.0f", got, tc.budget)
			}
			runtime.KeepAlive(h)
			for _, s := range subs {
				h.Leave(s)
			}
			h.mu.Lock()
			h.forgetLocked(time.Now().Add(2 * linger))
			h.mu.Unlock()
			if s := h.Stats(); s.Subscriptions != 0 || s.Users != 0 {
				t.Errorf("left over: %+v", s)
			}
		})
	}
}

func heap() int64 {
	for range 3 { // pools and finalizers need several
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
