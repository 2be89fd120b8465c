package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/imcluster/imcluster/gateway"
	"github.com/imcluster/imcluster/gateway/auth"
	"github.com/imcluster/imcluster/internal/secretdir"
	"github.com/imcluster/imcluster/internal/testredis"
	"github.com/imcluster/imcluster/presence/store"
)

// The tests of this package run gateways on a real Redis.

const (
	testTimeout = 15 * time.Second
	leaseTTL    = 1500 * time.Millisecond
	grace       = 500 * time.Millisecond
)

func checkLeaks(t *testing.T) {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, ignore) })
}

func storeConfig(redis *testredis.Server) store.Config {
	return store.Config{Addresses: []string{redis.Addr}, Owner: "cluster", LeaseTTL: leaseTTL, Grace: grace,
		OpTimeout: time.Second, Fresh: true}
}

// start runs a gateway until the test ends.
func start(t *testing.T, redis *testredis.Server, pod string, change ...func(*gateway.Config)) *gateway.Gateway {
	t.Helper()
	g, stop := startStoppable(t, redis, pod, change...)
	t.Cleanup(stop)
	return g
}

func startStoppable(t *testing.T, redis *testredis.Server, pod string, change ...func(*gateway.Config)) (g *gateway.Gateway, stop func()) {
	t.Helper()
	cfg := gateway.Config{
		PodName: pod, PodUID: "uid-" + pod, Cluster: "cluster", Store: storeConfig(redis), Auth: auth.Insecure{},
		PeerKeys: secretdir.Static([]byte("peer key")), Listen: "127.0.0.1:0", PeerListen: "127.0.0.1:0", DrainWindow: 2 * time.Second,
	}
	for _, c := range change {
		c(&cfg)
	}
	g, err := gateway.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	eventually(t, pod+" has joined", g.Ready)
	stopped := false
	return g, func() {
		if cancel(); stopped {
			return
		}
		stopped = true
		if err := <-done; err != nil {
			t.Errorf("%s ended with: %v", pod, err)
		}
	}
}

// readers opens the store as presence does.
func readers(t *testing.T, redis *testredis.Server) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), storeConfig(redis))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Keep(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// stateOf is what readers are told of a user.
func stateOf(t *testing.T, s *store.Store, user string) store.User {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	users, _, _ := s.Users(ctx, []string{user})
	return users[0]
}

func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(testTimeout); !condition(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not true in time: %s", what)
		}
	}
}

type client struct {
	testing.TB
	ws *websocket.Conn
}

type frame map[string]any

func login(t testing.TB, addr, user, device string) *client {
	t.Helper()
	c := dial(t, fmt.Sprintf("ws://%s/ws?token=%s&deviceId=%s", addr, user, device))
	c.expect("11", 200)
	return c
}

func dial(t testing.TB, url string) *client {
	t.Helper()
	ws, resp, err := websocket.DefaultDialer.DialContext(t.Context(), url, nil)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	resp.Body.Close()
	t.Cleanup(func() { ws.Close() })
	return &client{t, ws}
}

func (c *client) send(format string, args ...any) {
	c.Helper()
	if err := c.ws.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, format, args...)); err != nil {
		c.Fatalf("send: %v", err)
	}
}

func (c *client) read() (f frame, err error) {
	_ = c.ws.SetReadDeadline(time.Now().Add(testTimeout))
	_, data, err := c.ws.ReadMessage()
	if err != nil {
		return nil, err
	}
	return f, json.Unmarshal(data, &f)
}

// expect reads the next frame, which must have the type and, if not zero, the code.
func (c *client) expect(typ string, code int) frame {
	c.Helper()
	f, err := c.read()
	if err != nil {
		c.Fatalf("read: %v", err)
	}
	if f["type"] != typ || code != 0 && f["code"] != float64(code) {
		c.Fatalf("got %v, want type %s and code %d", f, typ, code)
	}
	return f
}

func (c *client) expectClose(code int) {
	c.Helper()
	for {
		if _, err := c.read(); err != nil {
			if !websocket.IsCloseError(err, code) {
				c.Fatalf("closed with %v, want code %d", err, code)
			}
			return
		}
	}
}

