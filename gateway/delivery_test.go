package gateway_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/imcluster/imcluster/gateway"
	"github.com/imcluster/imcluster/internal/testredis"
	"github.com/imcluster/imcluster/presence/store"
)

// next reads the next frame that is not the answer to an acknowledgement.
func (c *client) next() frame {
	c.Helper()
	for {
		f, err := c.read()
		if err != nil {
			c.Fatalf("read: %v", err)
		}
		if f["type"] != "91" {
			return f
		}
	}
}

// receive reads the next message, which must have the content, and acknowledges it.
func (c *client) receive(content any) frame {
	c.Helper()
	f := c.next()
	if n, ok := content.(int); ok {
		content = float64(n)
	}
	if f["type"] != "80" && f["type"] != "82" || f["content"] != content {
		c.Fatalf("got %v, want the message %v", f, content)
	}
	c.send(`{"type":"90","msgId":%q}`, f["msgId"])
	return f
}

// quiet checks that nothing but answers to acknowledgements comes before the answer to a ping.
func (c *client) quiet() {
	c.Helper()
	c.send(`{"type":"40"}`)
	if f := c.next(); f["type"] != "41" {
		c.Fatalf("got %v, want nothing", f)
	}
}

// logout ends the session, and with it all that is acknowledged is written.
func (c *client) logout() {
	c.Helper()
	c.send(`{"type":"12"}`)
	c.expectClose(1000)
}

func (c *client) mustChat(to string, content int) {
	c.Helper()
	if code := c.chat(to, content); code != 200 {
		c.Fatalf("message %d was answered with %v", content, code)
	}
}

func unlimited(c *gateway.Config) {
	c.MaxFramesPerSecond, c.MaxBytesPerSecond, c.MaxGroupRecipientsPerSecond = -1, -1, -1
}

// TestMessagesWaitForEveryDevice: on two pods, and whether or not a device was connected when they came.
func TestMessagesWaitForEveryDevice(t *testing.T) {
	checkLeaks(t)
	redis := testredis.Start(t)
	a, b := start(t, redis, "a"), start(t, redis, "b")
	s, phone := login(t, a.Addr().String(), "s", "d"), login(t, a.Addr().String(), "bob", "phone")
	s.mustChat("bob", 0)
	laptop := login(t, b.Addr().String(), "bob", "laptop") // after the message, which no device has acknowledged
	laptop.receive(0)
	phone.receive(0)
	phone.logout()
	for i := 1; i < 4; i++ {
		s.mustChat("bob", i)
		laptop.receive(i)
	}
	laptop.logout()
	s.mustChat("bob", 4)
	for _, tc := range []struct {
		device string
		from   int
	}{{"phone", 1}, {"laptop", 4}} {
		c := login(t, b.Addr().String(), "bob", tc.device)
		for i := tc.from; i < 5; i++ {
			c.receive(i)
		}
		c.quiet()
		c.logout()
		login(t, a.Addr().String(), "bob", tc.device).quiet() // nothing comes twice
	}
	// A new device gets what nobody has acknowledged: nothing.
	login(t, a.Addr().String(), "bob", "new").quiet()
}

// TestResendOnAnotherGatewayAfterAnOutageIsOneMessage: the first attempt has an unknown outcome.
func TestResendOnAnotherGatewayAfterAnOutageIsOneMessage(t *testing.T) {
	checkLeaks(t)
	redis := testredis.Start(t)
	a, b := start(t, redis, "a"), start(t, redis, "b")
	s1, s2, r := login(t, a.Addr().String(), "s", "1"), login(t, b.Addr().String(), "s", "2"), login(t, a.Addr().String(), "r", "d")
	const chat = `{"type":"80","toId":"r","clientMsgId":"c","content":1}`
	redis.Pause()
	s1.send(chat)
	s1.expect("81", 500)
	s2.send(chat)
	s2.expect("81", 500)
	redis.Resume()
	var id any
	eventually(t, "a resend is answered", func() bool {
		s2.send(chat)
		f := s2.expect("81", 0)
		id = f["msgId"]
		return f["code"] == 200.0
	})
	if f := r.receive(1); f["msgId"] != id {
		t.Errorf("received %v, sent %v", f["msgId"], id)
	}
	s1.send(chat)
	if f := s1.expect("81", 200); f["msgId"] != id {
		t.Errorf("the last resend has the msgId %v, the first %v", f["msgId"], id)
	}
	r.quiet()
}

