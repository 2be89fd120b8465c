package presence_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/imcluster/imcluster/client"
	"github.com/imcluster/imcluster/internal/secretdir"
	"github.com/imcluster/imcluster/internal/telemetry"
	"github.com/imcluster/imcluster/internal/testredis"
	"github.com/imcluster/imcluster/presence"
	"github.com/imcluster/imcluster/presence/internalapi"
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
	svc := &service{Server: s, Presence: client.Presence{URL: "http://" + s.Addr().String(), Key: "api", HTTP: &http.Client{Transport: transport}}}
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

// gateway is a member of the registry that has sessions and no connections.
type gateway struct {
	member *store.Member

	mu       sync.Mutex
	sessions map[string]store.Session // by user
}

func (g *gateway) Sessions(partition int) iter.Seq[store.Session] {
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

func (g *gateway) Count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.sessions)
}

func (g *gateway) Replaced(store.Session) {}

// logIn registers a session of a user.
func (g *gateway) logIn(t testing.TB, user string, conn uint64) {
	t.Helper()
	s := store.Session{User: user, Device: "phone", Platform: "ios", Conn: conn}
	_, since, err := g.member.Register(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	s.Since = since
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sessions[user] = s
}

// logOut ends the session of a user.
func (g *gateway) logOut(user string) {
	g.mu.Lock()
	s := g.sessions[user]
	delete(g.sessions, user)
	g.mu.Unlock()
	g.member.Unregister(s, time.Now())
}

// startGateway joins a gateway with a session of each user.
func startGateway(t testing.TB, address, pod string, users ...string) *gateway {
	t.Helper()
	return joinGateway(t, storeConfig(address), pod, users...)
}

func joinGateway(t testing.TB, cfg store.Config, pod string, users ...string) *gateway {
	t.Helper()
	st, err := store.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{sessions: map[string]store.Session{}}
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

func TestOnlineOfflineAndNeverSeen(t *testing.T) {
	redis := testredis.Start(t)
	s := startService(t, redis.Addr)
	g := startGateway(t, redis.Addr, "gw-1", "alice", "bob")
	g.logOut("bob")
	s.become(t, []string{"online", "offline", "unknown/never_seen", "online"}, "alice", "bob", "carol", "alice")

	alice, fresh, err := s.Get(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	if len(alice.Devices) != 1 || alice.Devices[0].Gateway != "gw-1" || alice.Devices[0].ID != "phone" || alice.Devices[0].Platform != "ios" ||
		fresh.Degraded || fresh.AsOf.Before(alice.Devices[0].LoginTime) {
		t.Errorf("alice: %+v, %+v", alice, fresh)
	}
	bob, _, err := s.Get(t.Context(), "bob")
	if err != nil {
		t.Fatal(err)
	}
	if since := time.Since(bob.LastSeen); since < -time.Second || since > time.Minute {
		t.Errorf("bob was last seen at %s", bob.LastSeen)
	}
}

func TestListAndCountAgreeWithTheBatch(t *testing.T) {
	redis := testredis.Start(t)
	s := startService(t, redis.Addr)
	var users, all []string
	for i := range 250 {
		users = append(users, fmt.Sprintf("user/%d:测试", i))
	}
	startGateway(t, redis.Addr, "gw-1", users[:200]...)
	startGateway(t, redis.Addr, "gw-2", users[200:]...)
	eventually(t, func() error {
		counts, err := s.Count(t.Context())
		want := []client.GatewayCount{{Pod: "gw-1", Sessions: 200}, {Pod: "gw-2", Sessions: 50}}
		if err != nil || counts.Users != 250 || counts.Sessions != 250 || !cmp.Equal(counts.Gateways, want) {
			return fmt.Errorf("counted %+v, %w", counts, err)
		}
		return nil
	})
	for cursor, pages := "", 0; pages == 0 || cursor != ""; pages++ {
		page, err := s.OnlinePage(t.Context(), cursor, 60)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Users) > 60 || pages > 250 {
			t.Fatalf("page %d has %d users", pages, len(page.Users))
		}
		all, cursor = append(all, page.Users...), page.NextCursor
	}
	slices.Sort(all)
	all = slices.Compact(all)
	slices.Sort(users)
	if diff := cmp.Diff(users, all); diff != "" {
		t.Error(diff)
	}
	states, _ := s.states(t, append(all, "nobody")...)
	if online := slices.DeleteFunc(states, func(s string) bool { return s != "online" }); len(online) != 250 {
		t.Errorf("%d of those listed are online", len(online))
	}
	var page *client.APIError
	if _, err := s.OnlinePage(t.Context(), "no such cursor", 10); !errors.As(err, &page) || page.Code != "invalid_argument" {
		t.Errorf("a made-up cursor: %v", err)
	}
}

func TestBatchOf5000And5001(t *testing.T) {
	redis := testredis.Start(t)
	s := startService(t, redis.Addr)
	eventually(t, func() error { return ready(s) })
	users := make([]string, 5001)
	for i := range users {
		users[i] = fmt.Sprint("u", i)
	}
	answer, _, err := s.BatchGet(t.Context(), users[:5000])
	if err != nil || answer[4999].User != "u4999" {
		t.Fatalf("5,000 users: %v", err)
	}
	var refused *client.APIError
	if _, _, err := s.BatchGet(t.Context(), users); !errors.As(err, &refused) || refused.Code != "too_many_users" {
		t.Errorf("5,001 users: %v", err)
	}
}

func ready(s *service) error {
	if !s.Ready() {
		return errors.New("not ready")
	}
	return nil
}

// A Redis that does not answer makes nobody offline, and every answer comes in bounded time.
func TestPausedRedisMakesUsersUnknown(t *testing.T) {
	redis := testredis.Start(t)
	s := startService(t, redis.Addr)
	g := startGateway(t, redis.Addr, "gw-1", "alice", "bob")
	g.logOut("bob")
	s.become(t, []string{"online", "offline", "unknown/never_seen"}, "alice", "bob", "carol")

	redis.Pause()
	// The first answer may still be on its way when Redis stops, and for longer than a lease nothing else may be told.
	for end := time.Now().Add(3 * leaseTTL); time.Now().Before(end); {
		start := time.Now()
		states, degraded := s.states(t, "alice", "bob", "carol")
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("the answer took %s", took)
		}
		if !degraded || !cmp.Equal(states, []string{"unknown/unavailable", "unknown/unavailable", "unknown/unavailable"}) {
			t.Errorf("with Redis paused: %v, degraded %v", states, degraded)
		}
	}
	var unavailable *client.APIError
	if _, err := s.OnlinePage(t.Context(), "", 10); !errors.As(err, &unavailable) || unavailable.Status != 503 || unavailable.RetryAfter <= 0 {
		t.Errorf("list with Redis paused: %v", err)
	}
	if code, _ := get(t, "http://"+s.OpsAddr().String()+"/livez"); code != 200 {
		t.Errorf("/livez answered %d", code)
	}
	if err := ready(s); err != nil {
		t.Error(err)
	}
	redis.Resume()
	for {
		states, _ := s.states(t, "alice", "bob", "carol")
		if slices.Contains(states[:1], "offline") {
			t.Fatalf("after the pause: %v", states)
		}
		if cmp.Equal(states, []string{"online", "offline", "unknown/never_seen"}) {
			break
		}
		<-time.After(10 * time.Millisecond)
	}
}

func TestEmptiedRedisMakesNobodyOffline(t *testing.T) {
	redis := testredis.Start(t)
	s := startService(t, redis.Addr)
	var users []string
	for i := range 300 {
		users = append(users, fmt.Sprint("user", i))
	}
	startGateway(t, redis.Addr, "gw-1", users...)
	s.become(t, slices.Repeat([]string{"online"}, len(users)), users...)
	redis.MustDo("FLUSHALL")
	back := slices.Repeat([]string{"online"}, len(users))
	eventually(t, func() error {
		states, degraded := s.states(t, users...)
		for i, state := range states {
			if state != "online" && (state != "unknown/unavailable" || !degraded) {
				t.Fatalf("%s is %s (degraded: %v) while gateways register again", users[i], state, degraded)
			}
		}
		if !cmp.Equal(states, back) {
			return errors.New("not all are back")
		}
		return nil
	})
}

// One shard of a Redis Cluster that does not answer leaves the users of the others alone.
func TestPausedShardMakesItsUsersUnknown(t *testing.T) {
	cluster := testredis.StartCluster(t, 3)
	cfg := storeConfig("")
	cfg.Mode, cfg.Addresses = store.Cluster, cluster.Addrs()
	s := startService(t, "", func(c *presence.Config) { c.Store = cfg })
	var users []string
	for i := range 100 {
		users = append(users, fmt.Sprint("user", i))
	}
	joinGateway(t, cfg, "gw-1", users...)
	s.become(t, slices.Repeat([]string{"online"}, len(users)), users...)

	leases := cluster.NodeOf("{gw}")
	cluster.Nodes[(leases+1)%3].Pause()
	count := map[string]int{}
	states, degraded := s.states(t, users...)
	for _, state := range states {
		count[state]++
	}
	if online, unknown := count["online"], count["unknown/unavailable"]; !degraded || online < 40 || unknown < 10 || online+unknown != 100 {
		t.Errorf("with a shard paused: %v, degraded %v", count, degraded)
	}
	cluster.Nodes[(leases+1)%3].Resume()
	s.become(t, slices.Repeat([]string{"online"}, len(users)), users...)
}

// Readiness comes with the first answer of Redis, and goes only when the server stops.
func TestReadiness(t *testing.T) {
	redis := testredis.Start(t)
	redis.Kill()
	s := startService(t, redis.Addr, func(c *presence.Config) { c.ShutdownDelay = time.Second })
	ops := "http://" + s.OpsAddr().String()
	if code, body := get(t, ops+"/readyz"); code != 503 || !strings.Contains(body, "Redis") {
		t.Errorf("without Redis: %d %s", code, body)
	}
	if code, _ := get(t, ops+"/livez"); code != 200 {
		t.Errorf("/livez answered %d", code)
	}
	if states, degraded := s.states(t, "alice"); !degraded || states[0] != "unknown/unavailable" {
		t.Errorf("without Redis: %v", states)
	}
	redis.Restart()
	eventually(t, func() error {
		if code, body := get(t, ops+"/readyz"); code != 200 {
			return errors.New(body)
		}
		return nil
	})
	redis.Kill()
	if code, _ := get(t, ops+"/readyz"); code != 200 {
		t.Errorf("readiness went away with Redis: %d", code)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()
	eventually(t, func() error {
		if code, _ := get(t, ops+"/readyz"); code != 503 {
			return errors.New("still ready while stopping")
		}
		return nil
	})
	if states, _ := s.states(t, "alice"); states[0] != "unknown/unavailable" { // it serves on during the delay
		t.Errorf("while stopping: %v", states)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestFencedGatewayGoesOffline(t *testing.T) {
	redis := testredis.Start(t)
	s := startService(t, redis.Addr)
	startGateway(t, redis.Addr, "gw-1", "alice")
	s.become(t, []string{"online"}, "alice")
	operator := internalapi.Client{BaseURL: "http://" + s.InternalAddr().String(), Key: "peer",
		HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	list, err := operator.Incarnations(t.Context())
	if err != nil || len(list.Incarnations) != 1 || list.Incarnations[0].PodUID != "uid-gw-1" || list.Incarnations[0].LeaseRemainingMs <= 0 {
		t.Fatalf("incarnations: %+v, %v", list, err)
	}
	epoch := list.Incarnations[0].Epoch
	for range 2 { // it is idempotent
		answer, err := operator.Fence(t.Context(), internalapi.FenceRequest{Epochs: []string{epoch, "AAAAAAAA"}, BanPodUIDs: []string{"uid-gw-1"}})
		if err != nil || !cmp.Equal(answer.Fenced, []string{epoch}) || !cmp.Equal(answer.Unknown, []string{"AAAAAAAA"}) {
			t.Fatalf("fence: %+v, %v", answer, err)
		}
	}
	s.become(t, []string{"offline"}, "alice")
}

func TestWrongOwnerEndsTheServer(t *testing.T) {
	redis := testredis.Start(t)
	owner := func(uid string) func(*presence.Config) {
		return func(c *presence.Config) { c.Store.Owner = uid }
	}
	s := startService(t, redis.Addr, owner("one"))
	eventually(t, func() error { return ready(s) })
	cfg := presence.Config{Listen: "127.0.0.1:0", Store: storeConfig(redis.Addr), APIKey: secretdir.Static([]byte("k"))}
	owner("two")(&cfg)
	second, err := presence.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Run(t.Context()); !errors.Is(err, store.ErrForeignOwner) {
		t.Errorf("a second IMCluster on the same keys: %v", err)
	}
}

func TestMetricsTellWhatWasAnswered(t *testing.T) {
	redis := testredis.Start(t)
	s := startService(t, redis.Addr)
	startGateway(t, redis.Addr, "gw-1", "alice")
	s.become(t, []string{"online", "unknown/never_seen"}, "alice", "carol")
	code, metrics := get(t, "http://"+s.OpsAddr().String()+"/metrics")
	for _, want := range []string{
		`imcluster_presence_request_duration_seconds_count{code="200",method="POST",route="/v1/presence:batchGet"}`,
		`imcluster_presence_answers_total{reason="never_seen",state="unknown"}`,
		`imcluster_presence_answers_total{reason="",state="online"}`,
		`imcluster_presence_query_users_count`,
		"imcluster_online_users 1",
		"imcluster_online_sessions 1",
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("/metrics (%d) lacks %s", code, want)
		}
	}
	if strings.Contains(metrics, "alice") {
		t.Error("/metrics names users")
	}
}

// BenchmarkBatchGet asks for 1,000 users over HTTP, 300 of them online, 400 offline and 300 never seen.
func BenchmarkBatchGet(b *testing.B) {
	redis := testredis.Start(b)
	s := startService(b, redis.Addr)
	const users = 1000
	ids := make([]string, users)
	for i := range ids {
		ids[i] = fmt.Sprintf("user-%06d", i)
	}
	g := startGateway(b, redis.Addr, "gw-1", ids[:700]...)
	for _, id := range ids[300:700] {
		g.logOut(id)
	}
	s.become(b, []string{"online", "offline", "unknown/never_seen"}, ids[299], ids[699], ids[700])
	body, err := json.Marshal(map[string][]string{"users": ids})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, s.URL+"/v1/presence:batchGet", bytes.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer api")
		resp, err := s.HTTP.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
			b.Fatal(resp.Status, err)
		}
		_ = resp.Body.Close()
	}
	b.ReportMetric(float64(b.N)*users/b.Elapsed().Seconds(), "users/s")
}