// chat sends a chat and returns the code of the answer.
func (c *client) chat(to string, content int) float64 {
	c.Helper()
	c.send(`{"type":"80","toId":%q,"content":%d}`, to, content)
	return c.expect("81", 0)["code"].(float64)
}

func TestChatAcrossGatewaysReachesEveryDevice(t *testing.T) {
	checkLeaks(t)
	redis := testredis.Start(t)
	a, b := start(t, redis, "a"), start(t, redis, "b")
	sender := login(t, a.Addr().String(), "sender", "d")
	phone, laptop := login(t, a.Addr().String(), "bob", "phone"), login(t, b.Addr().String(), "bob", "laptop")
	for i := range 20 {
		if code := sender.chat("bob", i); code != 200 {
			t.Fatalf("message %d was answered with %v", i, code)
		}
		for _, c := range []*client{phone, laptop} {
			if f := c.expect("80", 0); f["content"] != float64(i) || f["fromId"] != "sender" {
				t.Fatalf("got %v", f)
			}
		}
	}
}

func TestPresenceFollowsTheConnections(t *testing.T) {
	checkLeaks(t)
	redis := testredis.Start(t)
	s := readers(t, redis)
	a, b := start(t, redis, "a"), start(t, redis, "b")
	phone, laptop := login(t, a.Addr().String(), "bob", "phone"), login(t, b.Addr().String(), "bob", "laptop")
	if u := stateOf(t, s, "bob"); u.State != store.Online || len(u.Devices) != 2 {
		t.Fatalf("with two devices: %+v", u)
	}
	phone.ws.NetConn().Close() // lost: not seen within the grace
	laptop.send(`{"type":"12"}`)
	laptop.expectClose(1000)
	eventually(t, "bob has one device", func() bool { return len(stateOf(t, s, "bob").Devices) == 1 })
	if u := stateOf(t, s, "bob"); u.State != store.Online {
		t.Errorf("within the grace of the phone: %+v", u)
	}
	eventually(t, "bob is offline after the grace", func() bool { return stateOf(t, s, "bob").State == store.Offline })
	if u := stateOf(t, s, "bob"); time.Since(u.LastSeen) > 10*time.Second {
		t.Errorf("last seen: %+v", u)
	}
}

func TestSameDeviceOnAnotherGatewayReplacesTheOlderConnection(t *testing.T) {
	checkLeaks(t)
	redis := testredis.Start(t)
	s := readers(t, redis)
	a, b := start(t, redis, "a"), start(t, redis, "b")
	older := login(t, a.Addr().String(), "alice", "d")
	newer := login(t, b.Addr().String(), "alice", "d")
	older.expect("32", 304)
	older.expectClose(4304)
	if u := stateOf(t, s, "alice"); u.State != store.Online || len(u.Devices) != 1 || u.Devices[0].Gateway != "b" {
		t.Errorf("after the kick: %+v", u)
	}
	if code := newer.chat("alice", 1); code != 200 {
		t.Errorf("answered with %v", code)
	}
	newer.expect("80", 0)
}

