package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/imcluster/imcluster/gateway/auth"
)

const testTimeout = 10 * time.Second

// testKeys is the peer key of tests.
type testKeys []string

func (k testKeys) Values() (values [][]byte) {
	for _, v := range k {
		values = append(values, []byte(v))
	}
	return values
}

// startGateway runs a gateway on a registry in memory until the test ends.
func startGateway(t testing.TB, w *world, change ...func(*Config)) *Gateway {
	t.Helper()
	g, stop := startStoppable(t, w, change...)
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("the gateway ended with: %v", err)
		}
	})
	return g
}

// startStoppable runs a gateway until stop, which waits for its end.
func startStoppable(t testing.TB, w *world, change ...func(*Config)) (g *Gateway, stop func() error) {
	t.Helper()
	g, stop = startUnready(t, w, change...)
	eventually(t, "the gateway has joined", func() bool { return g.Ready() || w.isDown() })
	return g, stop
}

// startUnready is startStoppable that does not wait for the gateway to be ready.
func startUnready(t testing.TB, w *world, change ...func(*Config)) (g *Gateway, stop func() error) {
	t.Helper()
	cfg := Config{
		PodName: "gateway", Cluster: "cluster", Auth: auth.Insecure{}, PeerKeys: testKeys{"peer key"},
		Listen: "127.0.0.1:0", PeerListen: "127.0.0.1:0", DrainWindow: 5 * time.Second, join: w.join,
	}
	cfg.Store.Grace = 50 * time.Millisecond
	for _, c := range change {
		c(&cfg)
	}
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	return g, func() error {
		cancel()
		select {
		case err := <-done:
			done <- nil
			return err
		case <-time.After(testTimeout):
			return errors.New("it did not end")
		}
	}
}

func (w *world) isDown() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.down
}

// eventually waits until the condition holds.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(testTimeout); !condition(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not true in time: %s", what)
		}
	}
}

// client is a WebSocket client that knows nothing of the server's code.
type client struct {
	testing.TB
	ws *websocket.Conn
}

type frame map[string]any

func dial(t testing.TB, g *Gateway, query string, header http.Header) *client {
	t.Helper()
	ws, resp, err := websocket.DefaultDialer.DialContext(t.Context(), fmt.Sprintf("ws://%s/ws%s", g.Addr(), query), header)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	resp.Body.Close()
	t.Cleanup(func() { ws.Close() })
	return &client{t, ws}
}

// login connects and logs in a device.
func login(t testing.TB, g *Gateway, user, device string) *client {
	t.Helper()
	c := dial(t, g, "", nil)
	c.send(`{"type":"10","token":%q,"deviceId":%q}`, user, device)
	if f := c.read(); f["type"] != "11" || f["code"] != 200.0 {
		t.Fatalf("login of %s was answered with %v", user, f)
	}
	return c
}

func (c *client) send(format string, args ...any) {
	c.Helper()
	if err := c.ws.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, format, args...)); err != nil {
		c.Fatalf("send: %v", err)
	}
}

// raw returns the next frame as it was sent.
func (c *client) raw() (string, error) {
	_ = c.ws.SetReadDeadline(time.Now().Add(testTimeout))
	kind, data, err := c.ws.ReadMessage()
	if err == nil && kind != websocket.TextMessage {
		err = fmt.Errorf("a message of kind %d", kind)
	}
	return string(data), err
}

func (c *client) read() frame {
	c.Helper()
	data, err := c.raw()
	if err != nil {
		c.Fatalf("read: %v", err)
	}
	var f frame
	if err := json.Unmarshal([]byte(data), &f); err != nil {
		c.Fatalf("read %q: %v", data, err)
	}
	return f
}

// expect reads a frame and compares the given fields.
func (c *client) expect(want frame) frame {
	c.Helper()
	got := c.read()
	c.check(got, want)
	return got
}

// check compares the given fields; nil stands for one that is absent.
func (c *client) check(got, want frame) {
	c.Helper()
	for k, v := range want {
		if n, ok := v.(int); ok {
			v = float64(n)
		}
		if got[k] != v {
			c.Fatalf("got %v, want %v", got, want)
		}
	}
}

// next reads the next frame that is not the answer to an acknowledgement.
func (c *client) next() frame {
	c.Helper()
	for {
		if f := c.read(); f["type"] != "91" {
			return f
		}
	}
}

// receive reads the next message, which must have the given fields, and acknowledges it.
func (c *client) receive(want frame) frame {
	c.Helper()
	f := c.next()
	c.check(f, want)
	c.ack(f)
	return f
}

func (c *client) ack(f frame) {
	c.Helper()
	c.send(`{"type":"90","msgId":%q}`, f["msgId"])
}

// expectClose reads until the connection is closed, which must be with the code.
func (c *client) expectClose(code int) {
	c.Helper()
	for {
		_, err := c.raw()
		if err == nil {
			continue
		}
		if !websocket.IsCloseError(err, code) {
			c.Fatalf("closed with %v, want code %d", err, code)
		}
		return
	}
}

// expectSilence checks that a ping is answered before anything else comes.
func (c *client) expectSilence() {
	c.Helper()
	c.send(`{"type":"40"}`)
	c.expect(frame{"type": "41"})
}

func mustUnmarshal(t testing.TB, data string, to any) {
	t.Helper()
	if err := json.Unmarshal([]byte(data), to); err != nil {
		t.Fatalf("%q: %v", data, err)
	}
}

// panicky is an authenticator with a fault.
type panicky struct{ auth.Insecure }

func (p panicky) Authenticate(ctx context.Context, c auth.Credentials) (auth.Identity, error) {
	if c.Token == "panic" {
		panic("fault")
	}
	return p.Insecure.Authenticate(ctx, c)
}
