package gateway

import (
	"testing"
	"time"

	"github.com/imcluster/imcluster/presence/store"
)

// TestNewGatewayWaitsForTheClientsOnTheMove is about who may say that it is ready, at 100 moves a second and 1,000
// connections a gateway: 500 may be on the move.
func TestNewGatewayWaitsForTheClientsOnTheMove(t *testing.T) {
	serves := func(n int) store.Peer { return store.Peer{Epoch: "serves", Sessions: n} }
	drains := func(n int) store.Peer { return store.Peer{Epoch: "drains", Draining: true, Sessions: n} }
	self := store.Peer{Epoch: "self", Waiting: true}
	starts := store.Peer{Epoch: "starts", Waiting: true, Sessions: 2000}
	for _, tc := range []struct {
		name   string
		peers  []store.Peer
		blind  time.Duration
		waited time.Duration
		ready  bool
		moving int
	}{
		{"the first of all", []store.Peer{self}, 0, 0, true, 0},
		{"nobody drains", []store.Peer{self, serves(800)}, 0, 0, true, 0},
		{"few on the move", []store.Peer{self, serves(0), drains(500)}, 0, 0, true, 500},
		{"too many on the move", []store.Peer{self, serves(0), drains(501)}, 0, 0, false, 501},
		{"too many of several", []store.Peer{self, serves(0), drains(300), drains(300)}, 0, 0, false, 600},
		{"nobody else takes clients", []store.Peer{self, drains(900)}, 0, 0, true, 900},
		{"the other one starts, too", []store.Peer{self, starts, drains(900)}, 0, 0, true, 900},
		{"the others have room", []store.Peer{self, serves(900), serves(900), drains(900)}, 0, 0, false, 900},
		{"the others are nearly full", []store.Peer{self, serves(900), serves(901), drains(900)}, 0, 0, true, 900},
		{"waited for long", []store.Peer{self, serves(0), drains(900)}, 0, 24 * time.Second, false, 900},
		{"waited for the window", []store.Peer{self, serves(0), drains(900)}, 0, 25 * time.Second, true, 900},
		{"the store was just asked", []store.Peer{self, serves(0), drains(900)}, 3 * time.Second, 0, false, 900},
		{"the store cannot be asked", []store.Peer{self, serves(0), drains(900)}, 4 * time.Second, 0, true, 900},
		{"a start that was told to stop", []store.Peer{self, {Epoch: "x", Waiting: true, Draining: true, Sessions: 501}, serves(0)}, 0, 0, false, 501},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := Config{DrainMaxReconnectsPerSecond: 100, MaxConnections: 1000, DrainWindow: 10 * time.Second}
			ready, moving, why := cfg.mayStart(standing{peers: tc.peers, self: "self", blind: tc.blind, waited: tc.waited})
			if ready != tc.ready || moving != tc.moving || ready != (why != "") {
				t.Errorf("ready: %v because %q, with %d on the move; want %v, %d", ready, why, moving, tc.ready, tc.moving)
			}
		})
	}
}

// TestReadinessStaysOnceItWasGiven: only draining takes it away, not what happens to others.
func TestReadinessStaysOnceItWasGiven(t *testing.T) {
	w := newWorld()
	a := startGateway(t, w, withOps)
	if probe(t, a, "readyz") != 200 {
		t.Fatal("the first gateway is not ready")
	}
	crowd := &worldMember{w: w, epoch: "crowd", draining: true, local: crowded{}}
	w.mu.Lock()
	w.members[crowd.epoch] = crowd
	w.members["serves"] = &worldMember{w: w, epoch: "serves", serving: true, local: crowded{}}
	w.mu.Unlock()

	b, stop := startUnready(t, w, withOps)
	eventually(t, "the second one waits", func() bool { return b.heldBy.Load() > 0 })
	if probe(t, b, "readyz") != 503 || probe(t, b, "livez") != 200 {
		t.Error("a gateway that waits is ready, or not live")
	}
	if probe(t, a, "readyz") != 200 {
		t.Error("the first gateway is not ready any more")
	}
	w.mu.Lock()
	delete(w.members, crowd.epoch)
	w.mu.Unlock()
	eventually(t, "the second one is ready", func() bool { return probe(t, b, "readyz") == 200 })
	if b.heldBy.Load() != 0 {
		t.Error("a gateway that is ready says that it waits")
	}
	w.mu.Lock()
	w.members[crowd.epoch] = crowd
	w.mu.Unlock()
	if probe(t, b, "readyz") != 200 {
		t.Error("the second gateway is not ready any more")
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// TestStartThatWaitsCanBeStopped: nothing of it is left.
func TestStartThatWaitsCanBeStopped(t *testing.T) {
	w := newWorld()
	w.members["crowd"] = &worldMember{w: w, epoch: "crowd", draining: true, local: crowded{}}
	w.members["serves"] = &worldMember{w: w, epoch: "serves", serving: true, local: crowded{}}
	g, stop := startUnready(t, w)
	eventually(t, "it waits", func() bool { return g.heldBy.Load() > 0 })
	if err := stop(); err != nil {
		t.Error(err)
	}
	if g.Ready() {
		t.Error("it has become ready")
	}
}

// crowded has more sessions than may be on the move.
type crowded struct{ store.Local }

func (crowded) Count() int { return 5*defaultDrainRate + 1 }
