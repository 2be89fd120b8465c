package presence_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/imcluster/imcluster/client"
	"github.com/imcluster/imcluster/internal/secretdir"
	"github.com/imcluster/imcluster/internal/telemetry"
	"github.com/imcluster/imcluster/presence"
	"github.com/imcluster/imcluster/presence/feed"
	"github.com/imcluster/imcluster/presence/internal/contract"
	"github.com/imcluster/imcluster/presence/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	// leaseTTL is short, because a new Redis is believed to be complete only after one.
	leaseTTL = 500 * time.Millisecond
	patience = 20 * time.Second
)

// service is a presence server that runs.
type service struct {
	*presence.Server
	client.Presence
	stop func() error // ends Run and returns its error
}

// startService runs a server on a Redis until the test ends.
func startService(t testing.TB, address string, change ...func(*presence.Config)) *service {
	t.Helper()
	tel, err := telemetry.Start(t.Context(), telemetry.Config{Service: "test"})
	if err != nil {
		t.Fatal(err)
	}
	cfg := presence.Config{
		Listen: "127.0.0.1:0", InternalListen: "127.0.0.1:0", OpsListen: "127.0.0.1:0",
		Store:  storeConfig(address),
		APIKey: secretdir.Static([]byte("api")), PeerKey: secretdir.Static([]byte("peer")),
		QueryTimeout: time.Second, Meters: tel.Meters(), Tracers: tel.Tracers(), Metrics: tel.Handler(),
	}
	for _, c := range change {
		c(&cfg)
	}
	s, err := presence.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	transport := &http.Transport{}
	checked := documented{transport, document(t), t}
	svc := &service{Server: s, Presence: client.Presence{URL: "http://" + s.Addr().String(), Key: "api", HTTP: &http.Client{Transport: checked}}}
	svc.stop = func() error {
		cancel()
		err := <-ended
		ended <- err // for the next call
		transport.CloseIdleConnections()
		return err
	}
	t.Cleanup(func() {
		if err := svc.stop(); err != nil {
			t.Errorf("run: %v", err)
		}
		_ = tel.Shutdown(context.Background())
	})
	return svc
}

func storeConfig(address string) store.Config {
	return store.Config{Addresses: []string{address}, LeaseTTL: leaseTTL, Grace: leaseTTL, OpTimeout: time.Second}
}

// fakeGateway is a member of the registry that has sessions and no connections.
type fakeGateway struct {
	member *store.Member

	mu       sync.Mutex
	sessions map[string]store.Session // by user
}

func (g *fakeGateway) Sessions(partition int) iter.Seq[store.Session] {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Values(maps.Collect(func(yield func(string, store.Session) bool) {
		for user, s := range g.sessions {
			if store.Partition(user) == partition && !yield(user, s) {
				return
			}
		}
	}))
}

func (g *fakeGateway) Count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.sessions)
}

func (g *fakeGateway) Replaced(store.Session) {}

func (g *fakeGateway) Revoked(store.Revocation) {}

func (g *fakeGateway) Suspect(string) {}

func (g *fakeGateway) Fenced() {}

// logIn registers a session of a user.
func (g *fakeGateway) logIn(t testing.TB, user string, conn uint64) {
	t.Helper()
	s := store.Session{User: user, Device: "phone", Platform: "ios", Conn: conn}
	login, err := g.member.Register(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	s.Since = login.Since
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sessions[user] = s
}

// logOut ends the session of a user.
func (g *fakeGateway) logOut(user string) {
	g.mu.Lock()
	s := g.sessions[user]
	delete(g.sessions, user)
	g.mu.Unlock()
	g.member.Unregister(s, time.Now(), feed.CauseLogout)
}

// startGateway joins a gateway with a session of each user.
func startGateway(t testing.TB, address, pod string, users ...string) *fakeGateway {
	t.Helper()
	return joinGateway(t, storeConfig(address), pod, users...)
}

func joinGateway(t testing.TB, cfg store.Config, pod string, users ...string) *fakeGateway {
	t.Helper()
	st, err := store.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	g := &fakeGateway{sessions: map[string]store.Session{}}
	if g.member, err = st.Join(t.Context(), store.Identity{PodName: pod, PodUID: "uid-" + pod, Address: "127.0.0.1:1"}, g); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = g.member.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
		_ = st.Close()
	})
	for i, user := range users {
		g.logIn(t, user, uint64(i+1))
	}
	return g
}

// eventually waits until check returns no error.
func eventually(t testing.TB, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// states asks for users and returns "state" or "state/reason" of each.
func (s *service) states(t testing.TB, users ...string) (states []string, degraded bool) {
	t.Helper()
	answer, fresh, err := s.BatchGet(t.Context(), users)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range answer {
		states = append(states, strings.TrimSuffix(string(u.State)+"/"+u.Reason, "/"))
	}
	return states, fresh.Degraded
}

// become waits until users have the states.
func (s *service) become(t testing.TB, want []string, users ...string) {
	t.Helper()
	eventually(t, func() error {
		if got, _ := s.states(t, users...); !cmp.Equal(got, want) {
			return fmt.Errorf("%v are %v, want %v", users, got, want)
		}
		return nil
	})
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// document is the OpenAPI document of the public API.
var loadDocument = sync.OnceValues(func() (*contract.Document, error) {
	data, err := os.ReadFile("openapi.yaml")
	if err != nil {
		return nil, err
	}
	return contract.Load(data)
})

func document(t testing.TB) *contract.Document {
	t.Helper()
	doc, err := loadDocument()
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// documented fails the test when an answer is not as the document has it.
type documented struct {
	next http.RoundTripper
	doc  *contract.Document
	tb   testing.TB
}

func (d documented) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.GetBody != nil { // else it is a stream
		copied, err := r.GetBody()
		if err != nil {
			return nil, err
		}
		if body, err = io.ReadAll(copied); err != nil {
			return nil, err
		}
	}
	resp, err := d.next.RoundTrip(r)
	if err != nil || r.GetBody == nil && r.Body != nil || !strings.HasPrefix(r.URL.Path, "/v1/") {
		return resp, err
	}
	var answer []byte
	if resp.Header.Get("Content-Type") == "application/json" {
		if answer, err = io.ReadAll(resp.Body); err != nil {
			return nil, err
		}
		_ = resp.Body.Close()
		resp.Body = io.NopCloser(bytes.NewReader(answer))
	}
	if err := d.doc.Check(r, body, resp.StatusCode, resp.Header, answer); err != nil {
		d.tb.Error(err)
	}
	return resp, nil
}
