package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/imcluster/imcluster/gateway"
	"github.com/imcluster/imcluster/internal/secretdir"
	"github.com/imcluster/imcluster/internal/testredis"
	"github.com/imcluster/imcluster/presence"
)

// startPresence runs a presence pod until stop. Without an address it takes a free port.
func startPresence(t *testing.T, redis *testredis.Server, addr string) (p *presence.Server, stop func()) {
	t.Helper()
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	p, err := presence.New(presence.Config{
		Listen: "127.0.0.1:0", GRPCListen: addr, Store: storeConfig(redis), Cluster: "cluster",
		APIKey: secretdir.Static([]byte("api key")), PeerKey: secretdir.Static([]byte("peer key")),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	stopped := false
	stop = func() {
		if cancel(); !stopped {
			stopped = true
			if err := <-done; err != nil {
				t.Errorf("presence ended with: %v", err)
			}
		}
	}
	t.Cleanup(stop)
	eventually(t, "presence is ready", p.Ready)
	return p, stop
}

// withPresence makes a gateway find presence.
func withPresence(p *presence.Server) func(*gateway.Config) {
	addr := p.GRPCAddr().String()
	return func(c *gateway.Config) { c.PresenceAddress = addr }
}

// states are "user state" of a frame, sorted.
func (c *client) states(f frame) []string {
	c.Helper()
	var list []string
	for _, p := range f["presence"].([]any) {
		u := p.(map[string]any)
		text := fmt.Sprintf("%s %s", u["userId"], u["state"])
		if u["reason"] != nil {
			text += fmt.Sprintf(" %s", u["reason"])
		}
		list = append(list, text)
	}
	slices.Sort(list)
	return list
}

// subscribe changes the subscriptions, and compares the snapshot.
func (c *client) subscribe(action string, users []string, want ...string) {
	c.Helper()
	list, err := json.Marshal(users)
	if err != nil {
		c.Fatal(err)
	}
	c.send(`{"type":"52","action":%q,"users":%s,"requestId":"r"}`, action, list)
	f := c.expect("53", 200)
	if f["requestId"] != "r" {
		c.Errorf("got %v", f)
	}
	var got []string
	if f["presence"] != nil {
		got = c.states(f)
	}
	if !slices.Equal(got, want) {
		c.Fatalf("the snapshot is %q, want %q", got, want)
	}
}

// changes reads events until the users are as they should be, and fails on anything else that they tell.
func (c *client) changes(want ...string) {
	c.Helper()
	left := slices.Clone(want)
	for len(left) > 0 {
		for _, got := range c.states(c.expect("54", 0)) {
			i := slices.Index(left, got)
			if i < 0 {
				c.Fatalf("told %q, want %q", got, want)
			}
			left = slices.Delete(left, i, i+1)
		}
	}
}

// nothing makes sure that there is no event, by an answer that would come after it.
func (c *client) nothing() {
	c.Helper()
	c.send(`{"type":"40"}`)
	c.expect("41", 0)
}

func TestWatchersSeeASnapshotAndThenChanges(t *testing.T) {
	checkLeaks(t)
	redis := testredis.Start(t)
	p, _ := startPresence(t, redis, "")
	a, b := start(t, redis, "a", withPresence(p)), start(t, redis, "b", withPresence(p))
	alice := login(t, a.Addr().String(), "alice", "d")
	bob := login(t, b.Addr().String(), "bob", "d")
	alice.subscribe("subscribe", []string{"alice", "bob", "carol", "bob"}, "alice online", "bob online", "carol unknown never_seen")
	carol := login(t, b.Addr().String(), "carol", "d")
	alice.changes("carol online")
	bob.send(`{"type":"12"}`)
	alice.changes("bob offline")
	login(t, a.Addr().String(), "carol", "other") // a second device changes nothing that a subscriber sees but the platforms
	carol.send(`{"type":"12"}`)

	alice.subscribe("replace", []string{"bob", "dave"}, "dave unknown never_seen")
	alice.subscribe("unsubscribe", []string{"dave", "nobody"})
	login(t, a.Addr().String(), "dave", "d")
	login(t, a.Addr().String(), "bob", "d")
	alice.changes("bob online")
	alice.subscribe("replace", nil)
	alice.send(`{"type":"50","users":["bob","nobody","bob"],"requestId":"q"}`)
	f := alice.expect("51", 200)
	if got := alice.states(f); !slices.Equal(got, []string{"bob online", "bob online", "nobody unknown never_seen"}) || f["asOf"] == nil || f["requestId"] != "q" {
		t.Errorf("the query is answered with %v", f)
	}
}

// TestARefusedSubscriptionChangesNothing: hostile lists are refused with a code, and leave the subscriptions as they were.
func TestARefusedSubscriptionChangesNothing(t *testing.T) {
	checkLeaks(t)
	redis := testredis.Start(t)
	p, _ := startPresence(t, redis, "")
	g := start(t, redis, "a", withPresence(p), func(c *gateway.Config) {
		c.MaxSubscriptions, c.MaxFrameBytes, c.MaxQueuedBytes, c.MaxBytesPerSecond = 3, 1<<20, 4<<20, -1
	})
	c := login(t, g.Addr().String(), "alice", "d")
	c.subscribe("subscribe", []string{"a", "b"}, "a unknown never_seen", "b unknown never_seen")
	var many strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&many, `"%d",`, i)
	}
	for _, tc := range []struct {
		frame string
		code  int
	}{
		{`{"type":"52","action":"subscribe","users":["c","d"]}`, 607},
		{`{"type":"52","action":"replace","users":["c","d","e","f"]}`, 607},
		{`{"type":"52","action":"subscribe","users":[` + many.String() + `"c"]}`, 607},
		{`{"type":"52","action":"replace","users":[` + many.String() + `"c"]}`, 607},
		{`{"type":"52","action":"subscribe","users":[]}`, 402},
		{`{"type":"52","action":"unsubscribe"}`, 402},
		{`{"type":"52","action":"subscribe","users":["c",""]}`, 402},
		{`{"type":"52","action":"replace","users":["c","` + strings.Repeat("x", 129) + `"]}`, 402},
		{`{"type":"52","action":"replace","users":["c",5]}`, 402},
		{`{"type":"52","action":"watch","users":["c"]}`, 402},
		{`{"type":"52","action":"replace","users":["c"],"fromId":"bob"}`, 303},
	} {
		c.send("%s", tc.frame)
		c.expect("53", tc.code)
	}
	c.send(`{"type":"50","users":["a","b","c","d"]}`)
	c.expect("51", 607)
	c.send(`{"type":"50","users":[]}`)
	c.expect("51", 402)
	for _, user := range []string{"c", "d", "a", "b"} {
		login(t, g.Addr().String(), user, "d")
	}
	c.changes("a online", "b online")
	eventually(t, "presence knows of c, whom nobody watches", func() bool {
		c.send(`{"type":"50","users":["c"]}`)
		return strings.Contains(fmt.Sprint(c.expect("51", 200)), "state:online")
	})
	c.subscribe("subscribe", []string{"a", "b", "c", "a", "c"}, "c online")
}

