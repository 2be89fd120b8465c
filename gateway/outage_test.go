package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/imcluster/imcluster/gateway/auth"
	"github.com/imcluster/imcluster/presence/store"
)

// TestOutageOfTheStore: connections stay, logins and chats are refused for now, and everything works again afterwards.
func TestOutageOfTheStore(t *testing.T) {
	w := newWorld()
	g := startGateway(t, w, withOps)
	alice := login(t, g, "alice", "d")
	w.setDown(true)

	alice.send(`{"type":"80","toId":"alice","clientMsgId":"c","content":1}`)
	if f := alice.expect(frame{"type": "81", "code": 500, "clientMsgId": "c"}); f["delayMs"].(float64) < 500 {
		t.Errorf("%v asks to come back too soon", f)
	}
	bob := dial(t, g, "", nil)
	bob.send(`{"type":"10","token":"bob"}`)
	first := bob.expect(frame{"type": "11", "code": 500})["delayMs"].(float64)
	for range 4 {
		bob.send(`{"type":"10","token":"bob"}`)
		last := bob.expect(frame{"type": "11", "code": 500})["delayMs"].(float64)
		if last < first {
			t.Errorf("the delay went from %v to %v ms", first, last)
		}
	}
	alice.expectSilence()
	if live, ready := probe(t, g, "livez"), probe(t, g, "readyz"); live != 200 || ready != 200 {
		t.Errorf("probes in the outage: live %d, ready %d", live, ready)
	}

	w.setDown(false)
	bob.send(`{"type":"10","token":"bob"}`) // on the same connection
	bob.expect(frame{"type": "11", "code": 200})
	alice.send(`{"type":"80","toId":"bob","content":2}`)
	alice.expect(frame{"type": "81", "code": 200})
	bob.expect(frame{"type": "80", "content": 2})
}

// TestStartWithoutTheStore: the gateway lives, is not ready, refuses logins for now, and joins when the store comes.
func TestStartWithoutTheStore(t *testing.T) {
	w := newWorld()
	w.setDown(true)
	g := startGateway(t, w, withOps)
	if live, ready := probe(t, g, "livez"), probe(t, g, "readyz"); live != 200 || ready != 503 {
		t.Errorf("probes: live %d, ready %d", live, ready)
	}
	c := dial(t, g, "?token=alice", nil)
	c.expect(frame{"type": "11", "code": 500})
	w.setDown(false)
	eventually(t, "the gateway is ready", func() bool { return probe(t, g, "readyz") == 200 })
	c.send(`{"type":"10","token":"alice"}`)
	c.expect(frame{"type": "11", "code": 200})
}

func TestStoreOfAnotherClusterIsFatal(t *testing.T) {
	for _, fatal := range []error{store.ErrForeignOwner, store.ErrIncompatible, store.ErrBanned} {
		g, err := New(Config{
			Auth: auth.Insecure{}, PeerKeys: testKeys{"k"}, Listen: "127.0.0.1:0", PeerListen: "127.0.0.1:0",
			join: func(context.Context, store.Identity, store.Local) (membership, error) {
				return nil, fmt.Errorf("join: %w", fatal)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Run(t.Context()); !errors.Is(err, fatal) {
			t.Errorf("Run returned %v, want %v", err, fatal)
		}
	}
}

// TestBannedGatewayClosesItsClients: its pod is gone from the cluster, whatever it believes itself.
func TestBannedGatewayClosesItsClients(t *testing.T) {
	w := newWorld()
	g, stop := startStoppable(t, w)
	c := login(t, g, "alice", "d")
	w.mu.Lock()
	m := w.members[store.Epoch(g.epoch())]
	w.mu.Unlock()
	m.failed <- store.ErrBanned
	c.expectClose(1001)
	if err := stop(); !errors.Is(err, store.ErrBanned) {
		t.Errorf("Run returned %v", err)
	}
}

// TestReplacedSessionIsKicked: the store found a newer session of the device when it re-registered this one.
func TestReplacedSessionIsKicked(t *testing.T) {
	w := newWorld()
	g := startGateway(t, w)
	c := login(t, g, "alice", "d")
	for s := range (local{g}).Sessions(store.Partition("alice")) {
		local{g}.Replaced(s)
	}
	c.expect(frame{"type": "32", "code": 304})
	c.expectClose(4304)
}

// TestSessionsOfLostConnectionsAreGivenUpWhenTheLeaseHadEnded: their users were told to be gone, and would come back for another
// grace. Who is connected stays.
func TestSessionsOfLostConnectionsAreGivenUpWhenTheLeaseHadEnded(t *testing.T) {
	w := newWorld()
	g := startGateway(t, w, func(c *Config) { c.Store.Grace = time.Hour })
	login(t, g, "alice", "d")
	bob := login(t, g, "bob", "d")
	_ = bob.ws.NetConn().Close()
	local{g}.Fenced()
	eventually(t, "bob is gone", func() bool { return len(w.devices("bob")) == 0 })
	if n := len(w.devices("alice")); n != 1 {
		t.Errorf("alice has %d devices, want 1", n)
	}
}

func TestTokenExpiresWhileConnected(t *testing.T) {
	w := newWorld()
	key := testKeys{"0123456789abcdef0123456789abcdef"}
	g := startGateway(t, w, func(c *Config) { c.Auth = auth.NewJWT(key, "", "") })
	sign := func(exp time.Duration) string {
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.RegisteredClaims{
			Subject: "alice", ExpiresAt: jwt.NewNumericDate(time.Now().Add(exp))}).SignedString([]byte(key[0]))
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	c := dial(t, g, "?token="+sign(2*time.Second-auth.Leeway), nil)
	c.expect(frame{"type": "11", "code": 200, "userId": "alice"})
	c.expect(frame{"type": "0", "code": 302})
	c.expectClose(4302)
	c = dial(t, g, "?token="+sign(-auth.Leeway-time.Second), nil)
	c.expect(frame{"type": "11", "code": 302})
	c.expectClose(4302)
}

func withOps(c *Config) { c.OpsListen = "127.0.0.1:0" }

// probe returns the status of a probe.
func probe(t testing.TB, g *Gateway, path string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://%s/%s", g.OpsAddr(), path), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}
