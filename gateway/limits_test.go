package gateway

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

func TestSilentClientIsPingedThenToldThenClosed(t *testing.T) {
	w := newWorld()
	const idle = 600 * time.Millisecond
	g := startGateway(t, w, func(c *Config) { c.IdleTimeout = idle })
	c := login(t, g, "alice", "d")
	start := time.Now()
	var pinged time.Duration
	c.ws.SetPingHandler(func(string) error { pinged = time.Since(start); return nil }) // half-open: no pong
	c.expect(frame{"type": "30", "code": 408})
	if d := time.Since(start); d < idle-100*time.Millisecond {
		t.Errorf("closed after %v", d)
	}
	c.expectClose(4408)
	if pinged < idle/2-50*time.Millisecond || pinged > idle {
		t.Errorf("pinged after %v, want half of %v", pinged, idle)
	}
}

// TestHalfOpenClientThatIsSentToIsClosed: what the server writes is no sign of life of the client.
func TestHalfOpenClientThatIsSentToIsClosed(t *testing.T) {
	w := newWorld()
	g := startGateway(t, w, func(c *Config) { c.IdleTimeout = 400 * time.Millisecond })
	victim, sender := login(t, g, "victim", "d"), login(t, g, "sender", "d")
	victim.ws.SetPingHandler(func(string) error { return nil })
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 40 {
			<-tick.C
			_ = sender.ws.WriteMessage(websocket.TextMessage, []byte(`{"type":"80","toId":"victim","content":1}`))
		}
	}()
	for {
		f := victim.read()
		if f["type"] == "30" {
			break
		}
	}
	victim.expectClose(4408)
	<-done
}

// TestClientThatAnswersPingsStays: a browser that sends nothing by itself.
func TestClientThatAnswersPingsStays(t *testing.T) {
	w := newWorld()
	g := startGateway(t, w, func(c *Config) { c.IdleTimeout = 200 * time.Millisecond })
	c := login(t, g, "alice", "d")
	pings := 0
	answer := c.ws.PingHandler()
	c.ws.SetPingHandler(func(s string) error { pings++; return answer(s) })
	if data, err := c.raw2(time.Second); err == nil {
		t.Fatalf("got %s", data)
	} else if ne, ok := err.(net.Error); !ok || !ne.Timeout() { //nolint:errorlint // as returned by the library
		t.Fatal(err)
	}
	if pings < 5 {
		t.Errorf("%d pings in five idle timeouts", pings)
	}
}

func TestLoginTimeout(t *testing.T) {
	g := startGateway(t, newWorld(), func(c *Config) { c.LoginTimeout = 100 * time.Millisecond })
	c := dial(t, g, "", nil)
	c.expect(frame{"type": "0", "code": 300})
	c.expectClose(4300)
}

func TestFrameOfTheLargestSizeIsTaken(t *testing.T) {
	g := startGateway(t, newWorld(), func(c *Config) { c.MaxFrameBytes = 4096 })
	c := login(t, g, "a", "d")
	head, tail := `{"type":"80","toId":"a","content":"`, `"}`
	body := strings.Repeat("x", 4096-len(head)-len(tail))
	c.send("%s", head+body+tail)
	c.expect(frame{"type": "81", "code": 200})
	c.expect(frame{"type": "80", "content": body})
	c.send("%s", head+body+"x"+tail)
	c.expect(frame{"type": "0", "code": 600})
	c.expectClose(4600)
}

// TestHugeFrameCostsNothing: a header that announces 2^62 bytes.
func TestHugeFrameCostsNothing(t *testing.T) {
	g := startGateway(t, newWorld())
	c := login(t, g, "a", "d")
	header := append([]byte{0x81, 0xff}, binary.BigEndian.AppendUint64(nil, 1<<62)...)
	header = append(header, 0, 0, 0, 0)
	if _, err := c.ws.NetConn().Write(append(header, make([]byte, 70<<10)...)); err != nil {
		t.Fatal(err)
	}
	c.expect(frame{"type": "0", "code": 600})
	c.expectClose(4600)
}

// TestFirstFrameIsALoginAndSmall: who has not logged in cannot make the gateway keep large frames.
func TestFirstFrameIsALoginAndSmall(t *testing.T) {
	g := startGateway(t, newWorld())
	c := dial(t, g, "", nil)
	c.send(`{"type":"10","token":"a","pad":%q}`, strings.Repeat("x", maxLoginBytes))
	c.expect(frame{"type": "0", "code": 600})
	c.expectClose(4600)

	// A large frame may follow the login at once, whether it was a frame or in the handshake.
	large := fmt.Sprintf(`{"type":"80","toId":"b","content":%q}`, strings.Repeat("x", 2*maxLoginBytes))
	c = dial(t, g, "", nil)
	c.send(`{"type":"10","token":"a"}`)
	c.send("%s", large)
	c.expect(frame{"type": "11", "code": 200})
	c.expect(frame{"type": "81", "code": 200})
	c = dial(t, g, "?token=c", nil)
	c.send("%s", large)
	c.expect(frame{"type": "11", "code": 200})
	c.expect(frame{"type": "81", "code": 200})
}

func TestTooManyPingsAreAFlood(t *testing.T) {
	g := startGateway(t, newWorld(), func(c *Config) { c.MaxFramesPerSecond = 20 })
	c := login(t, g, "a", "d")
	pongs := 0
	c.ws.SetPongHandler(func(string) error { pongs++; return nil })
	go func() {
		for range 400 {
			if c.ws.WriteControl(websocket.PingMessage, []byte("p"), time.Time{}) != nil {
				return
			}
		}
	}()
	c.expectClose(4601)
	if pongs < 35 || pongs > 60 {
		t.Errorf("%d pings were answered, want two seconds' worth: 40", pongs)
	}
}

