package gateway

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	peerv1 "github.com/imcluster/imcluster/api/peer/v1"
	"github.com/imcluster/imcluster/presence/store"
)

// chat sends a chat, which has to be stored.
func (c *client) chat(to string, content int) frame {
	c.Helper()
	c.send(`{"type":"80","toId":%q,"content":%d}`, to, content)
	f := c.next()
	c.check(f, frame{"type": "81", "code": 200})
	return f
}

func unlimited(c *Config) { c.MaxFramesPerSecond, c.MaxBytesPerSecond = -1, -1 }

// TestLostPushIsFoundByTheNextOne: the gap in the numbers tells, and nothing is out of order.
func TestLostPushIsFoundByTheNextOne(t *testing.T) {
	w := newWorld()
	a, b := startGateway(t, w), startGateway(t, w)
	s, r := login(t, a, "s", "d"), login(t, b, "r", "d")
	s.chat("r", 0)
	r.receive(frame{"content": 0})
	w.set(func(w *world) { w.deaf = true })
	for i := 1; i < 4; i++ {
		s.chat("r", i)
	}
	r.expectQuiet()
	w.set(func(w *world) { w.deaf = false })
	s.chat("r", 4)
	for i := 1; i < 5; i++ {
		r.receive(frame{"content": i})
	}
	if n := b.metrics.gaps.Load(); n != 1 {
		t.Errorf("%d gaps", n)
	}
}

// TestLostPushIsFoundBySweeping: the store suspects that something was lost, because a gateway died or Redis came back.
func TestLostPushIsFoundBySweeping(t *testing.T) {
	w := newWorld()
	a, b := startGateway(t, w), startGateway(t, w)
	s, r := login(t, a, "s", "d"), login(t, b, "r", "d")
	w.set(func(w *world) { w.deaf = true })
	for i := range 3 {
		s.chat("r", i)
	}
	r.expectSilence()
	local{b}.Suspect("an incarnation vanished")
	for i := range 3 {
		r.receive(frame{"content": i})
	}
}

// TestSweepIsTriedAgainUntilItSucceeds: Redis was not there for the first.
func TestSweepIsTriedAgainUntilItSucceeds(t *testing.T) {
	w := newWorld()
	g := startGateway(t, w)
	r := login(t, g, "r", "d")
	w.fill(t, "r", 1)
	w.setDown(true)
	g.Sweep("test")
	eventually(t, "it has failed", func() bool { return g.metrics.sweeps.Load() > 0 })
	w.setDown(false)
	r.receive(frame{"content": 0})
}

// TestStreamOfADeadPeerIsEvidence: the gateway that stored a message died before it could push it.
func TestStreamOfADeadPeerIsEvidence(t *testing.T) {
	w := newWorld()
	a, stop := startStoppable(t, w, func(c *Config) { c.DrainWindow = time.Millisecond })
	b := startGateway(t, w)
	s, r := login(t, a, "s", "d"), login(t, b, "r", "d")
	s.chat("r", 0) // opens the stream
	r.receive(frame{"content": 0})
	w.set(func(w *world) { w.deaf = true })
	s.chat("r", 1)
	r.expectQuiet()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	r.receive(frame{"content": 1})
}

// TestOvertakingPushesAreDeliveredInOrder, without asking the store: gateways that send to the same user do that all the
// time.
func TestOvertakingPushesAreDeliveredInOrder(t *testing.T) {
	w := newWorld()
	g := startGateway(t, w)
	w.fill(t, "r", 5)
	w.set(func(w *world) { w.boxes["r"].cursors["d"] = w.boxes["r"].tail() })
	r := login(t, g, "r", "d")
	w.fill(t, "r", 5)
	id := w.devices("r")["d"].Conn
	for _, k := range []int{8, 9, 6, 7, 5, 6} { // one of them twice
		rec := w.boxes["r"].records[k]
		g.Deliver(&peerv1.Push{MessageId: rec.ID[:], Data: rec.Data, Targets: []*peerv1.Target{
			{User: "r", Connections: []uint64{id}, Seq: worldOrigin + uint64(k)}}})
	}
	for i := range 5 {
		r.receive(frame{"content": i})
	}
	r.expectQuiet()
	if n := g.metrics.reads.Load(); n != 0 {
		t.Errorf("the mailbox was read %d times", n)
	}
}

// TestReplayIsPacedByAcknowledgements: the client is sent no more than the window, and nothing twice or out of order.
func TestReplayIsPacedByAcknowledgements(t *testing.T) {
	w := newWorld()
	g := startGateway(t, w, unlimited, func(c *Config) { c.Store.Mailbox.MaxBytes = 32 << 10 })
	const n = 450
	w.fill(t, "r", n)
	window := (32 << 10) / (len(w.boxes["r"].records[n-1].Data) + entryOverhead)
	r := login(t, g, "r", "d")
	var got []frame
	for f := r.next(); f["type"] == "80"; f = r.next() {
		r.check(f, frame{"content": len(got), "redelivered": nil, "missed": nil})
		if got = append(got, f); len(got) == window/2 {
			r.send(`{"type":"40"}`) // its answer comes behind all that is sent without an acknowledgement
		}
	}
	if len(got) < window/2 || len(got) > window {
		t.Errorf("%d messages were sent, want at most %d, in pages", len(got), window)
	}
	for _, f := range got {
		r.ack(f)
	}
	for i := len(got); i < n; i++ {
		r.receive(frame{"content": i, "redelivered": nil})
	}
	r.expectQuiet()
	eventually(t, "the cursor is written", func() bool { return w.cursor("r", "d") == n })
}

