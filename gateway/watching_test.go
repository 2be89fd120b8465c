package gateway

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/imcluster/imcluster/internal/testredis"
	"github.com/imcluster/imcluster/presence/store"
)

// startWatched runs a gateway with a presence pod on a real Redis.
func startWatched(t *testing.T, change ...func(*Config)) *Gateway {
	t.Helper()
	redis := testredis.Start(t)
	g := startGateway(t, newWorld(), append(change, func(c *Config) {
		c.join = nil
		c.Store = store.Config{Addresses: []string{redis.Addr}, Owner: "cluster", Fresh: true}
		c.PresenceAddress = startPresence(t, c.Store)
	})...)
	awaitHealth(t, g)
	return g
}

// presenceOf returns "user state" of a frame's users, sorted.
func presenceOf(f frame) (list []string) {
	if f["presence"] == nil {
		return nil
	}
	for _, p := range f["presence"].([]any) {
		u := p.(map[string]any)
		list = append(list, fmt.Sprint(u["userId"], " ", u["state"]))
	}
	slices.Sort(list)
	return list
}

// connOf returns the connection of a user.
func connOf(t *testing.T, g *Gateway, user string) *conn {
	t.Helper()
	for _, c := range g.table.partition(store.Partition(user)) {
		c.mu.Lock()
		found := c.user == user && c.state == stateOpen
		c.mu.Unlock()
		if found {
			return c
		}
	}
	t.Fatalf("%s is not connected", user)
	return nil
}

// TestWhoIsBeingWrittenToIsToldTheNewest: while a client is being written to, which may take long, it is only noted who has
// changed. Then the client gets one event of how they are by then.
func TestWhoIsBeingWrittenToIsToldTheNewest(t *testing.T) {
	g := startWatched(t)
	slow := login(t, g, "slow", "d")
	slow.send(`{"type":"52","action":"subscribe","users":["a","b","c"]}`)
	slow.expect(frame{"type": "53", "code": 200, "count": 3})
	c := connOf(t, g, "slow")
	c.mu.Lock()
	claimed := c.claimWriterLocked()
	c.mu.Unlock()
	if !claimed {
		t.Fatal("somebody writes already")
	}
	due := func() int { c.mu.Lock(); defer c.mu.Unlock(); return len(c.watching.due) }
	a := login(t, g, "a", "d")
	b := login(t, g, "b", "d")
	eventually(t, "two are noted", func() bool { return due() == 2 })
	a.send(`{"type":"12"}`)
	a.expectClose(1000)
	login(t, g, "c", "d")
	eventually(t, "three are noted", func() bool { return due() == 3 })
	eventually(t, "a has gone", func() bool { return g.hub.Stats().Changes >= 4 })
	if out := func() *[]outbound { c.mu.Lock(); defer c.mu.Unlock(); return c.out }(); out != nil {
		t.Errorf("%d frames are queued", len(*out))
	}
	c.flush()
	if got, want := presenceOf(slow.expect(frame{"type": "54"})), []string{"a offline", "b online", "c online"}; !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
	b.send(`{"type":"12"}`)
	if got, want := presenceOf(slow.expect(frame{"type": "54"})), []string{"b offline"}; !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
}

// TestAnswersThatWouldCutOffTheClientAreRefused, and change nothing.
func TestAnswersThatWouldCutOffTheClientAreRefused(t *testing.T) {
	g := startWatched(t, func(c *Config) { c.MaxFrameBytes, c.MaxQueuedBytes = 8192, 16384 })
	c := login(t, g, "a", "d")
	users := make([]string, 80)
	for i := range users {
		users[i] = fmt.Sprintf(`"%03d%s"`, i, strings.Repeat("x", 90))
	}
	list := strings.Join(users, ",")
	c.send(`{"type":"50","users":[%s]}`, list)
	c.expect(frame{"type": "51", "code": 607})
	c.send(`{"type":"52","action":"subscribe","users":[%s]}`, list)
	c.expect(frame{"type": "53", "code": 607})
	c.send(`{"type":"52","action":"subscribe","users":["b"]}`)
	c.expect(frame{"type": "53", "code": 200, "count": 1})
}

// TestSubscriptionsEndWithTheConnection, however it ends, and whatever is under way.
func TestSubscriptionsEndWithTheConnection(t *testing.T) {
	g := startWatched(t)
	for i := range 20 {
		c := login(t, g, fmt.Sprint("user", i), "d")
		c.send(`{"type":"52","action":"replace","users":["x","y","user%d"]}`, i)
		switch i % 4 {
		case 0:
			c.expect(frame{"type": "53", "code": 200, "count": 3})
		case 1:
			c.ws.Close()
		case 2:
			c.send(`{"type":"12"}`)
		case 3:
			c.send(`nonsense`)
			c.expect(frame{"type": "53"})
		}
		c.ws.Close()
	}
	eventually(t, "no subscription is left", func() bool { return g.connections() == 0 && g.hub.Stats().Subscriptions == 0 })
}

// TestStatusIsSetForAllDevices, by a login and by a frame, and bad ones are refused.
func TestStatusIsSetForAllDevices(t *testing.T) {
	g := startWatched(t)
	watcher := login(t, g, "watcher", "d")
	watcher.send(`{"type":"52","action":"subscribe","users":["bob"]}`)
	watcher.expect(frame{"type": "53", "code": 200})
	query := "?token=bob&deviceId=phone&status=busy&statusText=deep%20in%20work"
	phone := dial(t, g, query, nil)
	phone.expect(frame{"type": "11", "code": 200, "status": "busy", "statusText": "deep in work"})
	told := func(want frame) {
		t.Helper()
		f := watcher.expect(frame{"type": "54"})
		watcher.check(f["presence"].([]any)[0].(map[string]any), want)
	}
	told(frame{"state": "online", "status": "busy", "text": "deep in work"})
	laptop := dial(t, g, "?token=bob&deviceId=laptop", nil)
	laptop.expect(frame{"type": "11", "code": 200, "status": "busy", "statusText": "deep in work"})
	laptop.send(`{"type":"56","status":"invisible","requestId":"r"}`)
	laptop.expect(frame{"type": "57", "code": 200, "status": "invisible", "statusText": nil, "requestId": "r"})
	told(frame{"state": "offline", "status": nil, "text": nil, "platforms": nil})
	for _, tc := range []struct {
		frame string
		code  int
	}{
		{`{"type":"56"}`, 402}, {`{"type":"56","status":"asleep"}`, 402}, {`{"type":"56","status":"away","fromId":"eve"}`, 303},
		{`{"type":"56","status":"away","statusText":"` + strings.Repeat("x", 129) + `"}`, 402},
	} {
		phone.send("%s", tc.frame)
		phone.expect(frame{"type": "57", "code": tc.code})
	}
	c := connOf(t, g, "bob")
	if s, _ := c.registered(); s.Status == nil || s.Status.Show != "invisible" || s.Addr != "127.0.0.1" {
		t.Errorf("after a loss of data it would be registered as %+v", s)
	}
	bad := dial(t, g, "", nil)
	bad.send(`{"type":"10","token":"bob","status":"offline"}`)
	bad.expect(frame{"type": "11", "code": 402})
}
