package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/imcluster/imcluster/api/wire"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// Idle connections of http.DefaultClient, from the examples.
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

// gateway is a server that does what the test says with each connection, over pipes, so that synctest sees all of it.
type gateway struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	server *http.Server
	served sync.WaitGroup
}

// newGateway serves connections with script until the returned stop function is called.
func newGateway(t *testing.T, script func(*peer)) (*gateway, func()) {
	t.Helper()
	g := &gateway{conns: make(chan net.Conn), closed: make(chan struct{})}
	var upgrader websocket.Upgrader
	g.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/ws" {
			http.NotFound(w, r)
			return
		}
		ws, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		g.served.Go(func() {
			defer ws.Close()
			script(&peer{t: t, ws: ws, auth: r.Header.Get("Authorization")})
		})
	})}
	g.served.Go(func() { _ = g.server.Serve(g) })
	return g, func() { _ = g.server.Close(); g.served.Wait() }
}

func (g *gateway) Accept() (net.Conn, error) {
	select {
	case c := <-g.conns:
		return c, nil
	case <-g.closed:
		return nil, net.ErrClosed
	}
}

func (g *gateway) Close() error   { g.once.Do(func() { close(g.closed) }); return nil }
func (g *gateway) Addr() net.Addr { return &net.TCPAddr{} }

func (g *gateway) dialer() *websocket.Dialer {
	return &websocket.Dialer{NetDialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		select {
		case g.conns <- theirs:
			return ours, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}
}

// peer is the server's end of a connection.
type peer struct {
	t    *testing.T
	ws   *websocket.Conn
	auth string
}

// expect reads frames until one holds all of the texts; pings are answered.
func (p *peer) expect(texts ...string) string {
next:
	for {
		_, data, err := p.ws.ReadMessage()
		if err != nil {
			p.t.Errorf("waiting for %q: %v", texts, err)
			return ""
		}
		if string(data) == `{"type":"40"}` && texts[0] != string(data) {
			p.send(`{"type":"41"}`)
			continue
		}
		for _, text := range texts {
			if !strings.Contains(string(data), text) {
				p.t.Errorf("got %s, want something with %s", data, text)
				continue next
			}
		}
		return string(data)
	}
}

func (p *peer) send(format string, args ...any) {
	_ = p.ws.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, format, args...))
}

func (p *peer) close(code int) {
	_ = p.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), time.Now().Add(time.Second))
}

// login answers a login.
func (p *peer) login() {
	p.expect(`{"type":"10","token":"alice"`)
	p.send(`{"type":"11","code":200,"userId":"alice","deviceId":"default","sessionId":"s1","heartbeatSeconds":10}`)
}

// drain reads until the client has gone.
func (p *peer) drain() {
	for {
		if _, _, err := p.ws.ReadMessage(); err != nil {
			return
		}
	}
}

// session runs script against a client that has logged in.
func session(t *testing.T, cfg Config, script func(*peer), use func(*testing.T, *Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		g, stop := newGateway(t, func(p *peer) { p.login(); script(p) })
		defer stop()
		cfg.URL, cfg.Token, cfg.Dialer = "ws://gateway", "alice", g.dialer()
		c, err := Dial(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		use(t, c)
		c.Close()
		<-c.Done()
	})
}

func TestLogin(t *testing.T) {
	session(t, Config{}, (*peer).drain, func(t *testing.T, c *Conn) {
		if c.UserID() != "alice" || c.DeviceID() != "default" || c.SessionID() != "s1" || c.Err() != nil {
			t.Errorf("logged in as %s on %s, session %s, %v", c.UserID(), c.DeviceID(), c.SessionID(), c.Err())
		}
	})
}

