package gateway

import (
	"container/list"
	"net"
	"net/http"
	"sync"
	"time"
)

// handshakePatience is how long a handshake may take while others wait; then it is cut off for the next. It takes a few
// round trips. Somebody who opens connections and says nothing has to open as many a second as there may be to hold up
// others.
const handshakePatience = time.Second

// handshakes bounds the connections that are not WebSockets yet. Each costs 8 KB of buffers and a goroutine, and nothing
// has been asked of the client. More wait in the listener's backlog.
type handshakes struct {
	most int

	mu    sync.Mutex
	byAge *list.List // of handshake, the oldest first
	found map[net.Conn]*list.Element
	freed chan struct{} // holds a token when there may be room
}

type handshake struct {
	conn  net.Conn
	since time.Time
}

func newHandshakes(most int) *handshakes {
	return &handshakes{most: most, byAge: list.New(), found: map[net.Conn]*list.Element{}, freed: make(chan struct{}, 1)}
}

// gate is a listener that accepts while there is room. Only one goroutine may accept.
type gate struct {
	net.Listener
	h *handshakes
}

// Accept returns the next connection, when there is room for it.
func (g gate) Accept() (net.Conn, error) {
	conn, err := g.Listener.Accept()
	if err != nil {
		return nil, err
	}
	g.h.awaitRoom()
	g.h.begin(conn)
	return conn, nil
}

// awaitRoom returns when there is room for one more, if need be by cutting off the oldest.
func (h *handshakes) awaitRoom() {
	for {
		full, left := h.oldest()
		if !full {
			return
		}
		timeout := time.NewTimer(left)
		select {
		case <-h.freed:
		case <-timeout.C:
			h.cutOldest()
		}
		timeout.Stop()
	}
}

// oldest tells whether there is no room, and how long the oldest handshake may still take.
func (h *handshakes) oldest() (full bool, left time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.byAge.Len() < h.most {
		return false, 0
	}
	return true, handshakePatience - time.Since(h.byAge.Front().Value.(handshake).since)
}

func (h *handshakes) begin(conn net.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.found[conn] = h.byAge.PushBack(handshake{conn, time.Now()})
}

// cutOldest closes the oldest handshake; the server that reads from it ends it.
func (h *handshakes) cutOldest() {
	h.mu.Lock()
	oldest := h.byAge.Front()
	h.mu.Unlock()
	if oldest != nil {
		conn := oldest.Value.(handshake).conn
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
