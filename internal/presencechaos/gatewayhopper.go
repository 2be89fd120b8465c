package presencechaos

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// gatewayHopper dials the gateways in turn, as a Service leads to them, whatever the address.
type gatewayHopper struct {
	w    *World
	next atomic.Uint32

	mu   sync.Mutex
	conn net.Conn // the latest; guarded by mu
}

func (h *gatewayHopper) dialer() *websocket.Dialer {
	return &websocket.Dialer{HandshakeTimeout: dialTimeout, NetDialContext: h.dial}
}

func (h *gatewayHopper) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	addr, _ := h.w.address(int(h.next.Add(1)))
	if addr == "" {
		return nil, errors.New("no gateway is there")
	}
	c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	h.conn = c
	h.mu.Unlock()
	return c, nil
}

func (h *gatewayHopper) cut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conn != nil {
		_ = h.conn.Close()
	}
}
