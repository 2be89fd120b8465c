package gateway

import (
	"container/list"
	"net"
	"net/http"
	"sync"
	"time"
)

// handshakePatience is how long the next connection waits for one of too many handshakes to end, before the oldest is cut
// off. A handshake takes a few round trips; who needs a second for it while others wait holds up everybody.
const handshakePatience = time.Second

// handshakes bounds the connections that are not WebSockets yet. Each costs 8 KB of buffers and a goroutine, and nothing
// has been asked of the client. More wait in the listener's backlog.
type handshakes struct {
	most int

	mu    sync.Mutex
	byAge *list.List // of net.Conn, the oldest first
	found map[net.Conn]*list.Element
	freed chan struct{} // holds a token when there may be room
}

func newHandshakes(most int) *handshakes {
	return &handshakes{most: most, byAge: list.New(), found: map[net.Conn]*list.Element{}, freed: make(chan struct{}, 1)}
}

// gate is a listener that accepts while there is room. Only one goroutine may accept.
type gate struct {
	net.Listener
	h *handshakes
}

// Accept returns the next connection. It closes the oldest handshake rather than to wait longer than handshakePatience.
func (g gate) Accept() (net.Conn, error) {
	conn, err := g.Listener.Accept()
	if err != nil {
		return nil, err
	}
	g.h.awaitRoom()
	g.h.begin(conn)
	return conn, nil
}

// awaitRoom returns when there is room for one more.
func (h *handshakes) awaitRoom() {
	if h.count() < h.most {
		return
	}
	timeout := time.NewTimer(handshakePatience)
	defer timeout.Stop()
	for h.count() >= h.most {
		select {
		case <-h.freed:
		case <-timeout.C:
			h.cutOldest()
			return
		}
	}
}

func (h *handshakes) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.byAge.Len()
}

func (h *handshakes) begin(conn net.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.found[conn] = h.byAge.PushBack(conn)
}

// cutOldest closes the oldest handshake; the server that reads from it ends it.
func (h *handshakes) cutOldest() {
	h.mu.Lock()
	oldest := h.byAge.Front()
	h.mu.Unlock()
	if oldest != nil {
		conn := oldest.Value.(net.Conn)
		h.end(conn)
		_ = conn.Close() // it may have ended just now
	}
}

// end forgets a connection that is a WebSocket now, or closed.
func (h *handshakes) end(conn net.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	element, ok := h.found[conn]
	if !ok {
		return
	}
	h.byAge.Remove(element)
	delete(h.found, conn)
	select {
	case h.freed <- struct{}{}:
	default:
	}
}

// changed is told by the server what becomes of its connections.
func (h *handshakes) changed(conn net.Conn, state http.ConnState) {
	if state == http.StateHijacked || state == http.StateClosed {
		h.end(conn)
	}
}