// TestPushesDuringTheReplayDoNotOvertakeIt.
func TestPushesDuringTheReplayDoNotOvertakeIt(t *testing.T) {
	w := newWorld()
	g := startGateway(t, w, unlimited)
	const n, more = 700, 100
	w.fill(t, "r", n)
	s, r := login(t, g, "s", "d"), login(t, g, "r", "d")
	go func() {
		for i := range more {
			s.send(`{"type":"80","toId":"r","content":%d}`, n+i)
		}
	}()
	for i := range n + more {
		r.receive(frame{"content": i})
	}
}

// TestUnacknowledgedMessagesComeAgain: marked, in order, at most five times a connection, and with the next login.
func TestUnacknowledgedMessagesComeAgain(t *testing.T) {
	w := newWorld()
	g := startGateway(t, w, func(c *Config) { c.RedeliveryDelay = 20 * time.Millisecond; c.IdleTimeout = 3 * time.Second })
	s, r := login(t, g, "s", "d"), login(t, g, "r", "d")
	var first []frame
	for i := range 3 {
		s.chat("r", i)
		first = append(first, r.next())
	}
	r.ack(first[1]) // not the oldest, which stays
	for range maxRedeliveries {
		for _, i := range []int{0, 2} {
			f := r.next()
			r.check(f, frame{"content": i, "redelivered": true, "msgId": first[i]["msgId"], "time": first[i]["time"]})
		}
	}
	eventually(t, "it has stopped", func() bool {
		c := g.table.get("r", w.devices("r")["d"].Conn)
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.mail.redeliverAt == 0
	})
	r.expectSilence()
	if n := w.cursor("r", "d"); n != 0 {
		t.Errorf("the cursor is at %d: it went over what was not acknowledged", n)
	}
	r = login(t, g, "r", "d")
	for i := range 3 {
		r.receive(frame{"content": i, "redelivered": nil})
	}
	eventually(t, "the cursor is written", func() bool { return w.cursor("r", "d") == 3 })
	r.expectQuiet()
}

// TestAcknowledgementsInAnyOrder: the cursor only moves over what is acknowledged without a gap, and many need few writes.
func TestAcknowledgementsInAnyOrder(t *testing.T) {
	w := newWorld()
	g := startGateway(t, w, unlimited)
	const n = 200
	w.fill(t, "r", n)
	r := login(t, g, "r", "d")
	var got []frame
	for range n {
		got = append(got, r.next())
	}
	for _, f := range slices.Backward(got[1:]) {
		r.ack(f)
	}
	r.expectQuiet()
	if c := w.cursor("r", "d"); c != 0 {
		t.Fatalf("the cursor is at %d", c)
	}
	r.ack(got[0])
	eventually(t, "the cursor is written", func() bool { return w.cursor("r", "d") == n })
	if acks := w.boxes["r"].acks; acks > 4 {
		t.Errorf("%d writes for %d acknowledgements", acks, n)
	}
	r.expectQuiet()
	r.send(`{"type":"90","msgId":"2bfea133-72a8-4315-82aa-80049fe4fb7b"}`) // not known
	r.expect(frame{"type": "91", "code": 200, "msgId": "2bfea133-72a8-4315-82aa-80049fe4fb7b"})
}

