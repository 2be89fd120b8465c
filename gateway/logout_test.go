package gateway_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/imcluster/imcluster/internal/testredis"
	"github.com/imcluster/imcluster/presence/store"
)

// ends are the ways to take a device offline at once.
var ends = map[string]func(*client){
	"LOGOUT":       func(c *client) { c.send(`{"type":"12"}`) },
	"normal close": func(c *client) { _ = c.ws.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(1000, "")) },
}

// TestCloseCodeOfALogoutMeansOffline: whoever asks after it, however soon.
func TestCloseCodeOfALogoutMeansOffline(t *testing.T) {
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			checkLeaks(t)
			redis := testredis.Start(t)
			g, s := start(t, redis, "a"), readers(t, redis)
			for i := range 50 {
				user := fmt.Sprint("user", i)
				c := login(t, g.Addr().String(), user, "d")
				end(c)
				c.expectClose(1000)
				if u := stateOf(t, s, user); u.State != store.Offline {
					t.Fatalf("after the close code %s is %s %s", user, u.State, u.Reason)
				}
			}
		})
	}
}

// TestLogoutDoesNotWaitForAStoppedRedisForLong, nor does the gateway's end.
func TestLogoutDoesNotWaitForAStoppedRedisForLong(t *testing.T) {
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			checkLeaks(t)
			redis := testredis.Start(t)
			g, s := start(t, redis, "a"), readers(t, redis)
			c := login(t, g.Addr().String(), "alice", "d")
			redis.Pause()
			before := time.Now()
			end(c)
			c.expectClose(1000)
			took := time.Since(before)
			redis.Resume()
			if took > 5*time.Second {
				t.Errorf("closed after %v", took)
			}
			eventually(t, "alice is offline", func() bool { return stateOf(t, s, "alice").State == store.Offline })
		})
	}
}