func TestLoginFails(t *testing.T) {
	for _, tc := range []struct {
		name   string
		script func(*peer)
		url    string
		want   func(error) bool
	}{
		{name: "refused", script: func(p *peer) {
			p.send(`{"type":"11","code":301,"message":"no"}`)
			p.close(4301)
		}, want: refusedWith(wire.CodeInvalidToken)},
		{name: "too busy", script: func(p *peer) { p.close(4602) }, want: refusedWith(wire.CodeTooManyConns)},
		{name: "silence", script: (*peer).drain, want: func(err error) bool { return errors.Is(err, context.DeadlineExceeded) }},
		{name: "not a frame", script: func(p *peer) { p.send("hello") }, want: says("broken frame")},
		{name: "no login answer", script: func(p *peer) { p.send(`{"type":"81","code":200}`) }, want: says("answered with CHAT_RESP")},
		{name: "not a gateway", url: "ws://gateway/elsewhere", want: says("HTTP 404")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, stop := newGateway(t, func(p *peer) { p.expect(`"type":"10"`); tc.script(p) })
				defer stop()
				if tc.url == "" {
					tc.url = "ws://gateway/ws"
				}
				_, err := Dial(t.Context(), Config{URL: tc.url, Token: "alice", Dialer: g.dialer()})
				if err == nil || !tc.want(err) {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

func refusedWith(code wire.Code) func(error) bool {
	return func(err error) bool {
		var refused *Error
		return errors.As(err, &refused) && refused.Code == code
	}
}

func says(text string) func(error) bool {
	return func(err error) bool { return strings.Contains(err.Error(), text) }
}

func TestTokenInTheHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, stop := newGateway(t, func(p *peer) {
			if p.auth != "Bearer alice" {
				t.Errorf("Authorization is %q", p.auth)
			}
			p.send(`{"type":11,"code":200,"userId":"alice","deviceId":"default"}`)
			p.drain()
		})
		defer stop()
		c, err := Dial(t.Context(), Config{URL: "ws://gateway", Token: "alice", TokenInHandshake: true, Dialer: g.dialer()})
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	})
}

func TestAnswersFindTheirCalls(t *testing.T) {
	session(t, Config{}, func(p *peer) {
		p.expect(`"type":"80"`, `"toId":"bob"`, `"clientMsgId":"one"`, `"content":{"contentType":1,"body":"测试"}`)
		p.expect(`"clientMsgId":"two"`)
		p.send(`{"type":"81","code":600,"clientMsgId":"two","message":"too large","delayMs":1500}`)
		p.send(`{"type":"81","code":201,"clientMsgId":"one","msgId":"m1","time":1767225600123}`)
		p.expect(`{"type":"90","msgId":"m1"}`)
		p.send(`{"type":"91","code":200,"msgId":"m1"}`)
		p.drain()
	}, func(t *testing.T, c *Conn) {
		var one Receipt
		var oneErr, twoErr error
		var calls sync.WaitGroup
		calls.Go(func() {
			one, oneErr = c.Send(t.Context(), Outgoing{To: "bob", Content: Text("测试"), ClientMsgID: "one"})
		})
		synctest.Wait()
		calls.Go(func() {
			_, twoErr = c.Send(t.Context(), Outgoing{To: "bob", Content: Text("x"), ClientMsgID: "two"})
		})
		calls.Wait()
		if oneErr != nil || one.MsgID != "m1" || one.Code != wire.CodeAccepted || one.Time.UnixMilli() != 1767225600123 {
			t.Errorf("one: %+v, %v", one, oneErr)
		}
		var refused *Error
		if !errors.As(twoErr, &refused) || refused.Code != wire.CodeFrameTooLarge || refused.Delay != 1500*time.Millisecond {
			t.Errorf("two: %v", twoErr)
		}
		if err := c.Ack(t.Context(), "m1"); err != nil {
			t.Error(err)
		}
	})
}

func TestMessagesAreAcknowledgedWhenHandled(t *testing.T) {
	var c *Conn
	handled := make(chan string, 1)
	cfg := Config{OnMessage: func(m Message) {
		// A handler may wait for answers of the server.
		if _, err := c.SendText(context.Background(), m.From, "re: "+m.Text()); err != nil {
			t.Error(err)
		}
		handled <- m.Text()
	}}
	ready := make(chan struct{})
	session(t, cfg, func(p *peer) {
		<-ready
		p.send(`{"type":"80","msgId":"m7","fromId":"bob","toId":"alice","content":{"contentType":1,"body":"hi"}}`)
		reply := p.expect(`"type":"80"`, `"toId":"bob"`, `re: hi`)
		_, id, _ := strings.Cut(reply, `"clientMsgId":"`)
		p.send(`{"type":"81","code":201,"clientMsgId":%q}`, id[:36])
		p.expect(`{"type":"90","msgId":"m7"}`)
		p.drain()
	}, func(t *testing.T, conn *Conn) {
		c = conn
		close(ready)
		if text := <-handled; text != "hi" {
			t.Errorf("handled %q", text)
		}
		synctest.Wait()
	})
}

func TestWhyAConnectionEnds(t *testing.T) {
	reconnects := make(chan time.Duration, 1)
	for _, tc := range []struct {
		name   string
		script func(*peer)
		want   func(error) bool
	}{
		{"kicked", func(p *peer) { p.send(`{"type":"32","code":304}`); p.drain() }, is(ErrKicked)},
		{"kicked by close code", func(p *peer) { p.close(4304) }, is(ErrKicked)},
		{"idle", func(p *peer) { p.send(`{"type":"30","code":408}`); p.drain() }, is(ErrIdle)},
		{"slow consumer", func(p *peer) { p.close(4603) }, refusedWith(wire.CodeSlowConsumer)},
		{"reconnect", func(p *peer) { p.send(`{"type":"31","code":502,"delayMs":250}`); p.close(4502) }, func(err error) bool {
			var moved *ReconnectError
			return errors.As(err, &moved) && moved.Delay == 250*time.Millisecond && <-reconnects == moved.Delay
		}},
		{"stopped", func(p *peer) { p.close(1001) }, func(err error) bool { return websocket.IsCloseError(err, 1001) }},
		{"cut off", func(*peer) {}, says("EOF")},
		{"broken frame", func(p *peer) { p.send(`{`); p.drain() }, says("broken frame")},
		{"silence", func(p *peer) {
			for range silentHeartbeats - 1 { // pings without an answer
				p.expect(`{"type":"40"}`)
			}
			p.drain()
		}, says("silent")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := Config{OnReconnect: func(d time.Duration) { reconnects <- d }}
			session(t, cfg, tc.script, func(t *testing.T, c *Conn) {
				<-c.Done()
				if !tc.want(c.Err()) {
					t.Errorf("ended because of %v", c.Err())
				}
				if _, err := c.SendText(t.Context(), "bob", "x"); !errors.Is(err, c.Err()) {
					t.Errorf("sending after the end: %v", err)
				}
			})
		})
	}
}

