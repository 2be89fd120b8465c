package gateway

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
)

// TestPublishedFrames sends the frames that are published, byte for byte, and expects the documented answers.
func TestPublishedFrames(t *testing.T) {
	g := startGateway(t, newWorld())
	one, two := login(t, g, "1", ""), dial(t, g, "", nil)

	two.send(`{"token":"2","type":"10"}`)
	two.expect(frame{"type": "11", "code": 200, "userId": "2", "deviceId": "default", "heartbeatSeconds": 10})
	two.send(`{"type":"40","fromId":"2"}`)
	two.expect(frame{"type": "41"})
	one.send(`{"type":"80","fromId":"1","toId":"2","content":{"contentType":1,"body":"测试消息"}}`)
	answer := one.expect(frame{"type": "81", "code": 200})
	data, err := two.raw()
	if err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`^{"type":"80","msgId":"` + answer["msgId"].(string) +
		`","fromId":"1","toId":"2","time":\d{13},"content":{"contentType":1,"body":"测试消息"}}$`)
	if !want.MatchString(data) {
		t.Errorf("the recipient got %s, want %s", data, want)
	}
	two.send(`{"type":"90","msgId":"2bfea133-72a8-4315-82aa-80049fe4fb7b"}`)
	two.expect(frame{"type": "91", "code": 200, "msgId": "2bfea133-72a8-4315-82aa-80049fe4fb7b"})
	two.send(`{"type":"77"}`)
	two.expect(frame{"type": "0", "code": 404})
}

// TestBadFramesAfterLogin are answered, and leave the connection as it was.
func TestBadFramesAfterLogin(t *testing.T) {
	for _, tc := range []struct {
		name, frame, typ, key string
		code, value           any
	}{
		{"not JSON", `hello`, "0", "", 400, nil},
		{"not an object", `[1]`, "0", "", 400, nil},
		{"empty", ``, "0", "", 400, nil},
		{"no type", `{}`, "0", "", 402, nil},
		{"type is an object", `{"type":{}}`, "0", "", 402, nil},
		{"unknown type", `{"type":"99"}`, "0", "", 404, nil},
		{"unknown type, not a number", `{"type":"x"}`, "0", "", 404, nil},
		{"a server's type", `{"type":"11"}`, "0", "", 405, nil},
		{"another login", `{"type":"10","token":"b"}`, "11", "", 405, nil},
		{"ping of somebody else", `{"type":"40","fromId":"mallory"}`, "0", "", 303, nil},
		{"chat of somebody else", `{"type":"80","fromId":"mallory","toId":"b","content":1,"clientMsgId":"c1"}`, "81", "clientMsgId", 303, "c1"},
		{"chat without recipient", `{"type":"80","content":1,"clientMsgId":"c1"}`, "81", "clientMsgId", 402, "c1"},
		{"chat without content", `{"type":"80","toId":"b"}`, "81", "", 402, nil},
		{"chat to a number", `{"type":"80","toId":5,"content":1}`, "81", "", 402, nil},
		{"chat to a control character", `{"type":"80","toId":"a\u0000b","content":1}`, "81", "", 402, nil},
		{"chat to a long id", `{"type":"80","toId":"` + strings.Repeat("x", 129) + `","content":1}`, "81", "", 402, nil},
		{"chat with a long clientMsgId", `{"type":"80","toId":"b","content":1,"clientMsgId":"` + strings.Repeat("x", 129) + `"}`, "81", "", 402, nil},
		{"two recipients", `{"type":"80","toId":"b","toId":"c","content":1}`, "81", "", 402, nil},
		{"ack without msgId", `{"type":"90"}`, "91", "", 402, nil},
		{"ack of somebody else", `{"type":"90","msgId":"m","fromId":"mallory"}`, "91", "msgId", 303, "m"},
		{"deeply nested", `{"type":"80","toId":"b","content":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`, "0", "", 400, nil},
		{"not UTF-8", "{\"type\":\"40\",\"x\":\"\xff\"}", "0", "", 400, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := startGateway(t, newWorld())
			c := login(t, g, "a", "d")
			c.send("%s", tc.frame)
			want := frame{"type": tc.typ, "code": tc.code}
			if tc.key != "" {
				want[tc.key] = tc.value
			}
			if got := c.expect(want); got["message"] == nil {
				t.Errorf("%v has no message", got)
			}
			c.expectSilence()
		})
	}
}

func TestBinaryMessagesAreRefused(t *testing.T) {
	g := startGateway(t, newWorld())
	c := login(t, g, "a", "d")
	if err := c.ws.WriteMessage(websocket.BinaryMessage, []byte(`{"type":"40"}`)); err != nil {
		t.Fatal(err)
	}
	c.expect(frame{"type": "0", "code": 406})
	c.expectSilence()
}

// TestFirstFrameMustBeALogin: whatever else comes first is answered and ends the connection.
func TestFirstFrameMustBeALogin(t *testing.T) {
	for _, tc := range []struct {
		name, frame, typ string
		code             int
	}{
		{"ping", `{"type":"40"}`, "0", 300},
		{"chat", `{"type":"80","toId":"b","content":1}`, "81", 300},
		{"not JSON", `hello`, "0", 400},
		{"unknown type", `{"type":"99"}`, "0", 404},
		{"no token", `{"type":"10"}`, "11", 402},
		{"empty token", `{"type":"10","token":""}`, "11", 402},
		{"token is no user id", `{"type":"10","token":"a\u0007"}`, "11", 301},
		{"bad device", `{"type":"10","token":"a","deviceId":"` + strings.Repeat("d", 65) + `"}`, "11", 402},
		{"bad platform", `{"type":"10","token":"a","platform":"Ä"}`, "11", 402},
		{"somebody else's id", `{"type":"10","token":"a","fromId":"b"}`, "11", 303},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld()
			g := startGateway(t, w)
			c := dial(t, g, "", nil)
			c.send("%s", tc.frame)
			c.expect(frame{"type": tc.typ, "code": tc.code})
			c.expectClose(4000 + tc.code)
			if len(w.devices("a")) != 0 {
				t.Error("somebody was registered")
			}
		})
	}
}

func TestTokenInTheHandshake(t *testing.T) {
	for _, tc := range []struct {
		name, query string
		header      http.Header
	}{
		{"query", "?token=alice&deviceId=phone&platform=ios", nil},
		{"header", "?deviceId=phone&platform=ios", http.Header{"Authorization": {"Bearer alice"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld()
			g := startGateway(t, w)
			c := dial(t, g, tc.query, tc.header)
			c.expect(frame{"type": "11", "code": 200, "userId": "alice", "deviceId": "phone"})
			if h := w.devices("alice")["phone"]; h.Platform != "ios" {
				t.Errorf("registered %+v", h)
			}
			c.expectSilence()
		})
	}
	t.Run("refused", func(t *testing.T) {
		c := dial(t, startGateway(t, newWorld()), "?token=%01", nil)
		c.expect(frame{"type": "11", "code": 301})
		c.expectClose(4301)
	})
}