// TestAcknowledgementsAreWrittenBeforeTheSessionEnds, however it ends: the next connection is not sent them again.
func TestAcknowledgementsAreWrittenBeforeTheSessionEnds(t *testing.T) {
	for name, end := range map[string]func(*Gateway, *client){
		"LOGOUT": func(_ *Gateway, c *client) {
			c.send(`{"type":"12"}`)
			c.expectClose(1000)
		},
		"broken": func(g *Gateway, c *client) {
			c.closeNow()
			eventually(c, "the connection has ended", func() bool { return g.connections() == 0 })
		},
		"moved": func(g *Gateway, c *client) {
			for _, moving := range g.all() {
				moving.move()
			}
			c.expect(frame{"type": "31"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			g := startGateway(t, w, func(c *Config) { c.IdleTimeout = time.Hour }) // and with it the steps of the wheel
			w.fill(t, "r", 3)
			r := login(t, g, "r", "d")
			for i := range 3 {
				r.receive(frame{"content": i})
			}
			for range 3 {
				r.expect(frame{"type": "91", "code": 200})
			}
			end(g, r)
			if n := w.cursor("r", "d"); n != 3 {
				t.Errorf("the cursor is at %d", n)
			}
		})
	}
}

// TestClientThatNeverAcknowledgesIsNotStarved: what the mailbox has dropped does not hold up newer messages.
func TestClientThatNeverAcknowledgesIsNotStarved(t *testing.T) {
	w := newWorld()
	g := startGateway(t, w, unlimited, func(c *Config) { c.Store.Mailbox.MaxMessages = 10 })
	s, r := login(t, g, "s", "d"), login(t, g, "r", "d")
	for i := range 50 {
		s.chat("r", i)
		r.check(r.next(), frame{"content": i})
	}
	c := g.table.get("r", w.devices("r")["d"].Conn)
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.mail.open(); n > 10 {
		t.Errorf("%d messages are remembered", n)
	}
}

// TestMissingMessagesAreCounted, once, with the next message: at login and while connected.
func TestMissingMessagesAreCounted(t *testing.T) {
	w := newWorld()
	g := startGateway(t, w)
	w.fill(t, "r", 5)
	w.drop("r", 2)
	r := login(t, g, "r", "d")
	r.receive(frame{"content": 2, "missed": 2})
	r.receive(frame{"content": 3, "missed": nil})
	r.receive(frame{"content": 4, "missed": nil})
	w.fill(t, "r", 4)
	w.drop("r", 3+3)
	g.Sweep("test")
	r.receive(frame{"content": 3, "missed": 3})
	s := login(t, g, "s", "d")
	s.chat("r", 7)
	r.receive(frame{"content": 7, "missed": nil})
}

// TestResendOfAStoredMessageIsNotDeliveredTwice, but tells sessions that may not know of it: the gateway that it was sent to
// first may have died before it pushed.
func TestResendOfAStoredMessageIsNotDeliveredTwice(t *testing.T) {
	w := newWorld()
	a, b := startGateway(t, w), startGateway(t, w)
	s1, s2, r := login(t, a, "s", "1"), login(t, b, "s", "2"), login(t, b, "r", "d")
	const chat = `{"type":"80","toId":"r","clientMsgId":"c","content":1}`
	w.set(func(w *world) { w.deaf = true })
	s1.send(chat)
	first := s1.expect(frame{"type": "81", "code": 200})
	r.expectSilence()
	w.set(func(w *world) { w.deaf = false })
	for range 2 {
		s2.send(chat)
		s2.expect(frame{"type": "81", "code": 200, "msgId": first["msgId"], "clientMsgId": "c"})
	}
	r.receive(frame{"content": 1, "msgId": first["msgId"]})
	r.expectQuiet()
}

// TestUnknownOutcomeIsFollowedUp: the sender is refused for now, and the message that was stored all the same is delivered.
func TestUnknownOutcomeIsFollowedUp(t *testing.T) {
	w := newWorld()
	a, b := startGateway(t, w), startGateway(t, w)
	s, r := login(t, a, "s", "d"), login(t, b, "r", "d")
	w.set(func(w *world) { w.unsure = true })
	s.send(`{"type":"80","toId":"r","clientMsgId":"c","content":1}`)
	s.expect(frame{"type": "81", "code": 500, "clientMsgId": "c", "msgId": nil})
	r.receive(frame{"content": 1})
	w.set(func(w *world) { w.unsure = false })
	s.send(`{"type":"80","toId":"r","clientMsgId":"c","content":1}`)
	s.expect(frame{"type": "81", "code": 200})
	r.expectQuiet()
}

// TestMailStateIsGoneWhenNothingIsUnderWay: an idle session costs nothing for having had mail.
func TestMailStateIsGoneWhenNothingIsUnderWay(t *testing.T) {
	w := newWorld()
	g := startGateway(t, w)
	s, r := login(t, g, "s", "d"), login(t, g, "r", "d")
	for i := range 10 {
		s.chat("r", i)
		r.receive(frame{"content": i})
	}
	eventually(t, "it is gone", func() bool {
		c := g.table.get("r", w.devices("r")["d"].Conn)
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.mail == nil
	})
}

// expectQuiet checks that answers to acknowledgements are all that comes before the answer to a ping.
func (c *client) expectQuiet() {
	c.Helper()
	c.send(`{"type":"40"}`)
	c.check(c.next(), frame{"type": "41"})
}

func TestRecordsSurviveEncoding(t *testing.T) {
	for _, r := range []record{
		{}, {from: "a", time: 1, content: []byte("1")}, {from: "用户", group: "g", time: 1 << 52, content: []byte(`{"a": "\u0000"}`)},
	} {
		got, err := decodeRecord(r.encode())
		if err != nil || fmt.Sprint(got) != fmt.Sprint(r) {
			t.Errorf("got %v, %v, want %v", got, err, r)
		}
		data := r.encode()
		for n := range data[:len(data)-len(r.content)] {
			if _, err := decodeRecord(data[:n]); err == nil {
				t.Errorf("%d of %d bytes were accepted", n, len(data))
			}
		}
	}
	if _, err := decodeRecord([]byte{recordVersion + 1, 1, 0, 0}); err == nil {
		t.Error("another version was accepted")
	}
	if id, ok := rawID(uuid.UUID(store.Record{}.ID).String()); !ok || id != (messageID{}) {
		t.Error("a msgId was not recognised")
	}
}
