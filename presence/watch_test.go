package presence_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imcluster/imcluster/internal/testredis"
	"github.com/imcluster/imcluster/presence"
)

// sse is an event of a watch, as the standard has it.
type sse struct {
	kind, id, data string
	hasID          bool
	retry          string
	comment        bool
}

// watching reads a watch.
type watching struct {
	opened
	lines *bufio.Scanner
	known map[string]string // state of each user, by the events so far
	token string
}

// opened is an answer that may go on.
type opened struct {
	status int
	header http.Header
	body   io.ReadCloser // closed at the end of the test, if not before
}

// open begins a watch by whatever request.
func (s *service) open(t *testing.T, method, target, body, lastEventID string) opened {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer api")
	if lastEventID != "" {
		req.Header.Set("Last-Event-ID", lastEventID)
	}
	resp, err := s.HTTP.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return opened{resp.StatusCode, resp.Header, resp.Body}
}

func (s *service) watch(t *testing.T, lastEventID string, users ...string) *watching {
	t.Helper()
	body, err := json.Marshal(map[string][]string{"users": users})
	if err != nil {
		t.Fatal(err)
	}
	resp := s.open(t, http.MethodPost, "/v1/presence:watch", string(body), lastEventID)
	if resp.status != http.StatusOK || resp.header.Get("Content-Type") != "text/event-stream" {
		answer, _ := io.ReadAll(resp.body)
		t.Fatalf("the watch was answered %d %s", resp.status, answer)
	}
	return newWatching(resp)
}

func newWatching(o opened) *watching {
	return &watching{opened: o, lines: bufio.NewScanner(o.body), known: map[string]string{}}
}

// next reads an event; ok is false at the end of the stream.
func (w *watching) next() (e sse, ok bool) {
	begun := false
	for w.lines.Scan() {
		line := w.lines.Text()
		if line == "" && begun {
			return e, true
		}
		begun = true
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "event":
			e.kind = value
		case "id":
			e.id, e.hasID = value, true
		case "data":
			e.data = value
		case "retry":
			e.retry = value
		case "":
			e.comment = true
		}
	}
	return e, false
}

// event reads up to the next event of a kind, folding what comes before and in it.
func (w *watching) event(t *testing.T, kind string) sse {
	t.Helper()
	for {
		e, ok := w.next()
		if !ok {
			t.Fatalf("the stream ended, waiting for %q: %v", kind, w.lines.Err())
		}
		if w.fold(t, e); e.kind == kind {
			return e
		}
	}
}

func (w *watching) fold(t *testing.T, e sse) {
	t.Helper()
	if e.hasID {
		w.token = e.id
	}
	if schema := map[string]string{"snapshot": "PresenceEvent", "change": "PresenceEvent", "bookmark": "Bookmark"}[e.kind]; schema != "" {
		if err := document(t).CheckSchema(schema, []byte(e.data)); err != nil {
			t.Error(err)
		}
	}
	if e.kind != "snapshot" && e.kind != "change" {
		return
	}
	var data struct {
		Users []struct{ User, State, Reason string }
		AsOf  time.Time
	}
	if err := json.Unmarshal([]byte(e.data), &data); err != nil || data.AsOf.IsZero() {
		t.Fatalf("event %s holds %s: %v", e.kind, e.data, err)
	}
	for _, u := range data.Users {
		w.known[u.User] = strings.TrimSuffix(u.State+"/"+u.Reason, "/")
	}
}

// become reads until users are as wanted; no state on the way may be one of never.
func (w *watching) become(t *testing.T, want map[string]string, never ...string) {
	t.Helper()
	for !cmp.Equal(want, w.known) {
		e, ok := w.next()
		if !ok {
			t.Fatalf("the stream ended: %v; known are %v, want %v", w.lines.Err(), w.known, want)
		}
		w.fold(t, e)
		for user, state := range w.known {
			if slices.Contains(never, state) {
				t.Fatalf("%s was said to be %s", user, state)
			}
		}
	}
}

func TestWatchTellsHowUsersAreAndThenWhatChanges(t *testing.T) {
	redis := testredis.Start(t)
	s := startService(t, redis.Addr)
	g := startGateway(t, redis.Addr, "gw-1", "alice")
	s.become(t, []string{"online", "unknown/never_seen"}, "alice", "bob")
	w := s.watch(t, "", "alice", "bob", "alice")
	if e := w.event(t, "snapshot"); e.id == "" {
		t.Error("the snapshot has no id to go on from")
	}
	if diff := cmp.Diff(map[string]string{"alice": "online", "bob": "unknown/never_seen"}, w.known); diff != "" {
		t.Errorf("snapshot: %s", diff)
	}
	g.logIn(t, "bob", 7)
	g.logIn(t, "carol", 8) // nobody asked
	w.become(t, map[string]string{"alice": "online", "bob": "online"}, "offline")
	g.logOut("alice")
	w.become(t, map[string]string{"alice": "offline", "bob": "online"})
}

func TestWatchOfAllTellsWhoIsOnline(t *testing.T) {
	redis := testredis.Start(t)
	s := startService(t, redis.Addr)
	g := startGateway(t, redis.Addr, "gw-1", "alice", "bob")
	g.logOut("bob")
	s.become(t, []string{"online", "offline"}, "alice", "bob")
	w := newWatching(s.open(t, http.MethodGet, "/v1/presence:watch?all=true", "", ""))
	w.become(t, map[string]string{"alice": "online"})
	g.logIn(t, "carol", 8)
	w.become(t, map[string]string{"alice": "online", "carol": "online"})
}