// TestRedisIsPausedUnderLoad: no connection ends, nothing is acknowledged falsely, and everything that was is delivered, in
// the order in which it was.
func TestRedisIsPausedUnderLoad(t *testing.T) {
	checkLeaks(t)
	redis := testredis.Start(t)
	a, b := start(t, redis, "a", unlimited), start(t, redis, "b", unlimited)
	s, r := login(t, a.Addr().String(), "s", "d"), login(t, b.Addr().String(), "r", "d")
	const n = 400
	sent := make(chan bool)
	go func() {
		defer close(sent)
		for i := range n {
			if i == n/2 {
				redis.Pause()
				time.AfterFunc(3*time.Second, redis.Resume)
			}
			if s.ws.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, `{"type":"80","toId":"r","clientMsgId":"%d","content":%d}`, i, i)) != nil {
				return
			}
			if i%50 == 49 {
				sent <- true
			}
		}
	}()
	accepted := map[any]bool{}
	for answers := 0; answers < n; {
		for range 50 {
			if f := s.expect("81", 0); f["code"] == 200.0 {
				accepted[f["msgId"]] = true
			}
			answers++
		}
		<-sent
	}
	if len(accepted) < n/2 || len(accepted) == n {
		t.Errorf("%d of %d messages were accepted", len(accepted), n)
	}
	last := -1.0
	for len(accepted) > 0 {
		f := r.next()
		if f["content"].(float64) <= last {
			t.Fatalf("%v came after %v", f, last)
		}
		last = f["content"].(float64)
		delete(accepted, f["msgId"]) // what was refused may come too
		r.send(`{"type":"90","msgId":%q}`, f["msgId"])
	}
}

// TestClientThatNeverAcknowledges: what the sender is told is stored waits, up to the cap; the sender is refused before it
// pushes anybody else's message out.
func TestClientThatNeverAcknowledges(t *testing.T) {
	checkLeaks(t)
	redis := testredis.Start(t)
	a, b := start(t, redis, "a", unlimited), start(t, redis, "b", unlimited)
	r, s := login(t, b.Addr().String(), "r", "d"), login(t, a.Addr().String(), "s", "d")
	const n, capacity = 2000, 500
	stored := 0
	for i := range n {
		s.send(`{"type":"80","toId":"r","content":%d}`, i)
		switch f := s.expect("81", 0); f["code"] {
		case 200.0:
			stored++
		case 604.0:
			if f["delayMs"].(float64) <= 0 {
				t.Fatalf("refused with %v", f)
			}
		default:
			t.Fatalf("answered with %v", f)
		}
	}
	if stored != capacity {
		t.Errorf("%d messages of one sender were stored, want %d", stored, capacity)
	}
	for i := range capacity {
		if f := r.next(); f["content"] != float64(i) {
			t.Fatalf("message %d is %v", i, f)
		}
	}
	r.quiet()
	again := login(t, a.Addr().String(), "r", "d")
	for i := range capacity {
		again.receive(i)
	}
	eventually(t, "there is room again", func() bool { return s.chat("r", n) == 200 })
	again.receive(n)
}

// TestFullRedisTakesNoMessages, but logins, and says so by a code of its own.
func TestFullRedisTakesNoMessages(t *testing.T) {
	checkLeaks(t)
	redis := testredis.Start(t)
	redis.MustDo("CONFIG", "SET", "maxmemory-policy", "noeviction")
	a := start(t, redis, "a")
	s, r := login(t, a.Addr().String(), "s", "d"), login(t, a.Addr().String(), "r", "d")
	s.mustChat("r", 1)
	r.receive(1)
	used, err := strconv.Atoi(regexp.MustCompile(`used_memory:(\d+)`).FindStringSubmatch(fmt.Sprint(redis.MustDo("INFO", "memory")))[1])
	if err != nil {
		t.Fatal(err)
	}
	redis.MustDo("CONFIG", "SET", "maxmemory", strconv.Itoa(used*100/90))
	eventually(t, "messages are refused", func() bool {
		s.send(`{"type":"80","toId":"r","clientMsgId":"c","content":2}`)
		f := s.expect("81", 0)
		return f["code"] == 501.0 && f["clientMsgId"] == "c" && f["delayMs"].(float64) > 0
	})
	login(t, a.Addr().String(), "late", "d")
	redis.MustDo("CONFIG", "SET", "maxmemory", "0")
	eventually(t, "messages are taken again", func() bool { return s.chat("r", 3) == 200 })
	for f := r.next(); f["content"] != 3.0; f = r.next() {
		if f["content"] != 2.0 { // stored before the memory was looked at
			t.Fatalf("got %v", f)
		}
	}
}

