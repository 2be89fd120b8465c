package gateway

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// closeNow breaks the connection without a close frame.
func (c *client) closeNow() { c.ws.NetConn().Close() }

func TestEveryDeviceOfTheRecipientGetsAChat(t *testing.T) {
	w := newWorld()
	a, b := startGateway(t, w), startGateway(t, w)
	sender := login(t, a, "sender", "d")
	devices := []*client{login(t, a, "bob", "phone"), login(t, a, "bob", "tablet"), login(t, b, "bob", "laptop"), login(t, b, "bob", "tv")}
	other := login(t, b, "other", "d")
	sender.send(`{"type":"80","toId":"bob","clientMsgId":"c1","content":{"a": [1,  2]}}`)
	answer := sender.expect(frame{"type": "81", "code": 200, "clientMsgId": "c1"})
	for _, d := range devices {
		data, err := d.raw()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(data, `,"content":{"a": [1,  2]}}`) || !strings.Contains(data, answer["msgId"].(string)) {
			t.Errorf("got %s", data)
		}
	}
	other.expectSilence()
	sender.expectSilence()
}

// TestResendHasTheSameIdOnEveryGateway: msgId is derived from sender, recipient and clientMsgId.
func TestResendHasTheSameIDOnEveryGateway(t *testing.T) {
	w := newWorld()
	ids := map[any]bool{}
	for range 2 {
		c := login(t, startGateway(t, w), "a", "d")
		c.send(`{"type":"80","toId":"b","clientMsgId":"c1","content":1}`)
		ids[c.expect(frame{"type": "81", "code": 200})["msgId"]] = true
	}
	if len(ids) != 1 {
		t.Errorf("a resend had the ids %v", ids)
	}
}

// TestAnswerDoesNotTellWhetherTheRecipientIsOnline compares the 81 fields for a recipient that is online and one that is
// not.
func TestAnswerDoesNotTellWhetherTheRecipientIsOnline(t *testing.T) {
	w := newWorld()
	g := startGateway(t, w)
	sender := login(t, g, "sender", "d")
	login(t, g, "online", "d")
	fields := func(to string) string {
		sender.send(`{"type":"80","toId":%q,"clientMsgId":"c","content":1}`, to)
		data, err := sender.raw()
		if err != nil {
			t.Fatal(err)
		}
		f := frame{}
		mustUnmarshal(t, data, &f)
		return fmt.Sprint(len(data), f["code"], slices.Sorted(maps.Keys(f)))
	}
	if on, off := fields("online"), fields("nobody"); on != off {
		t.Errorf("online: %s\noffline: %s", on, off)
	}
}

func TestChatsOfOneSenderArriveInOrder(t *testing.T) {
	w := newWorld()
	unlimited := func(c *Config) { c.MaxFramesPerSecond, c.MaxBytesPerSecond, c.MaxQueuedBytes = -1, -1, 8<<20 }
	a, b := startGateway(t, w, unlimited), startGateway(t, w, unlimited)
	sender, here, there := login(t, a, "s", "d"), login(t, a, "r", "here"), login(t, b, "r", "there")
	const n = 150
	body := func(i int) string { return fmt.Sprint(i, strings.Repeat("x", i%3*5000)) } // small and large ones
	for i := range n {
		sender.send(`{"type":"80","toId":"r","content":%q}`, body(i))
	}
	for _, c := range []*client{here, there} {
		for i := range n {
			c.receive(frame{"content": body(i)})
		}
	}
}

func TestSameDeviceReplacesItsOlderConnection(t *testing.T) {
	for _, name := range []string{"same gateway", "another gateway"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			a := startGateway(t, w)
			b := a
			if name == "another gateway" {
				b = startGateway(t, w)
			}
			old, bystander := login(t, a, "alice", ""), login(t, a, "alice", "tablet")
			newer := login(t, b, "alice", "")
			old.expect(frame{"type": "32", "code": 304})
			old.expectClose(4304)
			newer.expectSilence()
			bystander.expectSilence()
			if n := len(w.devices("alice")); n != 2 {
				t.Errorf("%d devices are registered, want 2", n)
			}
			eventually(t, "one session of each device is left", func() bool {
				return a.table.count.Load()+b.table.count.Load() == map[bool]int64{true: 4, false: 2}[a == b]
			})
		})
	}
}

func TestManyLoginsOfOneDeviceAtOnceLeaveOne(t *testing.T) {
	w := newWorld()
	gateways := []*Gateway{startGateway(t, w), startGateway(t, w)}
	var clients []*client
	for i := range 40 {
		c := dial(t, gateways[i%2], "", nil)
		c.send(`{"type":"10","token":"alice"}`)
		clients = append(clients, c)
	}
	eventually(t, "one session is left", func() bool {
		return gateways[0].table.count.Load()+gateways[1].table.count.Load() == 1
	})
	alive := 0
	for _, c := range clients {
		for {
			data, err := c.raw2(200 * time.Millisecond)
			if err != nil {
				if !websocket.IsCloseError(err, 4304) {
					alive++
				}
				break
			}
			_ = data
		}
	}
	if alive != 1 {
		t.Errorf("%d connections are left, want 1", alive)
	}
}