func TestTooManyFramesAreRefusedThenTheConnectionIs(t *testing.T) {
	g := startGateway(t, newWorld(), func(c *Config) { c.MaxFramesPerSecond = 20 })
	c := login(t, g, "a", "d")
	go func() {
		for range 400 {
			if c.ws.WriteMessage(websocket.TextMessage, []byte(`{"type":"80","toId":"b","clientMsgId":"m","content":1}`)) != nil {
				return
			}
		}
	}()
	codes := map[any]int{}
	for {
		data, err := c.raw()
		if err != nil {
			if !websocket.IsCloseError(err, 4601) {
				t.Fatal(err)
			}
			break
		}
		var f frame
		mustUnmarshal(t, data, &f)
		codes[fmt.Sprint(f["type"], " ", f["code"])]++
	}
	if n := codes["81 200"]; n < 35 || n > 60 {
		t.Errorf("%d frames were accepted, want two seconds' worth: 40", n)
	}
	if codes["81 601"] < 20 {
		t.Errorf("answers: %v, want refusals with 601", codes)
	}
}

// TestSlowConsumerIsCutOffAndBlocksNobody: what is stored waits for acknowledgements, what is not stored is queued until the
// client is cut off.
func TestSlowConsumerIsCutOffAndBlocksNobody(t *testing.T) {
	w := newWorld()
	unlimited := func(c *Config) {
		c.MaxFramesPerSecond, c.MaxBytesPerSecond, c.MaxQueuedBytes, c.AllowBroadcast = -1, -1, 256<<10, true
	}
	a, b := startGateway(t, w, unlimited), startGateway(t, w, unlimited)
	slow, fast, sender := login(t, b, "r", "slow"), login(t, b, "r", "fast"), login(t, a, "s", "d")
	_ = slow // reads nothing
	body := strings.Repeat("x", 32<<10)
	for range 100 {
		sender.send(`{"type":"80","toId":"r","content":%q}`, body)
		sender.expect(frame{"type": "81", "code": 200})
		fast.receive(frame{"type": "80"})
	}
	if n := b.metrics.closes[reasonSlowConsumer].Load(); n != 0 {
		t.Errorf("%d were cut off because of what waits for them", n)
	}
	for range 1000 {
		sender.send(`{"type":"86","content":%q}`, body)
		sender.expect(frame{"type": "87", "code": 201, "gateways": 2, "reached": 2})
		fast.check(fast.next(), frame{"type": "86", "content": body})
	}
	eventually(t, "the slow one is closed", func() bool { return b.metrics.closes[reasonSlowConsumer].Load() == 1 })
	eventually(t, "nothing is queued for it any more", func() bool { return b.metrics.queuedBytes.Load() == 0 })
}

func TestFullGatewayAnswersByFrameThenByHTTP(t *testing.T) {
	g := startGateway(t, newWorld(), func(c *Config) { c.MaxConnections = 2 })
	one, _ := login(t, g, "a", "d"), login(t, g, "b", "d")
	c := dial(t, g, "", nil)
	if f := c.expect(frame{"type": "11", "code": 602}); f["delayMs"].(float64) < 1000 {
		t.Errorf("%v asks to come back too soon", f)
	}
	c.expectClose(4602)
	one.expectSilence()
	// 18 connections that are refused but do not go away: the next is refused by HTTP.
	for range 100 {
		ws, resp, err := websocket.DefaultDialer.DialContext(t.Context(), fmt.Sprintf("ws://%s/ws", g.Addr()), nil)
		if err == nil {
			resp.Body.Close()
			defer ws.Close()
			continue
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
			t.Errorf("answered %d", resp.StatusCode)
		}
		return
	}
	t.Error("never refused by HTTP")
}

// TestPanicEndsOneConnectionOnly: a fault of the server in the handling of a frame.
func TestPanicEndsOneConnectionOnly(t *testing.T) {
	g := startGateway(t, newWorld(), func(c *Config) { c.Auth = panicky{} })
	bystander := login(t, g, "alice", "d")
	c := dial(t, g, "?token=panic", nil)
	c.expectClose(4503)
	bystander.expectSilence()
}

func TestLimitsRefill(t *testing.T) {
	l := newLimits(0, 10, 1000)
	count := func(now time.Duration, n, size int) (ok int) {
		for range n {
			if l.take(now, size, 10, 1000) == allowed {
				ok++
			}
		}
		return ok
	}
	if n := count(0, 25, 1); n != 20 {
		t.Errorf("%d frames at once, want 20", n)
	}
	if n := count(time.Second, 15, 1); n != 10 {
		t.Errorf("%d frames a second later, want 10", n)
	}
	if n := count(time.Minute, 3, 900); n != 2 {
		t.Errorf("%d frames of 900 bytes, want 2 in 2000", n)
	}
	unlimited := newLimits(0, -1, -1)
	for range 10000 {
		if unlimited.take(0, 1<<20, -1, -1) != allowed {
			t.Fatal("refused without a limit")
		}
	}
}

// TestBytesFarAboveTheRateAreAFlood, however few frames they come in; up to twice the rate they are only refused.
func TestBytesFarAboveTheRateAreAFlood(t *testing.T) {
	for factor, want := range map[int]verdict{2: refused, 3: flood} {
		l, worst := newLimits(0, 100, 1000), allowed
		for second := range 20 {
			for range factor {
				worst = max(worst, l.take(time.Duration(second)*time.Second, 1000, 100, 1000))
			}
		}
		if worst != want {
			t.Errorf("%d times the rate: verdict %d, want %d", factor, worst, want)
		}
	}
}