// TestClientsMayNotAskUnlessTheyAreAllowed, and can not where the gateway does not know presence.
func TestClientsMayNotAskUnlessTheyAreAllowed(t *testing.T) {
	redis := testredis.Start(t)
	for name, change := range map[string]func(*gateway.Config){
		"denied":  func(c *gateway.Config) { c.PresenceAddress, c.DenyPresence = "127.0.0.1:1", true },
		"unknown": func(*gateway.Config) {},
	} {
		c := login(t, start(t, redis, name, change).Addr().String(), "alice", "d")
		c.send(`{"type":"50","users":["a"]}`)
		c.expect("51", 306)
		c.send(`{"type":"52","action":"subscribe","users":["a"]}`)
		c.expect("53", 306)
	}
}

// TestWhilePresenceIsAwayNothingChanges: no false events, a code for what cannot be answered, and when another pod is there, only
// what is different.
func TestWhilePresenceIsAwayNothingChanges(t *testing.T) {
	checkLeaks(t)
	redis := testredis.Start(t)
	p, stop := startPresence(t, redis, "")
	g := start(t, redis, "a", withPresence(p))
	addr := g.Addr().String()
	alice, bob := login(t, addr, "alice", "d"), login(t, addr, "bob", "d")
	login(t, addr, "carol", "d")
	alice.subscribe("subscribe", []string{"bob", "carol", "dave"}, "bob online", "carol online", "dave unknown never_seen")
	stop()
	alice.send(`{"type":"50","users":["bob"]}`)
	if f := alice.expect("51", 500); f["delayMs"] == nil {
		t.Errorf("when to ask again? %v", f)
	}
	bob.send(`{"type":"12"}`)
	bob.expectClose(1000)
	login(t, addr, "dave", "d")
	alice.subscribe("unsubscribe", []string{"dave"})
	eventually(t, "the gateway gives up on new users", func() bool {
		alice.send(`{"type":"52","action":"subscribe","users":["erin"]}`)
		return alice.expect("53", 500)["delayMs"] != nil
	})
	alice.nothing()

	startPresence(t, redis, p.GRPCAddr().String())
	alice.changes("bob offline")
	alice.subscribe("subscribe", []string{"dave"}, "dave online")
	login(t, addr, "erin", "d")
	login(t, addr, "bob", "d")
	alice.changes("bob online")
}

