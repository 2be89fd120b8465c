package gateway

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/internal/testredis"
	"github.com/imcluster/imcluster/presence/store"
)

// FuzzFrames lets a hostile client send any messages, in any WebSocket framing and both codecs, before and after a login.
// Whatever it does, it gets documented answers or a documented close code, a bystander is not disturbed, and nothing is left.
func FuzzFrames(f *testing.F) {
	for _, seed := range []string{
		"{\"type\":\"10\",\"token\":\"a\"}\n{\"type\":\"40\"}\n{\"type\":\"80\",\"toId\":\"bystander2\",\"content\":1}\n{\"type\":\"12\"}",
		"{\"type\":\"10\",\"token\":\"bystander2\",\"deviceId\":\"x\"}\n{\"type\":\"90\",\"msgId\":\"m\"}",
		"{\"type\":\"10\",\"token\":\"a\"}\n{\"type\":\"10\",\"token\":\"b\"}\nhello\n{\"type\":\"77\"}\n{\"type\":\"11\"}",
		"{\"type\":\"10\",\"token\":\"a\"}\n{\"type\":\"84\",\"action\":\"create\",\"groupId\":\"g\",\"users\":[\"a\",\"b\"]}\n{\"type\":\"82\",\"groupId\":\"g\",\"content\":1}\n" +
			"{\"type\":\"84\",\"action\":\"members\",\"groupId\":\"g\",\"cursor\":\"x\"}\n{\"type\":\"58\"}\n{\"type\":\"86\",\"content\":1}",
		"hello", "{}", "{\"type\":\"40\"}", "\x00\xff", "{\"type\":\"10\",\"token\":\"a\",\"deviceId\":\"\\u0000\"}",
		"\x08\x0a\x82\x01\x01a\n\x08\x28\n\x08\x50\x22\x01b\x4a\x011\n\x08\x0c", "\x08\x0a\x82\x01\x01a\n\x08\x5a\x32\x01m",
	} {
		for mode := range uint8(5) {
			f.Add([]byte(seed), mode)
		}
	}
	g := startGateway(f, newWorld(), onRedis(testredis.Start(f)), func(c *Config) { c.MaxFramesPerSecond, c.MaxBytesPerSecond = -1, -1 })
	codes := documentedCodes(f)
	f.Fuzz(func(t *testing.T, data []byte, mode uint8) {
		bystander := login(t, g, "bystander", fmt.Sprint(time.Now().UnixNano()))
		codec := wire.Codec(mode / 2 % 2)
		c := dial(t, g, "", subprotocols(codec.Subprotocol()))
		attack(c, codec, data, mode)
		for {
			_ = c.ws.SetReadDeadline(time.Now().Add(testTimeout))
			_, answer, err := c.ws.ReadMessage()
			if err != nil {
				checkEnd(t, err, codes)
				break
			}
			checkAnswer(t, codec, answer, codes)
		}
		bystander.expectSilence()
		bystander.send(`{"type":"12"}`)
		bystander.expectClose(1000)
		c.ws.Close()
		bystander.ws.Close()
		expectNothingLeft(t, g)
	})
}

// onRedis makes the gateway use a real Redis.
func onRedis(redis *testredis.Server) func(*Config) {
	return func(c *Config) {
		c.join = nil
		c.Store = store.Config{Addresses: []string{redis.Addr}, Owner: "cluster", Fresh: true, Grace: 50 * time.Millisecond}
	}
}

// expectNothingLeft waits until nothing is left of the connections that there were.
func expectNothingLeft(t testing.TB, g *Gateway) {
	t.Helper()
	eventually(t, "nothing is left of the connections", func() bool {
		return g.connections() == 0 && g.pendingBytes.Load() == 0 && g.loggingIn.Load() == 0 && g.metrics.queuedBytes.Load() == 0
	})
}

// attack sends the lines of data as messages, in odd modes every other one as the kind that was not agreed on; or, in modes
// from 4 on, as raw bytes on the socket. Then it ends what it sends.
func attack(c *client, codec wire.Codec, data []byte, mode uint8) {
	if mode >= 4 {
		_, _ = c.ws.NetConn().Write(data)
	} else {
		for i, line := range slices.Collect(lines(data)) {
			kind := websocket.TextMessage
			if codec.Binary() != (mode%2 == 1 && i%2 == 1) {
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
func checkEnd(t *testing.T, err error, codes map[wire.Code]bool) {
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
	if codes[wire.Code(closed.Code-4000)] {
		return
	}
	// 1002, or no close frame at all: violations of the WebSocket protocol.
	if closed.Code != websocket.CloseProtocolError && closed.Code != websocket.CloseAbnormalClosure && closed.Code != websocket.CloseMessageTooBig {
		t.Fatalf("closed with %v", err)
	}
}

// checkAnswer checks that an answer is a frame that servers send, with a documented code.
func checkAnswer(t *testing.T, codec wire.Codec, data []byte, codes map[wire.Code]bool) wire.Frame {
	t.Helper()
	fr, err := codec.DecodeServer(data)
	if err != nil {
		t.Fatalf("answered with %q: %v", data, err)
	}
	if fr.Code != 0 && !codes[fr.Code] {
		t.Errorf("answered with an undocumented code: %q", data)
	}
	if fr.Code == wire.CodeInternal {
		t.Errorf("a fault of the server: %q", data)
	}
	return fr
}

func documentedCodes(t testing.TB) map[wire.Code]bool {
	t.Helper()
	page, err := os.ReadFile(protocolDoc)
	if err != nil {
		t.Fatal(err)
	}
	codes := map[wire.Code]bool{}
	for _, row := range regexp.MustCompile(`(?m)^\| ([2-6]\d\d) \|`).FindAllSubmatch(page, -1) {
		n, err := strconv.Atoi(string(row[1]))
		if err != nil {
			t.Fatal(err)
		}
		codes[wire.Code(n)] = true
	}
	return codes
}
