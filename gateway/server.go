package gateway

import (
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/websocket"

	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/gateway/cork"
)

// routes are what clients may ask for.
func (g *Gateway) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/ws", g.upgrade)
	return mux
}

// upgrade makes a WebSocket connection of a request. It returns at once: as long as the handler runs, net/http keeps
// 8 KB of buffers for it.
func (g *Gateway) upgrade(w http.ResponseWriter, r *http.Request) {
	quota, over, ok := g.admit(w, r)
	if !ok {
		return
	}
	codec, header := negotiate(r)
	login := handshakeLogin(r, codec)
	ws, err := g.upgrader.Upgrade(w, r, header)
	if err != nil {
		g.release(quota)
		return // Upgrade has answered
	}
	c := &conn{g: g, ws: ws, sock: socketOf(ws), codec: codec, quota: quota, pinged: -1, maxFrame: g.cfg.MaxFrameBytes}
	if login == nil {
		c.maxFrame = min(maxLoginBytes, c.maxFrame)
	}
	c.readable.L = &c.mu
	now := g.wheel.Now()
	c.limits = newLimits(now, g.cfg.MaxFramesPerSecond, g.cfg.MaxBytesPerSecond)
	c.loginBy = now + g.cfg.LoginTimeout
	c.heard.Store(int64(now))
	ws.SetPingHandler(c.gotPing)
	ws.SetPongHandler(c.gotPong)
	ws.SetCloseHandler(ignoreClose)
	if c.sock == nil || !g.started(c) {
		g.release(quota)
		ws.Close()
		return
	}
	if over != nil {
		c.close(over.reason, loginAnswer(over.err))
	} else {
		g.wheel.Schedule(&c.timer, min(g.cfg.LoginTimeout, g.cfg.IdleTimeout/2), c)
		if login != nil {
			c.received(inbound{data: login, binary: codec.Binary()})
		}
	}
	go c.readLoop() // joined by g.readers
}

// socketOf returns the connection that the listener accepted.
func socketOf(ws *websocket.Conn) *cork.Conn {
	conn := ws.NetConn()
	for {
		switch c := conn.(type) {
		case *cork.Conn:
			return c
		case interface{ NetConn() net.Conn }: // the library's, around data that came with the handshake
			conn = c.NetConn()
		default:
			return nil
		}
	}
}

// negotiate returns the codec of the sub-protocol that the client likes best of those that are known here, and the header
// that says so. A client that asks for none, or for others only, gets JSON, and is not told of a sub-protocol: those that
// insist on one close then.
func negotiate(r *http.Request) (wire.Codec, http.Header) {
	for _, name := range websocket.Subprotocols(r) {
		if codec, ok := wire.CodecOf(name); ok {
			return codec, http.Header{"Sec-Websocket-Protocol": {name}}
		}
	}
	return wire.JSON, nil
}

// handshakeLogin returns the login frame that a token in the handshake stands for, nil without one.
func handshakeLogin(r *http.Request, codec wire.Codec) *[]byte {
	query := r.URL.Query()
	token := query.Get("token")
	if scheme, credentials, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		token = strings.TrimSpace(credentials)
	}
	if token == "" {
		return nil
	}
	b := codec.Append(nil, &wire.Frame{Type: wire.TypeLogin, Token: token,
		DeviceID: query.Get("deviceId"), Platform: query.Get("platform"),
		Status: query.Get("status"), StatusText: query.Get("statusText")})
	return &b
}

// started adds a connection to the list of all. It returns false when the gateway has stopped.
func (g *Gateway) started(c *conn) bool {
	g.connsMu.Lock()
	defer g.connsMu.Unlock()
	if g.stopped {
		return false
	}
	g.readers.Add(1)
	c.prev, c.next = g.conns.prev, &g.conns
	c.prev.next, g.conns.prev = c, c
	g.count++
	return true
}

// ended takes a connection whose reader ended out of the list.
func (g *Gateway) ended(c *conn) {
	g.connsMu.Lock()
	c.prev.next, c.next.prev = c.next, c.prev
	c.prev, c.next = nil, nil
	g.count--
	g.connsMu.Unlock()
	c.mu.Lock()
	g.release(c.quota)
	watching := c.watching
	c.mu.Unlock()
	if watching != nil {
		g.hub.Leave(watching.subscriber)
	}
	g.readers.Done()
}

// connections is the number of connections.
func (g *Gateway) connections() int {
	g.connsMu.Lock()
	defer g.connsMu.Unlock()
	return g.count
}

// all returns all connections.
func (g *Gateway) all() []*conn {
	g.connsMu.Lock()
	defer g.connsMu.Unlock()
	conns := make([]*conn, 0, g.count)
	for c := g.conns.next; c != &g.conns; c = c.next {
		conns = append(conns, c)
	}
	return conns
}

// closeAll closes all connections and takes no new ones.
func (g *Gateway) closeAll(reason closeReason) {
	g.connsMu.Lock()
	g.stopped = true
	g.connsMu.Unlock()
	for _, c := range g.all() {
		c.close(reason)
	}
}

// awaitReaders waits until no connection is left, and closes the sockets of those that are left after d.
func (g *Gateway) awaitReaders(d time.Duration) {
	done := make(chan struct{})
	go func() { g.readers.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(d):
		for _, c := range g.all() {
			c.sock.Close()
		}
		<-done
	}
}