// TestSlowWatcherGetsTheNewest: a client that does not read is told the last state of each user when it does, not all that
// happened, and is not cut off.
func TestSlowWatcherGetsTheNewest(t *testing.T) {
	checkLeaks(t)
	redis := testredis.Start(t)
	p, _ := startPresence(t, redis, "")
	g := start(t, redis, "a", withPresence(p))
	addr := g.Addr().String()
	const users = 50
	names := make([]string, users)
	want := map[string]string{}
	for i := range names {
		names[i] = fmt.Sprintf("user%02d%s", i, strings.Repeat("x", 110))
		want[names[i]] = "online"
	}
	slow := login(t, addr, "slow", "d")
	list, err := json.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	slow.send(`{"type":"52","action":"subscribe","users":%s}`, list)
	slow.expect("53", 200)
	for round := range 5 {
		for _, name := range names {
			c := login(t, addr, name, "d")
			if round < 4 {
				c.send(`{"type":"12"}`)
				c.expectClose(1000)
			}
		}
	}
	got := map[string]string{}
	for !maps.Equal(got, want) {
		f, err := slow.read()
		if err != nil {
			t.Fatalf("with %d of %d: %v", len(got), users, err)
		}
		for _, e := range f["presence"].([]any) {
			u := e.(map[string]any)
			got[u["userId"].(string)] = u["state"].(string)
		}
	}
}

// TestWatchersMoveWithADrainingGateway: they subscribe anew elsewhere, and see nothing of others that move.
func TestWatchersMoveWithADrainingGateway(t *testing.T) {
	checkLeaks(t)
	redis := testredis.Start(t)
	p, _ := startPresence(t, redis, "")
	old, stop := startStoppable(t, redis, "old", withPresence(p))
	next := start(t, redis, "next", withPresence(p))
	watcher, stays := login(t, old.Addr().String(), "watcher", "d"), login(t, next.Addr().String(), "stays", "d")
	moves := login(t, old.Addr().String(), "moves", "d")
	for _, c := range []*client{watcher, stays} {
		c.subscribe("subscribe", []string{"moves", "stays"}, "moves online", "stays online")
	}
	done := make(chan struct{})
	go func() { defer close(done); stop() }()
	moves.expect("31", 502)
	watcher.expect("31", 502)
	again := login(t, next.Addr().String(), "moves", "d")
	moves.expectClose(4502)
	watcher = login(t, next.Addr().String(), "watcher", "d")
	watcher.subscribe("subscribe", []string{"moves", "stays"}, "moves online", "stays online")
	<-done
	stays.nothing()
	watcher.nothing()
	again.send(`{"type":"12"}`)
	watcher.changes("moves offline")
	stays.changes("moves offline")
}
