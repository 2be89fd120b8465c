package gateway_test

import (
	"strings"
	"testing"

	peerv1 "github.com/imcluster/imcluster/api/peer/v1"
	"github.com/imcluster/imcluster/internal/testredis"
	"github.com/imcluster/imcluster/presence/feed"
	"github.com/imcluster/imcluster/presence/store"
)

// TestEveryGatewayOfAUserPutsTheNewestStatusBack: it was set by a device on another gateway, or by the back end, and is put back
// though that gateway has nobody any more who knows.
func TestEveryGatewayOfAUserPutsTheNewestStatusBack(t *testing.T) {
	checkLeaks(t)
	redis := testredis.Start(t)
	s := readers(t, redis)
	a, b := start(t, redis, "a"), start(t, redis, "b")
	anna, gustav := login(t, a.Addr().String(), "anna", "phone"), login(t, a.Addr().String(), "gustav", "phone")
	for _, c := range []*client{anna, gustav} {
		c.send(`{"type":"56","status":"busy"}`)
		c.expect("57", 200)
	}
	laptop := login(t, b.Addr().String(), "anna", "laptop")
	laptop.send(`{"type":"56","status":"invisible"}`)
	laptop.expect("57", 200)
	// As presence does, which asks any gateway.
	change, err := s.SetStatus(t.Context(), "gustav", store.Status{Show: feed.ShowInvisible})
	if err != nil || len(change.Gateways) != 1 {
		t.Fatalf("set by the back end: %+v, %v", change, err)
	}
	b.Publish(&peerv1.Publish{Gateways: []string{string(change.Gateways[0])},
		Status: &peerv1.StatusSet{User: "gustav", Show: feed.ShowInvisible, Set: change.Set}}, func(p *peerv1.Published) {
		if p.GetCode() != 200 {
			t.Errorf("answered %v", p)
		}
	})
	// It comes after the statuses on the way from gateway to gateway.
	sender := login(t, b.Addr().String(), "sender", "d")
	for i, user := range []string{"anna", "gustav"} {
		if code := sender.chat(user, i); code != 200 {
			t.Fatalf("answered with %v", code)
		}
	}
	anna.expect("80", 0)
	gustav.expect("80", 0)
	laptop.send(`{"type":"12"}`)
	laptop.expectClose(1000)

	redis.MustDo("FLUSHALL")
	for _, user := range []string{"anna", "gustav"} {
		eventually(t, user+" is registered again, and hidden", func() bool {
			if u := stateOf(t, s, user); u.State == store.Online {
				t.Fatalf("%s hides, and is seen: %+v", user, u)
			}
			return strings.HasPrefix(statusIn(redis, user), "i")
		})
	}
}

// TestStatusOfALoginIsPutBackByEveryGateway: who came out of hiding by logging in elsewhere would otherwise never be seen again
// after Redis has lost its data, and who hid would be seen.
func TestStatusOfALoginIsPutBackByEveryGateway(t *testing.T) {
	checkLeaks(t)
	redis := testredis.Start(t)
	s := readers(t, redis)
	a, b := start(t, redis, "a"), start(t, redis, "b")
	changes := []struct{ user, old, new, state string }{
		{"anna", feed.ShowInvisible, feed.ShowOnline, "o"},
		{"gustav", feed.ShowBusy, feed.ShowInvisible, "i"},
	}
	phones := map[string]*client{}
	for _, c := range changes {
		phones[c.user] = login(t, a.Addr().String(), c.user, "phone")
		phones[c.user].send(`{"type":"56","status":%q}`, c.old)
		phones[c.user].expect("57", 200)
	}
	sender := login(t, b.Addr().String(), "sender", "d")
	for i, c := range changes {
		laptop := dial(t, "ws://"+b.Addr().String()+"/ws")
		laptop.send(`{"type":"10","token":%q,"deviceId":"laptop","status":%q}`, c.user, c.new)
		laptop.expect("11", 200)
		// It comes after the status on the way from gateway to gateway.
		if code := sender.chat(c.user, i); code != 200 {
			t.Fatalf("answered with %v", code)
		}
		phones[c.user].expect("80", 0)
		laptop.send(`{"type":"12"}`)
		laptop.expectClose(1000)
	}

	redis.MustDo("FLUSHALL")
	for _, c := range changes {
		eventually(t, c.user+" is registered again, with the status of the login", func() bool {
			if u := stateOf(t, s, c.user); c.new == feed.ShowInvisible && u.State == store.Online {
				t.Fatalf("%s hides, and is seen: %+v", c.user, u)
			}
			return strings.HasPrefix(statusIn(redis, c.user), c.state)
		})
	}
	eventually(t, "anna is online", func() bool { return stateOf(t, s, "anna").State == store.Online })
}

// statusIn is the status of a user as Redis has it; empty if it has none.
func statusIn(redis *testredis.Server, user string) string {
	for _, key := range redis.MustDo("KEYS", "u:*:"+user).([]any) {
		if text, ok := redis.MustDo("HGET", key.(string), "t").(string); ok {
			return text
		}
	}
	return ""
}