func is(want error) func(error) bool { return func(err error) bool { return errors.Is(err, want) } }

func TestPingAndComplaints(t *testing.T) {
	complaints := make(chan *Error, 1)
	session(t, Config{OnError: func(e *Error) { complaints <- e }}, func(p *peer) {
		p.expect(`{"type":"40"}`)
		p.send(`{"type":"41"}`)
		p.send(`{"type":"0","code":404,"message":"type 99"}`)
		p.send(`{"type":"52"}`) // of a newer server
		p.drain()
	}, func(t *testing.T, c *Conn) {
		if _, err := c.Ping(t.Context()); err != nil {
			t.Error(err)
		}
		if e := <-complaints; e.Code != wire.CodeUnknownType {
			t.Errorf("complaint: %v", e)
		}
	})
}

func TestLogoutWaitsForTheServer(t *testing.T) {
	session(t, Config{}, func(p *peer) {
		p.expect(`{"type":"12"}`)
		p.close(1000)
		p.drain()
	}, func(t *testing.T, c *Conn) {
		if err := c.Logout(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestUnansweredCallsEndWithTheirContext(t *testing.T) {
	session(t, Config{}, (*peer).drain, func(t *testing.T, c *Conn) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.SendText(ctx, "bob", "x"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if len(c.waiting) != 0 {
			t.Errorf("calls left behind: %v", c.waiting)
		}
	})
}

func TestSlowHandlerEndsTheConnection(t *testing.T) {
	release := make(chan struct{})
	cfg := Config{OnMessage: func(Message) { <-release }, ManualAck: true}
	session(t, cfg, func(p *peer) {
		for i := range maxQueued + 10 {
			p.send(`{"type":"80","msgId":"m%d","fromId":"bob","content":1}`, i)
		}
		p.drain()
	}, func(t *testing.T, c *Conn) {
		<-c.ended
		if !errors.Is(c.Err(), ErrOverrun) {
			t.Errorf("ended because of %v", c.Err())
		}
		close(release)
	})
}
