package e2e

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// socket is a client that sends and reads raw frames, as one that knows nothing of our client library would.
type socket struct {
	t    *testing.T
	conn *websocket.Conn
}

// frame is any frame as it came.
type frame map[string]any

// dial connects to a gateway.
func dial(t *testing.T, addr string) *socket {
	t.Helper()
	conn, resp, err := websocket.DefaultDialer.DialContext(t.Context(), "ws://"+addr+"/ws", nil)
	if err != nil {
		t.Fatalf("connect to %s: %v", addr, err)
	}
	resp.Body.Close()
	t.Cleanup(func() { conn.Close() })
	return &socket{t: t, conn: conn}
}

// login connects and logs in as user, who is the token under auth mode Insecure.
func login(t *testing.T, addr, user string) *socket {
	t.Helper()
	s := dial(t, addr)
	s.send(`{"token":%q,"type":"10"}`, user)
	if got := s.read(); got["type"] != "11" || got["code"] != float64(200) || got["userId"] != user {
		t.Fatalf("login of %s answered %v", user, got)
	}
	return s
}

func (s *socket) send(format string, args ...any) {
	s.t.Helper()
	if err := s.conn.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, format, args...)); err != nil {
		s.t.Fatalf("send: %v", err)
	}
}

// next returns the next frame, or why there is none.
func (s *socket) next(timeout time.Duration) (frame, error) {
	if err := s.conn.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	_, data, err := s.conn.ReadMessage()
	if err != nil {
		return nil, err
	}
	var f frame
	return f, json.Unmarshal(data, &f)
}

// read returns the next frame, which must come within 10 s.
func (s *socket) read() frame {
	s.t.Helper()
	f, err := s.next(10 * time.Second)
	if err != nil {
		s.t.Fatalf("read: %v", err)
	}
	return f
}

// hold keeps the connection alive as a client does, with a ping every 10 s, until it ends; the channel then has why.
func (s *socket) hold() <-chan error {
	ended := make(chan error, 1)
	stop := make(chan struct{})
	go func() {
		ping := time.NewTicker(10 * time.Second)
		defer ping.Stop()
		for {
			select {
			case <-ping.C:
				if s.conn.WriteMessage(websocket.TextMessage, []byte(`{"type":"40"}`)) != nil {
					return
				}
			case <-stop:
				return
			}
		}
	}()
	go func() {
		defer close(stop)
		for {
			if _, err := s.next(time.Minute); err != nil {
				ended <- err
				return
			}
		}
	}()
	return ended
}
