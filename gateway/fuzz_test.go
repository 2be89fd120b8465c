package gateway

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/imcluster/imcluster/api/wire"
)

// FuzzFrames lets a hostile client send any messages, in any WebSocket framing, before and after a login. Whatever it
// does, it gets documented answers or a documented close code, and a bystander is not disturbed.
func FuzzFrames(f *testing.F) {
	for _, seed := range []string{
		"{\"type\":\"10\",\"token\":\"a\"}\n{\"type\":\"40\"}\n{\"type\":\"80\",\"toId\":\"bystander2\",\"content\":1}\n{\"type\":\"12\"}",
		"{\"type\":\"10\",\"token\":\"bystander2\",\"deviceId\":\"x\"}\n{\"type\":\"90\",\"msgId\":\"m\"}",
		"{\"type\":\"10\",\"token\":\"a\"}\n{\"type\":\"10\",\"token\":\"b\"}\nhello\n{\"type\":\"77\"}\n{\"type\":\"11\"}",
		"hello", "{}", "{\"type\":\"40\"}", "\x00\xff", "{\"type\":\"10\",\"token\":\"a\",\"deviceId\":\"\\u0000\"}",
	} {
		f.Add([]byte(seed), uint8(0))
		f.Add([]byte(seed), uint8(1))
		f.Add([]byte(seed), uint8(2))
	}
	w := newWorld()
	g := startGateway(f, w, func(c *Config) { c.MaxFramesPerSecond, c.MaxBytesPerSecond = -1, -1 })
	codes := documentedCodes()
	f.Fuzz(func(t *testing.T, data []byte, mode uint8) {
		bystander := login(t, g, "bystander", fmt.Sprint(time.Now().UnixNano()))
		c := dial(t, g, "", nil)
		attack(c, data, mode)
		for {
			_ = c.ws.SetReadDeadline(time.Now().Add(testTimeout))
			_, answer, err := c.ws.ReadMessage()
			if err != nil {
				checkEnd(t, err)
				break
			}
			checkAnswer(t, answer, codes)
		}
		bystander.expectSilence()
		bystander.send(`{"type":"12"}`)
		bystander.expectClose(1000)
	})
}

// attack sends the lines of data as messages; mode 1 as binary ones too, mode 2 as raw bytes on the socket. Then it ends
// what it sends.
func attack(c *client, data []byte, mode uint8) {
	if mode%3 == 2 {
		_, _ = c.ws.NetConn().Write(data)
	} else {
		for i, line := range slices.Collect(lines(data)) {
			kind := websocket.TextMessage
			if mode%3 == 1 && i%2 == 1 {
				kind = websocket.BinaryMessage
			}
			_ = c.ws.WriteMessage(kind, line)
		}
	}
	_ = c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1000, ""), time.Now().Add(time.Second))
	if half, ok := c.ws.NetConn().(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

func lines(data []byte) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		start := 0
		for i, b := range data {
			if b == '\n' {
				if !yield(data[start:i]) {
					return
				}
				start = i + 1
			}
		}
		yield(data[start:])
	}
}

// checkEnd checks that a connection ended by a close frame with a documented code, or because the client broke it.
func checkEnd(t *testing.T, err error) {
	t.Helper()
	closed, ok := err.(*websocket.CloseError) //nolint:errorlint // as the library returns it
	if !ok {
		t.Fatalf("the connection ended with: %v", err)
	}
	for _, r := range reasons[1:] {
		if closed.Code == r.code {
			return
		}
	}
	if base := closed.Code - 4000; documentedCodes()[float64(base)] {
		return
	}
	// 1002, or no close frame at all: violations of the WebSocket protocol.
	if closed.Code != websocket.CloseProtocolError && closed.Code != websocket.CloseAbnormalClosure && closed.Code != websocket.CloseMessageTooBig {
		t.Fatalf("closed with %v", err)
	}
}

// checkAnswer checks that an answer is a frame that servers send, with a documented code.
func checkAnswer(t *testing.T, data []byte, codes map[float64]bool) {
	t.Helper()
	var a struct {
		Type string
		Code *float64
	}
	if err := json.Unmarshal(data, &a); err != nil {
		t.Fatalf("answered with %q: %v", data, err)
	}
	if !slices.Contains([]string{"0", "11", "32", "41", "80", "81", "91"}, a.Type) {
		t.Errorf("answered with %s", data)
	}
	if a.Code != nil && !codes[*a.Code] {
		t.Errorf("answered with an undocumented code: %s", data)
	}
	if a.Code != nil && *a.Code == float64(wire.CodeInternal) {
		t.Errorf("a fault of the server: %s", data)
	}
}

func documentedCodes() map[float64]bool {
	codes := map[float64]bool{}
	for _, c := range []wire.Code{
		wire.CodeOK, wire.CodeAccepted, wire.CodeLoginRequired, wire.CodeInvalidToken, wire.CodeTokenExpired, wire.CodeWrongSender,
		wire.CodeReplaced, wire.CodeMalformed, wire.CodeBadField, wire.CodeUnknownType, wire.CodeNotAllowed, wire.CodeBadMessage,
		wire.CodeIdle, wire.CodeFrameTooLarge, wire.CodeTooManyFrames,
	} {
		codes[float64(c)] = true
	}
	return codes
}
