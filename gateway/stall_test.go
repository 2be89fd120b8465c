package gateway

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	peerv1 "github.com/imcluster/imcluster/api/peer/v1"
	"github.com/imcluster/imcluster/presence/store"
)

// session returns the connection of a user's device.
func (g *Gateway) session(w *world, user, device string) *conn {
	return g.table.get(user, w.devices(user)[device].Conn)
}

// TestMessagesThatAreTooOldDoNotHoldUpOthers, not even if there is nothing else in the first page.
func TestMessagesThatAreTooOldDoNotHoldUpOthers(t *testing.T) {
	w := newWorld()
	g := startGateway(t, w, unlimited)
	const old = pageMessages + 50
	w.fill(t, "r", old+1)
	w.set(func(w *world) { w.boxes["r"].old = old })
	r := login(t, g, "r", "d")
	r.receive(frame{"content": old, "missed": old})
}

// TestMessageLargerThanTheWindowIsReadOnce, and again when the client has acknowledged enough.
func TestMessageLargerThanTheWindowIsReadOnce(t *testing.T) {
	w := newWorld()
	g := startGateway(t, w, unlimited, func(c *Config) {
		c.MaxFrameBytes, c.MaxQueuedBytes, c.Store.Mailbox.MaxBytes = 256<<10, 1<<20, 256<<10
	})
	for range 2 {
		rec := record{from: "s", content: []byte(`"` + strings.Repeat("x", 150<<10) + `"`)}
		w.set(func(w *world) {
			if _, err := w.appendLocked("r", &store.Record{ID: messageID(uuid.New()), Data: rec.encode()}); err != nil {
				t.Error(err)
			}
		})
	}
	r := login(t, g, "r", "d")
	first := r.next()
	r.expectSilence()
	if n := g.metrics.reads.Load(); n > 2 {
		t.Fatalf("the mailbox was read %d times", n)
	}
	r.ack(first)
	r.check(r.next(), frame{"type": "80"})
}

// TestPushesBeforeTheirTurnAreKeptInBoundedMemory: what comes before them cannot be read.
func TestPushesBeforeTheirTurnAreKeptInBoundedMemory(t *testing.T) {
	w := newWorld()
	g := startGateway(t, w)
	w.fill(t, "r", 1)
	r := login(t, g, "r", "d")
	r.receive(frame{"content": 0})
	c := g.session(w, "r", "d")
	w.setDown(true)
	rec := record{from: "s", content: []byte(`"` + strings.Repeat("x", 20<<10) + `"`)}
	for k := range maxEarly {
		id := uuid.New()
		c.hand("r", c.id, worldOrigin+2+uint64(k), &letter{id: id, data: rec.encode()})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := 0
	for _, e := range c.mail.early {
		kept += len(e.data)
	}
	if kept == 0 || kept > maxEarlyBytes {
		t.Errorf("%d bytes are kept", kept)
	}
}

// TestSweepReachesASessionThatIsLoggingIn: the answer of the store is on its way, and a message was stored meanwhile by a
// gateway that did not live to push it.
func TestSweepReachesASessionThatIsLoggingIn(t *testing.T) {
	w := newWorld()
	g := startGateway(t, w)
	w.register = func() {
		w.fill(t, "r", 1)
		if err := g.sweep(t.Context()); err != nil {
			t.Error(err)
		}
	}
	r := login(t, g, "r", "d")
	r.receive(frame{"content": 0})
}

// TestMessageAcknowledgedBeforeItIsReadAgainDoesNotCome: Redis has renumbered the mailbox, and the client acknowledges what it
// was sent before that.
func TestMessageAcknowledgedBeforeItIsReadAgainDoesNotCome(t *testing.T) {
	w := newWorld()
	g := startGateway(t, w)
	r := login(t, g, "r", "d")
	w.fill(t, "r", 2)
	id := w.boxes["r"].records[0].ID
	c := g.session(w, "r", "d")
	c.mu.Lock()
	c.mailLocked().before = map[messageID]bool{id: false}
	c.mu.Unlock()
	r.ack(frame{"msgId": uuid.UUID(id).String()})
	r.expectQuiet()
	g.Deliver(&peerv1.Push{Targets: []*peerv1.Target{{User: "r", Connections: []uint64{c.id}, Seq: worldOrigin + 1}}})
	r.receive(frame{"content": 1})
	eventually(t, "the cursor is written", func() bool { return w.cursor("r", "d") == 2 })
}
