package hooks_test

import (
	"context"
	"crypto/hmac"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/imcluster/imcluster/internal/secretdir"
	"github.com/imcluster/imcluster/internal/testredis"
	"github.com/imcluster/imcluster/presence/hooks"
	"github.com/imcluster/imcluster/presence/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// people stands for the memory of a presence pod: it is told by the test who is online.
type people struct {
	mu      sync.Mutex
	online  map[string]bool
	seen    map[string]bool
	dark    map[string]bool // whose state is not known
	changed map[int]func([]string)
	next    int
}

func newPeople() *people {
	return &people{online: map[string]bool{}, seen: map[string]bool{}, dark: map[string]bool{}, changed: map[int]func([]string){}}
}

func (p *people) set(online bool, users ...string) {
	p.mu.Lock()
	for _, u := range users {
		p.online[u], p.seen[u] = online, true
	}
	p.mu.Unlock()
	p.tell(users)
}

// darken makes the states of users unknown, or known again.
func (p *people) darken(dark bool, users ...string) {
	p.mu.Lock()
	for _, u := range users {
		p.dark[u] = dark
	}
	p.mu.Unlock()
	p.tell(users)
}

func (p *people) tell(users []string) {
	p.mu.Lock()
	listeners := make([]func([]string), 0, len(p.changed))
	for _, f := range p.changed {
		listeners = append(listeners, f)
	}
	p.mu.Unlock()
	for _, f := range listeners {
		f(users)
	}
}

func (p *people) Users(_ context.Context, ids []string) ([]store.User, time.Time, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	users := make([]store.User, len(ids))
	for i, id := range ids {
		users[i] = store.User{ID: id, State: store.Unknown, Reason: store.NeverSeen}
		switch {
		case p.dark[id]:
			users[i].Reason = store.Unavailable
		case p.online[id]:
			users[i].State, users[i].Reason = store.Online, ""
		case p.seen[id]:
			users[i].State, users[i].Reason = store.Offline, ""
		}
	}
	return users, time.Now(), false
}

func (p *people) OnlineIn(part int) (users []string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for u, online := range p.online {
		if store.Partition(u) != part {
			continue
		}
		if p.dark[u] {
			return nil, false
		}
		if online {
			users = append(users, u)
		}
	}
	return users, true
}

func (p *people) LastCause(string) (address, cause string) { return "192.0.2.7", "closed" }

func (p *people) Changes(ctx context.Context, changed func([]string)) error {
	p.mu.Lock()
	p.next++
	me := p.next
	p.changed[me] = changed
	p.mu.Unlock()
	changed(nil)
	<-ctx.Done()
	p.mu.Lock()
	delete(p.changed, me)
	p.mu.Unlock()
	return ctx.Err()
}

var key = []byte("the key of the hooks")

var secret = secretdir.Static(key)

// receiver is the application's back end.
type receiver struct {
	t   *testing.T
	url string

	mu     sync.Mutex
	events []hooks.Event
	state  map[string]bool
	seq    map[string]int64
	answer func(w http.ResponseWriter) bool // says whether to take the events; nil: yes
	calls  int
	heard  chan struct{}
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{t: t, state: map[string]bool{}, seq: map[string]int64{}, heard: make(chan struct{}, 1)}
	srv := httptest.NewServer(r)
	t.Cleanup(srv.Close)
	r.url = srv.URL + "/hooks"
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	r.verify(req, body)
	var batch hooks.Batch
	if err := json.Unmarshal(body, &batch); err != nil {
		r.t.Errorf("the body is no batch: %v", err)
	}
	if len(batch.Events) == 0 || len(batch.Events) > hooks.BatchEvents {
		r.t.Errorf("%d events in a request", len(batch.Events))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() {
		select {
		case r.heard <- struct{}{}:
		default:
		}
	}()
	r.calls++
	if r.answer != nil && !r.answer(w) {
		return
	}
	for _, e := range batch.Events {
		r.events = append(r.events, e)
		if e.Seq > r.seq[e.PeerID] {
			r.seq[e.PeerID], r.state[e.PeerID] = e.Seq, e.Hook == hooks.ClientOnline
		}
	}
}

// verify checks the signature as a receiver does that knows only the description of it.
func (r *receiver) verify(req *http.Request, body []byte) {
	header := req.Header.Get(hooks.SignatureHeader)
	stamp, ok := strings.CutPrefix(strings.Split(header, ",")[0], "t=")
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if !ok || err != nil || time.Since(time.Unix(seconds, 0)).Abs() > time.Minute {
		r.t.Errorf("signature %q has no time", header)
	}
	if want := hooks.Sign(body, time.Unix(seconds, 0), [][]byte{key}); !hmac.Equal([]byte(want), []byte(header)) {
		r.t.Errorf("signature %q, want %q", header, want)
	}
}

func (r *receiver) answering(f func(http.ResponseWriter) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = f
}

// until waits until the receiver's state is such that f is true.
func (r *receiver) until(what string, f func() bool) {
	r.t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		r.mu.Lock()
		done := f()
		r.mu.Unlock()
		if done {
			return
		}
		select {
		case <-r.heard:
		case <-deadline:
			r.mu.Lock()
			defer r.mu.Unlock()
			r.t.Fatalf("the receiver never came to know: %s; it was told %v", what, r.events)
		}
	}
}

// told returns which hooks a user had, in order.
func (r *receiver) told(user string) (names []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.PeerID == user {
			names = append(names, e.Hook)
		}
	}
	return names
}

func (r *receiver) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = nil
}

func openStore(t *testing.T, redis *testredis.Server) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{Addresses: []string{redis.Addr}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// pod runs a dispatcher until the returned function is called.
func pod(t *testing.T, url string, p hooks.Presence, m hooks.Memory) (d *hooks.Dispatcher, stop func()) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{}}
	d, err := hooks.New(hooks.Config{URL: url, Secret: secret, Presence: p, Memory: m, Timeout: 2 * time.Second, Client: client})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		client.CloseIdleConnections()
	})
	t.Cleanup(stop)
	return d, stop
}

func equal(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// soon waits until f is true.
func soon(t *testing.T, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !f() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("never: " + what)
		}
	}
}