// TestRedisIsPausedThenBack: no connection is dropped, chats are refused for now, and nobody is shown offline.
func TestRedisIsPausedThenBack(t *testing.T) {
	checkLeaks(t)
	redis := testredis.Start(t)
	s := readers(t, redis)
	a, b := start(t, redis, "a"), start(t, redis, "b")
	alice, bob := login(t, a.Addr().String(), "alice", "d"), login(t, b.Addr().String(), "bob", "d")
	redis.Pause()
	if code := alice.chat("bob", 1); code != 500 {
		t.Errorf("with Redis paused: %v", code)
	}
	ws, resp, err := websocket.DefaultDialer.DialContext(t.Context(), fmt.Sprintf("ws://%s/ws?token=carol", b.Addr()), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	resp.Body.Close()
	carol := &client{t, ws}
	carol.expect("11", 500)
	alice.send(`{"type":"40"}`)
	alice.expect("41", 0)
	if u := stateOf(t, s, "bob"); u.State == store.Offline {
		t.Errorf("with Redis paused: %+v", u)
	}
	<-time.After(2 * leaseTTL) // longer than a lease: none may age
	redis.Resume()
	eventually(t, "chat works again", func() bool {
		if u := stateOf(t, s, "bob"); u.State == store.Offline {
			t.Fatalf("after the pause: %+v", u)
		}
		return alice.chat("bob", 2) == 200
	})
	for { // what was refused may have arrived all the same
		if f := bob.expect("80", 0); f["content"] == 2.0 {
			break
		}
	}
	carol.send(`{"type":"10","token":"carol"}`)
	carol.expect("11", 200)
}

// TestRedisLosesEverything: sessions register again by themselves, and nobody is shown offline.
func TestRedisLosesEverything(t *testing.T) {
	checkLeaks(t)
	redis := testredis.Start(t)
	s := readers(t, redis)
	a, b := start(t, redis, "a"), start(t, redis, "b")
	sender := login(t, a.Addr().String(), "sender", "d")
	var clients []*client
	for i := range 50 {
		clients = append(clients, login(t, b.Addr().String(), fmt.Sprint("user", i), "d"))
	}
	redis.MustDo("FLUSHALL")
	lost := time.Now()
	for i := range clients {
		user := fmt.Sprint("user", i)
		eventually(t, user+" is back", func() bool {
			u := stateOf(t, s, user)
			if u.State == store.Offline {
				t.Fatalf("%s is shown offline", user)
			}
			return u.State == store.Online
		})
	}
	t.Logf("all back after %v", time.Since(lost))
	eventually(t, "chat works again", func() bool { return sender.chat("user7", 1) == 200 })
	clients[7].expect("80", 0)
}

// TestWhoIsDisconnectedWhereThereAreNoTokensMayComeBack: nothing tells a fresh token from the one of before, and to keep the
// user out for a day is more than was asked for.
func TestWhoIsDisconnectedWhereThereAreNoTokensMayComeBack(t *testing.T) {
	checkLeaks(t)
	redis := testredis.Start(t)
	s := readers(t, redis)
	a := start(t, redis, "a")
	c := login(t, a.Addr().String(), "alice", "d")
	if err := s.Revoke(t.Context(), store.Revocation{User: "alice"}, 24*time.Hour); err != nil {
		t.Fatal(err)
	}
	c.expect("32", 305)
	c.expectClose(4305)
	again := login(t, a.Addr().String(), "alice", "d")
	if code := again.chat("bob", 1); code != 200 {
		t.Errorf("after it came back: %v", code)
	}
}

// TestDrainOnARealRegistry: users move to the other gateway and are never seen offline.
func TestDrainOnARealRegistry(t *testing.T) {
	checkLeaks(t)
	redis := testredis.Start(t)
	s := readers(t, redis)
	a, stop := startStoppable(t, redis, "a")
	b := start(t, redis, "b")
	c := login(t, a.Addr().String(), "alice", "d")
	stays := login(t, a.Addr().String(), "stays", "d")
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	c.expect("31", 502)
	stays.expect("31", 502)
	moved := login(t, b.Addr().String(), "alice", "d")
	c.expectClose(4502)
	if u := stateOf(t, s, "alice"); u.State != store.Online || u.Devices[0].Gateway != "b" {
		t.Errorf("after the move: %+v", u)
	}
	stays.expectClose(1001)
	<-stopped
	if u := stateOf(t, s, "stays"); u.State != store.Online {
		t.Errorf("within the grace after the drain: %+v", u)
	}
	eventually(t, "who stayed is offline after the grace", func() bool { return stateOf(t, s, "stays").State == store.Offline })
	if u := stateOf(t, s, "alice"); u.State != store.Online {
		t.Errorf("after the lease of the old gateway: %+v", u)
	}
	if code := moved.chat("alice", 1); code != 200 {
		t.Errorf("answered with %v", code)
	}
}
