package gateway

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"
)

// TestSlowHandshakesHoldUpNobodyForLong: somebody opens connections and says nothing.
func TestSlowHandshakesHoldUpNobodyForLong(t *testing.T) {
	g := startGateway(t, newWorld(), func(c *Config) { c.MaxHandshakes = 3 })
	var silent []net.Conn
	for range 3 {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", g.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		silent = append(silent, conn)
	}
	// It waits for a moment, and then takes the place of the oldest; as a WebSocket it needs none.
	c := dial(t, g, "?token=a", nil)
	c.expect(frame{"type": "11", "code": 200})
	_ = silent[0].SetReadDeadline(time.Now().Add(testTimeout))
	if _, err := silent[0].Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the oldest is still there: %v", err)
	}
	// The others have their five seconds, and there is room for one more now.
	dial(t, g, "?token=b", nil).expect(frame{"type": "11", "code": 200})
	if _, err := fmt.Fprint(silent[2], "GET /elsewhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	_ = silent[2].SetReadDeadline(time.Now().Add(testTimeout))
	if answer, err := io.ReadAll(silent[2]); err != nil || len(answer) == 0 {
		t.Errorf("the youngest was answered %q, %v", answer, err)
	}
}

func TestHandshakesAreForgottenWhenTheyEnd(t *testing.T) {
	h := newHandshakes(2)
	var conns []net.Conn
	for range 2 {
		a, b := net.Pipe()
		defer a.Close()
		defer b.Close()
		h.begin(a)
		conns = append(conns, a)
	}
	h.changed(conns[0], http.StateActive)
	if h.byAge.Len() != 2 {
		t.Errorf("%d in progress, want 2", h.byAge.Len())
	}
	waited := make(chan struct{})
	go func() { h.awaitRoom(); close(waited) }()
	h.changed(conns[0], http.StateHijacked)
	<-waited
	h.changed(conns[1], http.StateClosed)
	h.changed(conns[1], http.StateClosed) // twice is once
	if h.byAge.Len() != 0 || len(h.found) != 0 {
		t.Errorf("%d in progress, want none", h.byAge.Len())
	}
}
