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

	"github.com/imcluster/imcluster/api/wire"
)

// server is a gateway that does what the test says with each connection, over pipes, so that synctest sees all of it.
type server struct {
	t      *testing.T
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	http   *http.Server
	served sync.WaitGroup

	mu      sync.Mutex
	scripts []func(*peer) // one for each connection
	dials   []time.Time
	refuse  bool // connections, as a gateway that is gone
}

// serve runs a test in a bubble, with a server that has a script for each connection to come. Further ones are held
// open without a word.
func serve(t *testing.T, test func(*testing.T, *server), scripts ...func(*peer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &server{t: t, conns: make(chan net.Conn), closed: make(chan struct{}), scripts: scripts}
		var upgrader websocket.Upgrader
		s.http = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/ws" {
				http.NotFound(w, r)
				return
			}
			ws, err := upgrader.Upgrade(w, r, nil)
			if err != nil {
				return
			}
			s.served.Go(func() {
				defer ws.Close()
				s.next()(&peer{t: t, ws: ws, auth: r.Header.Get("Authorization")})
			})
		})}
		s.served.Go(func() { _ = s.http.Serve(s) })
		test(t, s)
		_ = s.http.Close()
		s.served.Wait()
	})
}

func (s *server) next() func(*peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.scripts) == 0 {
		return (*peer).drain
	}
	script := s.scripts[0]
	s.scripts = s.scripts[1:]
	return script
}

// dialled returns when connections were asked for.
func (s *server) dialled() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]time.Time(nil), s.dials...)
}

func (s *server) setRefuse(refuse bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = refuse
}

func (s *server) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

func (s *server) Close() error   { s.once.Do(func() { close(s.closed) }); return nil }
func (s *server) Addr() net.Addr { return &net.TCPAddr{} }

var errRefused = errors.New("connection refused")

func (s *server) dialer() *websocket.Dialer {
	return &websocket.Dialer{NetDialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		s.mu.Lock()
		s.dials = append(s.dials, time.Now())
		refuse := s.refuse
		s.mu.Unlock()
		if refuse {
			return nil, errRefused
		}
		ours, theirs := net.Pipe()
		select {
		case s.conns <- theirs:
			return ours, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}
}

// config is that of a client of the server.
func (s *server) config() Config {
	return Config{URLs: []string{"ws://gateway"}, Token: StaticToken("alice"), Dialer: s.dialer()}
}

// dial returns a client that is closed at the end of the test.
func (s *server) dial(cfg Config) *Client {
	s.t.Helper()
	c, err := Dial(s.t.Context(), cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// end closes the client and waits for its goroutines.
func end(c *Client) {
	c.Close()
	<-c.Done()
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
	p.welcome()
}

func (p *peer) welcome() {
	p.send(`{"type":"11","code":200,"userId":"alice","deviceId":"default","sessionId":"s1","heartbeatSeconds":10,"time":%d}`, time.Now().UnixMilli())
}

// drain reads until the client has gone, and answers pings.
func (p *peer) drain() {
	for {
		_, data, err := p.ws.ReadMessage()
		if err != nil {
			return
		}
		if string(data) == `{"type":"40"}` {
			p.send(`{"type":"41"}`)
		}
	}
}

// frame reads a frame other than a ping; false if the client has gone.
func (p *peer) frame() (wire.Frame, bool) {
	for {
		_, data, err := p.ws.ReadMessage()
		if err != nil {
			return wire.Frame{}, false
		}
		fr, err := wire.DecodeJSON(data)
		if err != nil {
			p.t.Errorf("the client sent %s: %v", data, err)
		}
		if fr.Type != wire.TypePing {
			return fr, true
		}
		p.send(`{"type":"41"}`)
	}
}

// then is a script: log in, and do what follows.
func then(steps func(*peer)) func(*peer) { return func(p *peer) { p.login(); steps(p) } }

// accept answers messages until the client has gone, and calls seen for each.
func (p *peer) accept(seen func(wire.Frame)) {
	for {
		fr, ok := p.frame()
		if !ok {
			return
		}
		seen(fr)
		p.send(`{"type":"81","code":200,"clientMsgId":%q,"msgId":"m-%s","time":5}`, fr.ClientMsgID, fr.ClientMsgID)
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

func is(want error) func(error) bool { return func(err error) bool { return errors.Is(err, want) } }

// changes records the states of a client.
type changes struct {
	mu  sync.Mutex
	all []StateChange
}

func (r *changes) add(s StateChange) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, s)
}

// names returns the states, without repetitions.
func (r *changes) names() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	for _, s := range r.all {
		if name := s.State.String(); len(names) == 0 || names[len(names)-1] != name {
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}
