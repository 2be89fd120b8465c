package gateway_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/gorilla/websocket"

	"github.com/imcluster/imcluster/gateway"
	"github.com/imcluster/imcluster/gateway/auth"
	"github.com/imcluster/imcluster/internal/secretdir"
	"github.com/imcluster/imcluster/internal/testredis"
	"github.com/imcluster/imcluster/presence/store"
)

const tokenKey = "key-of-tokens-of-thirty-two-bytes"

func withJWT(c *gateway.Config) { c.Auth = auth.NewJWT(secretdir.Static([]byte(tokenKey)), "", "") }

func tokenOf(t *testing.T, user, id string, issued time.Time) string {
	t.Helper()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": user, "jti": id, "iat": issued.Unix(), "exp": time.Now().Add(time.Hour).Unix()}).SignedString([]byte(tokenKey))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// connect opens a connection without waiting for an answer.
func connect(t *testing.T, g *gateway.Gateway, query string) *client {
	t.Helper()
	ws, resp, err := websocket.DefaultDialer.DialContext(t.Context(), "ws://"+g.Addr().String()+"/ws"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	t.Cleanup(func() { ws.Close() })
	return &client{t, ws}
}

// TestRevocationReachesAllGatewaysWithinASecond and is held against whoever logs in afterwards, here and elsewhere.
func TestRevocationReachesAllGatewaysWithinASecond(t *testing.T) {
	checkLeaks(t)
	redis := testredis.Start(t)
	gateways := []*gateway.Gateway{start(t, redis, "a", withJWT), start(t, redis, "b", withJWT)}
	st, err := store.Open(t.Context(), storeConfig(redis))
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	minuteAgo := time.Now().Add(-time.Minute)
	log := func(g *gateway.Gateway, user, device, id string, issued time.Time) *client {
		return connect(t, g, fmt.Sprintf("?deviceId=%s&token=%s", device, tokenOf(t, user, id, issued)))
	}
	phone, desk := log(gateways[0], "alice", "phone", "t1", minuteAgo), log(gateways[1], "alice", "desk", "t2", minuteAgo)
	car, bob := log(gateways[1], "alice", "car", "t3", minuteAgo), log(gateways[0], "bob", "phone", "t1", minuteAgo)
	for _, c := range []*client{phone, desk, car, bob} {
		c.expect("11", 200)
	}
	revoke := func(r store.Revocation) time.Time {
		t.Helper()
		r.User = "alice"
		if err := st.Revoke(t.Context(), r, time.Hour); err != nil {
			t.Fatal(err)
		}
		return time.Now()
	}
	ended := func(c *client, since time.Time) {
		t.Helper()
		c.expect("32", 305)
		c.expectClose(4305)
		t.Logf("ended after %v", time.Since(since).Round(time.Millisecond)) // on an idle machine 0.4 s on average
	}
	ended(desk, revoke(store.Revocation{TokenID: "t2"}))
	ended(car, revoke(store.Revocation{Device: "car"}))
	// The token is not good anywhere any more; for the device another one is.
	for _, g := range gateways {
		c := log(g, "alice", "tablet", "t2", minuteAgo)
		c.expect("11", 305)
		c.expectClose(4305)
	}
	log(gateways[0], "alice", "car", "t4", time.Now().Add(time.Second)).expect("11", 200)
	// A fresh token for a session that is open is held against it, too.
	phone.send(`{"type":"10","deviceId":"phone","token":%q}`, tokenOf(t, "alice", "t2", minuteAgo))
	phone.expect("11", 305)
	phone.expectClose(4305)
	phone = log(gateways[0], "alice", "phone", "t1", minuteAgo)
	phone.expect("11", 200)
	ended(phone, revoke(store.Revocation{}))
	bob.send(`{"type":"40"}`)
	bob.expect("41", 0)
}

func TestUserWithTooManyDevicesIsToldSo(t *testing.T) {
	checkLeaks(t)
	redis := testredis.Start(t)
	few := func(c *gateway.Config) { c.Store.MaxDevices = 2 }
	a, b := start(t, redis, "a", few), start(t, redis, "b", few)
	one := connect(t, a, "?token=alice&deviceId=one")
	one.expect("11", 200)
	connect(t, b, "?token=alice&deviceId=two").expect("11", 200)
	for _, g := range []*gateway.Gateway{a, b} {
		c := connect(t, g, "?token=alice&deviceId=three")
		c.expect("11", 605)
		c.expectClose(4605)
	}
	connect(t, b, "?token=alice&deviceId=two").expect("11", 200) // takes the place of its own session
	one.send(`{"type":"12"}`)
	one.expectClose(websocket.CloseNormalClosure)
	connect(t, b, "?token=alice&deviceId=three").expect("11", 200)
}