// A caller that was away gets what it missed, from any pod, and no more.
func TestWatchGoesOnWhereItWasOnAnyPod(t *testing.T) {
	redis := testredis.Start(t)
	s, other := startService(t, redis.Addr), startService(t, redis.Addr)
	g := startGateway(t, redis.Addr, "gw-1", "alice", "bob")
	s.become(t, []string{"online", "online", "unknown/never_seen"}, "alice", "bob", "carol")
	w := s.watch(t, "", "alice", "bob", "carol")
	w.event(t, "snapshot")
	_ = w.body.Close()
	g.logOut("alice")
	other.become(t, []string{"offline", "online"}, "alice", "bob")
	for _, pod := range []*service{s, other} {
		again := pod.watch(t, w.token, "alice", "bob", "carol")
		if e, ok := again.next(); !ok || !e.comment {
			t.Fatalf("the stream begins with %+v", e)
		}
		e, ok := again.next()
		if again.fold(t, e); !ok || e.kind != "change" || !cmp.Equal(again.known, map[string]string{"alice": "offline"}) {
			t.Errorf("pod %v resumed with %+v; token %s", pod == s, e, w.token)
		}
	}
}

func TestWatchThatCannotGoOnBeginsAnew(t *testing.T) {
	redis := testredis.Start(t)
	s := startService(t, redis.Addr)
	startGateway(t, redis.Addr, "gw-1", "alice")
	s.become(t, []string{"online"}, "alice")
	w := s.watch(t, "nonsense", "alice")
	if e := w.event(t, "relist"); !e.hasID || e.id != "" || e.data == "" {
		t.Errorf("got %+v: the id that is no good must be forgotten", e)
	}
	if e := w.event(t, "snapshot"); e.id == "" || w.known["alice"] != "online" {
		t.Errorf("got %+v", e)
	}
}

// A failure is nobody's going offline: not for who watches, and not for who begins to.
func TestWatchTakesNobodyOfflineWhileRedisIsPaused(t *testing.T) {
	redis := testredis.Start(t)
	cfg := storeConfig(redis.Addr)
	cfg.LeaseTTL, cfg.Fresh = 5*time.Second, true // or a busy machine lets it end by itself
	s := startService(t, redis.Addr, func(c *presence.Config) { c.Store = cfg })
	g := joinGateway(t, cfg, "gw-1", "alice")
	s.become(t, []string{"online", "unknown/never_seen"}, "alice", "bob")
	before := s.watch(t, "", "alice", "bob")
	before.event(t, "snapshot")
	redis.Pause()
	s.become(t, []string{"unknown/unavailable"}, "alice")
	during := s.watch(t, "", "alice", "bob")
	during.event(t, "snapshot")
	redis.Resume()
	s.become(t, []string{"online"}, "alice")
	g.logIn(t, "bob", 7)
	for _, w := range []*watching{before, during} {
		w.become(t, map[string]string{"alice": "online", "bob": "online"}, "offline")
	}
}

// Whoever watches is told to come back, to another pod, and the pod need not wait for them.
func TestWatchersAreAskedToComeBackWhenThePodStops(t *testing.T) {
	redis := testredis.Start(t)
	s := startService(t, redis.Addr, func(c *presence.Config) { c.ShutdownDelay = time.Millisecond })
	startGateway(t, redis.Addr, "gw-1", "alice")
	s.become(t, []string{"online"}, "alice")
	w := s.watch(t, "", "alice")
	w.event(t, "snapshot")
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()
	var last sse
	for e, ok := w.next(); ok; e, ok = w.next() {
		last = e
	}
	var ms int
	if _, err := fmt.Sscan(last.retry, &ms); err != nil || ms < 100 || ms > 3000 || w.lines.Err() != nil {
		t.Errorf("the stream ended with %+v and %v", last, w.lines.Err())
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestWatchWithoutRedisIsRefusedUntilThePodHasSeenOne(t *testing.T) {
	redis := testredis.Start(t)
	redis.Kill()
	s := startService(t, redis.Addr)
	resp := s.open(t, http.MethodGet, "/v1/presence:watch?user=alice", "", "")
	if resp.status != http.StatusServiceUnavailable || resp.header.Get("Retry-After") == "" {
		t.Errorf("answered %d %v", resp.status, resp.header)
	}
}

func TestMistakesInWatchesAreNamed(t *testing.T) {
	redis := testredis.Start(t)
	s := startService(t, redis.Addr, func(c *presence.Config) { c.MaxHTTPWatchUsers = 2 })
	for _, tc := range []struct{ method, target, body, says string }{
		{"GET", "", "", "send either users"},
		{"GET", "?user=a&all=true", "", "send either users"},
		{"GET", "?all=yes", "", "all: can only be true"},
		{"GET", "?user=", "", "users[0]"},
		{"GET", "?users=a", "", `"users" is not a parameter`},
		{"GET", "?" + url.Values{"user": {"a", "b", "c"}}.Encode(), "", "users: 3 are too many; watch at most 2 at once"},
		{"POST", "", `{"users":[]}`, "users: is empty"},
		{"POST", "", `{"users":["a"],"all":true}`, "send either users"},
		{"POST", "", `{"all":1}`, "all: must be true or false"},
		{"POST", "?user=a", `{"users":["a"]}`, `"user" is not a parameter`},
	} {
		resp := s.open(t, tc.method, "/v1/presence:watch"+tc.target, tc.body, "")
		answer, err := io.ReadAll(resp.body)
		if err != nil || resp.status != http.StatusBadRequest || !strings.Contains(string(answer), strings.ReplaceAll(tc.says, `"`, `\"`)) {
			t.Errorf("%s %s %s: answered %d %s, %v", tc.method, tc.target, tc.body, resp.status, answer, err)
		}
	}
}
