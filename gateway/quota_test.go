package gateway

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/imcluster/imcluster/gateway/auth"
)

// dialFrom connects from one of the addresses of the loopback network. It returns nil and the answer if that was refused by
// HTTP.
func dialFrom(t *testing.T, g *Gateway, address, query string) (c *client, status int, header http.Header) {
	t.Helper()
	d := websocket.Dialer{NetDialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}).DialContext}
	ws, resp, err := d.DialContext(t.Context(), "ws://"+g.Addr().String()+"/ws"+query, nil)
	if resp == nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if err != nil {
		return nil, resp.StatusCode, resp.Header
	}
	t.Cleanup(func() { ws.Close() })
	return &client{t, ws}, resp.StatusCode, nil
}

func TestAddressWithTooManyConnectionsIsToldByFrameThenByHTTP(t *testing.T) {
	g := startGateway(t, newWorld(), func(c *Config) { c.MaxConnectionsPerAddress = 2 })
	one, _, _ := dialFrom(t, g, "127.0.0.2", "?token=a")
	one.expect(frame{"type": "11", "code": 200})
	two, _, _ := dialFrom(t, g, "127.0.0.2", "?token=b")
	two.expect(frame{"type": "11", "code": 200})
	// Connections that are refused but do not go away count, too.
	var refused []*client
	for range 4 {
		c, _, _ := dialFrom(t, g, "127.0.0.2", "?token=c")
		if f := c.expect(frame{"type": "11", "code": 606}); f["delayMs"].(float64) < 1000 {
			t.Errorf("%v asks to come back too soon", f)
		}
		refused = append(refused, c)
	}
	if c, status, header := dialFrom(t, g, "127.0.0.2", "?token=c"); c != nil || status != http.StatusTooManyRequests || header.Get("Retry-After") == "" {
		t.Errorf("answered %d", status)
	}
	for _, c := range refused {
		c.expectClose(4606)
		c.ws.Close()
	}
	other, _, _ := dialFrom(t, g, "127.0.0.3", "?token=d")
	other.expect(frame{"type": "11", "code": 200})
	one.expectSilence()
	two.ws.Close()
	eventually(t, "there is room again", func() bool {
		c, _, _ := dialFrom(t, g, "127.0.0.2", "?token=e")
		if c == nil {
			return false
		}
		defer c.ws.Close()
		return c.read()["code"] == 200.0
	})
}

// TestAddressMayTryALimitedNumberOfLogins, good or not; what is too much is not asked about.
func TestAddressMayTryALimitedNumberOfLogins(t *testing.T) {
	a := &asked{}
	g := startGateway(t, newWorld(), func(c *Config) { c.MaxLoginsPerSecondPerAddress, c.Auth = 1, recording{a} })
	tryLogin := func(address, token string) float64 {
		t.Helper()
		c, status, _ := dialFrom(t, g, address, "")
		if c == nil {
			t.Fatalf("answered %d", status)
		}
		defer c.ws.Close()
		c.send(`{"type":"10","token":%q}`, token)
		f := c.read()
		if f["code"] == 606.0 {
			if f["type"] != "11" || f["delayMs"] == nil {
				t.Errorf("refused with %v", f)
			}
			c.expectClose(4606)
		}
		return f["code"].(float64)
	}
	if code := tryLogin("127.0.0.2", "good"); code != 200 {
		t.Errorf("the first login: %v", code)
	}
	guess := strings.Repeat("x", 200)
	for n := 0; tryLogin("127.0.0.2", guess) == 301; n++ {
		if n > 100 {
			t.Fatal("bad logins are not limited")
		}
		guess += "x"
	}
	if a.last().Token == guess {
		t.Error("the token of a login too many was judged")
	}
	if code := tryLogin("127.0.0.3", "other"); code != 200 {
		t.Errorf("another address: %v", code)
	}
	eventually(t, "the address may log in again", func() bool { return tryLogin("127.0.0.2", "good") == 200 })
}