// raw2 is raw with another timeout.
func (c *client) raw2(d time.Duration) (string, error) {
	_ = c.ws.SetReadDeadline(time.Now().Add(d))
	_, data, err := c.ws.ReadMessage()
	return string(data), err
}

func TestLogoutEndsTheSessionAtOnce(t *testing.T) {
	for name, end := range map[string]func(*client){
		"LOGOUT": func(c *client) {
			c.send(`{"type":"12"}`)
			c.expectClose(1000)
		},
		"normal close": func(c *client) {
			_ = c.ws.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(1000, ""))
			c.expectClose(1000)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			g := startGateway(t, w, func(c *Config) { c.Store.Grace = time.Hour })
			end(login(t, g, "alice", "d"))
			eventually(t, "alice is unregistered", func() bool { return len(w.devices("alice")) == 0 })
		})
	}
}

// TestLostConnectionKeepsItsSessionForTheGrace: however it was lost, but not longer.
func TestLostConnectionKeepsItsSessionForTheGrace(t *testing.T) {
	for name, end := range map[string]func(*client){
		"broken":         (*client).closeNow,
		"going away":     func(c *client) { _ = c.ws.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(1001, "")) },
		"protocol error": func(c *client) { _, _ = c.ws.NetConn().Write([]byte{0xff, 0xff, 0xff, 0xff}) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			const grace = 300 * time.Millisecond
			g := startGateway(t, w, func(c *Config) { c.Store.Grace = grace })
			c := login(t, g, "alice", "d")
			before := time.Now()
			end(c)
			eventually(t, "the connection has ended", func() bool { return g.connections() == 0 })
			lost := time.Now()
			eventually(t, "alice is unregistered", func() bool { return len(w.devices("alice")) == 0 })
			if d := time.Since(before); d < grace {
				t.Errorf("unregistered after %v, within the grace", d)
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			if at := w.lastGone["alice"]; at.Before(before) || at.After(lost) {
				t.Errorf("last seen is %v, want when the connection was lost: %v to %v", at, before, lost)
			}
		})
	}
}

// TestTimeoutOnItsWayDoesNotEndTheGrace: the wheel called just when the connection was lost.
func TestTimeoutOnItsWayDoesNotEndTheGrace(t *testing.T) {
	w := newWorld()
	g := startGateway(t, w, func(c *Config) { c.Store.Grace = time.Hour })
	login(t, g, "alice", "d").closeNow()
	eventually(t, "the connection has ended", func() bool { return g.connections() == 0 })
	g.table.get("alice", w.devices("alice")["d"].Conn).Expire()
	if len(w.devices("alice")) != 1 {
		t.Error("alice was unregistered within the grace")
	}
}

func TestReconnectWithinTheGraceTakesTheSessionOver(t *testing.T) {
	for _, name := range []string{"same gateway", "another gateway"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			a := startGateway(t, w)
			b := a
			if name == "another gateway" {
				b = startGateway(t, w)
			}
			login(t, a, "alice", "d").closeNow()
			eventually(t, "the connection has ended", func() bool { return a.connections() == 0 })
			c := login(t, b, "alice", "d")
			eventually(t, "the old session is gone", func() bool {
				return a.table.count.Load()+b.table.count.Load() == map[bool]int64{true: 2, false: 1}[a == b]
			})
			c.expectSilence()
			if len(w.devices("alice")) != 1 {
				t.Error("alice is not registered")
			}
			if _, gone := w.lastGone["alice"]; gone {
				t.Error("alice was unregistered in between")
			}
		})
	}
}

// TestClientMayHaveItsDeviceForgotten, and only by saying so.
func TestClientMayHaveItsDeviceForgotten(t *testing.T) {
	w := newWorld()
	g := startGateway(t, w)
	for _, end := range []string{`{"type":"12"}`, `{"type":"12","action":"forget"}`} {
		c := login(t, g, "alice", fmt.Sprint("device", len(end)))
		c.send(`%s`, end)
		c.expectClose(1000)
	}
	c := login(t, g, "alice", "other")
	c.send(`{"type":"12","action":"burn"}`)
	c.expect(frame{"type": "0", "code": 402})
	w.mu.Lock()
	defer w.mu.Unlock()
	if want := []string{"alice/device31"}; !slices.Equal(w.forgotten, want) {
		t.Errorf("forgotten: %v, want %v", w.forgotten, want)
	}
}