// TestDrainLosesNothing: clients that are asked to move get every message once, while others keep sending to them, and are
// never seen offline.
func TestDrainLosesNothing(t *testing.T) {
	checkLeaks(t)
	redis := testredis.Start(t)
	s := readers(t, redis)
	a, stop := startStoppable(t, redis, "a", unlimited)
	b := start(t, redis, "b", unlimited)
	sender, r := login(t, b.Addr().String(), "s", "d"), login(t, a.Addr().String(), "r", "d")
	const n = 60
	i := 0
	round := func() { // sends and receives some
		for range n {
			sender.mustChat("r", i)
			r.receive(i)
			i++
		}
	}
	round()
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	if f := r.next(); f["type"] != "31" || f["code"] != 502.0 {
		t.Fatalf("got %v, want to be asked to move", f)
	}
	round()   // it has not left yet
	r.quiet() // so that all its acknowledgements were taken
	for k := range n {
		sender.mustChat("r", i+k) // it leaves without reading these
	}
	old := r
	r = login(t, b.Addr().String(), "r", "d")
	for range n {
		r.receive(i)
		i++
	}
	for f := old.next(); f["type"] == "80"; f = old.next() {
		if f["redelivered"] != nil {
			t.Errorf("got %v", f)
		}
		if f["content"] == float64(i-1) {
			break
		}
	}
	old.expectClose(4502)
	round()
	<-stopped
	r.quiet()
	if u := stateOf(t, s, "r"); u.State != store.Online || u.Devices[0].Gateway != "b" {
		t.Errorf("after the drain: %+v", u)
	}
}

// TestKilledGatewayLosesNoAcknowledgedMessage: the sender's gateway dies right after its answers, and the recipient is idle.
// What it could not push any more is found within the fencing and 5 s.
func TestKilledGatewayLosesNoAcknowledgedMessage(t *testing.T) {
	redis := testredis.Start(t)
	a, b := startProcess(t, redis, "a", "--max-frames-per-second=-1"), startProcess(t, redis, "b")
	r := login(t, b.addr, "r", "d")
	for round := range 3 {
		s := login(t, a.addr, "s", "d")
		const n = 100
		var frames []byte
		for i := range n {
			frames = fmt.Appendf(frames[:0], `{"type":"80","toId":"r","clientMsgId":"%d-%d","content":%d}`, round, i, i)
			if err := s.ws.WriteMessage(websocket.TextMessage, frames); err != nil {
				t.Fatal(err)
			}
		}
		accepted := map[any]bool{}
		for len(accepted) < n/4*(round+1) {
			accepted[s.expect("81", 200)["msgId"]] = true
		}
		a.kill()
		killed := time.Now()
		for {
			f, err := s.read()
			if err != nil {
				break
			}
			accepted[f["msgId"]] = true
		}
		for len(accepted) > 0 {
			f := r.next()
			delete(accepted, f["msgId"])
			r.send(`{"type":"90","msgId":%q}`, f["msgId"])
		}
		if took := time.Since(killed); took > leaseTTL+5*time.Second {
			t.Errorf("delivered %v after the kill", took)
		}
		r.send(`{"type":"40"}`)
		for f := r.next(); f["type"] == "80"; f = r.next() { // what was stored without an answer
			r.send(`{"type":"90","msgId":%q}`, f["msgId"])
		}
		a = startProcess(t, redis, "a", "--max-frames-per-second=-1")
	}
}

// TestStoppedGatewayHoldsUpNobody: the recipient moves from a gateway that hangs, and gets what was sent meanwhile. When the
// gateway goes on, nothing comes twice.
func TestStoppedGatewayHoldsUpNobody(t *testing.T) {
	redis := testredis.Start(t)
	a, b := startProcess(t, redis, "a"), startProcess(t, redis, "b")
	s, old := login(t, b.addr, "s", "d"), login(t, a.addr, "r", "d")
	s.mustChat("r", 0)
	old.receive(0)
	a.signal(syscall.SIGSTOP)
	for i := 1; i < 20; i++ {
		s.mustChat("r", i)
	}
	r := login(t, b.addr, "r", "d")
	first := r.next() // 0 again, if its acknowledgement was not written before the gateway was stopped
	next := int(first["content"].(float64)) + 1
	if next > 2 {
		t.Fatalf("the first message is %v", first)
	}
	for ; next < 20; next++ {
		r.receive(next)
	}
	a.signal(syscall.SIGCONT)
	old.expectClose(4304)
	s.mustChat("r", 20)
	r.receive(20)
	r.quiet()
}

// TestLargeMessageToOneUser is passed on as it is.
func TestLargeMessageToOneUser(t *testing.T) {
	checkLeaks(t)
	redis := testredis.Start(t)
	a, b := start(t, redis, "a"), start(t, redis, "b")
	s, r := login(t, a.Addr().String(), "s", "d"), login(t, b.Addr().String(), "r", "d")
	body := strings.Repeat("ü", 30<<10)
	s.send(`{"type":"80","toId":"r","content":%q}`, body)
	s.expect("81", 200)
	r.receive(body)
}