// chatter sends n chats on each connection, and returns how often each code was answered.
func chatter(t *testing.T, n int, clients ...*client) map[float64]int {
	t.Helper()
	var mu sync.Mutex
	codes := map[float64]int{}
	var wg sync.WaitGroup
	for _, c := range clients {
		wg.Go(func() {
			for range n {
				c.send(`{"type":"80","toId":"nobody","content":1}`)
				f := c.read()
				mu.Lock()
				codes[f["code"].(float64)]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return codes
}

func TestUsersAndAddressesHaveRatesForAllTheirConnections(t *testing.T) {
	for _, tc := range []struct {
		name    string
		limit   func(*Config)
		users   [2]string
		address [2]string
		code    float64
		shared  bool
	}{
		{"one user, two devices", func(c *Config) { c.MaxFramesPerSecondPerUser = 20 }, [2]string{"a", "a"}, [2]string{"127.0.0.2", "127.0.0.3"}, 605, true},
		{"two users", func(c *Config) { c.MaxFramesPerSecondPerUser = 20 }, [2]string{"a", "b"}, [2]string{"127.0.0.2", "127.0.0.2"}, 605, false},
		{"one address, two users", func(c *Config) { c.MaxFramesPerSecondPerAddress = 20 }, [2]string{"a", "b"}, [2]string{"127.0.0.2", "127.0.0.2"}, 606, true},
		{"two addresses", func(c *Config) { c.MaxFramesPerSecondPerAddress = 20 }, [2]string{"a", "a"}, [2]string{"127.0.0.2", "127.0.0.3"}, 606, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := startGateway(t, newWorld(), func(c *Config) { c.MaxFramesPerSecond = -1; tc.limit(c) })
			var clients []*client
			for i := range 2 {
				c, _, _ := dialFrom(t, g, tc.address[i], fmt.Sprintf("?token=%s&deviceId=d%d", tc.users[i], i))
				c.expect(frame{"type": "11", "code": 200})
				clients = append(clients, c)
			}
			// Twice 20 may come at once; each pair of connections sends 70.
			codes := chatter(t, 35, clients...)
			if tc.shared == (codes[tc.code] == 0) {
				t.Errorf("answers by code: %v, shared: %v", codes, tc.shared)
			}
			if tc.shared && codes[tc.code] > 35 {
				t.Errorf("%d of 70 were refused, want those above two seconds' worth", codes[tc.code])
			}
			for _, c := range clients { // nobody is cut off for what they do together
				if err := c.ws.WriteMessage(websocket.TextMessage, []byte(`{"type":"40"}`)); err != nil {
					t.Error(err)
				}
				if f := c.read(); f["type"] != "41" && f["code"] != tc.code {
					t.Errorf("a ping was answered with %v", f)
				}
			}
		})
	}
}

// Who connects anew gets no fresh share, and nothing is kept of those who stay away.
func TestShareOutlivesItsConnections(t *testing.T) {
	g := startGateway(t, newWorld(), func(c *Config) { c.MaxFramesPerSecond, c.MaxFramesPerSecondPerUser = -1, 20 })
	c := login(t, g, "a", "d")
	chatter(t, 60, c)
	c.ws.Close()
	again := login(t, g, "a", "e")
	if codes := chatter(t, 30, again); codes[605] == 0 {
		t.Errorf("after connecting anew: %v", codes)
	}
	again.ws.Close()
	eventually(t, "the share is forgotten", func() bool {
		g.users.mu.Lock()
		defer g.users.mu.Unlock()
		return len(g.users.byID) == 0
	})
}

func TestConnectionsShareNothingWithoutLimits(t *testing.T) {
	g := startGateway(t, newWorld())
	login(t, g, "a", "d")
	for _, c := range g.all() {
		if c.quota != nil {
			t.Error("a connection pays for limits that nobody has set")
		}
	}
	if g.users != nil || g.addresses != nil || g.logins != nil {
		t.Error("there are shares")
	}
}

// asked is an authenticator that remembers what it was asked.
type asked struct {
	auth.Insecure
	mu    sync.Mutex
	asked auth.Credentials
}

func (a *asked) last() auth.Credentials {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked
}

func TestAddressIsThatOfTheClientBehindTheProxy(t *testing.T) {
	for name, tc := range map[string]struct {
		trusted []netip.Prefix
		want    string
	}{
		"trusted": {[]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, "198.51.100.7"},
		"not":     {nil, "127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			a := &asked{}
			g := startGateway(t, newWorld(), func(c *Config) { c.TrustedProxies, c.Auth = tc.trusted, recording{a} })
			c := dial(t, g, "?token=u&deviceId=phone&platform=ios", http.Header{"X-Forwarded-For": {"198.51.100.7"}})
			c.expect(frame{"type": "11", "code": 200})
			want := auth.Credentials{Token: "u", DeviceID: "phone", Platform: "ios", Address: tc.want}
			if got := a.last(); got != want {
				t.Errorf("asked about %+v, want %+v", got, want)
			}
		})
	}
}
