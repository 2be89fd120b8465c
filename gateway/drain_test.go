package gateway

import (
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/imcluster/imcluster/presence/store"
)

// TestDrainMovesClientsAtTheRate: each is asked once, over time, and whoever leaves is shown online all the while.
func TestDrainMovesClientsAtTheRate(t *testing.T) {
	w := newWorld()
	const clients, perSecond = 60, 50
	slow := func(c *Config) { c.DrainMaxReconnectsPerSecond, c.Store.Grace = perSecond, time.Hour }
	a, stop := startStoppable(t, w, slow, withOps)
	b := startGateway(t, w)
	var all []*client
	for i := range clients {
		all = append(all, login(t, a, fmt.Sprint("user", i), "d"))
	}
	stopped := make(chan error, 1)
	start := time.Now()
	go func() { stopped <- stop() }()

	var wg sync.WaitGroup
	var mu sync.Mutex
	var asked []time.Duration
	for i, c := range all {
		wg.Go(func() {
			f := c.expect(frame{"type": "31", "code": 502})
			mu.Lock()
			asked = append(asked, time.Since(start))
			mu.Unlock()
			<-time.After(time.Duration(f["delayMs"].(float64)) * time.Millisecond)
			moved := login(t, b, fmt.Sprint("user", i), "d") // before it leaves the old one
			c.expectClose(4502)                              // and no KICKED
			moved.expectSilence()
		})
	}
	wg.Wait()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	last := time.Duration(0)
	bins := map[int]int{}
	for _, d := range asked {
		last = max(last, d)
		bins[int(d/(500*time.Millisecond))]++
	}
	if want := clients * time.Second / perSecond; last < want*2/3 || last > want*2 {
		t.Errorf("the last client was asked after %v, want about %v", last, want)
	}
	for bin, n := range bins {
		if n > perSecond/2*3/2+1 {
			t.Errorf("%d clients were asked in half second %d, want at most 1.5 × %d", n, bin, perSecond/2)
		}
	}
	for i := range clients {
		if _, gone := w.lastGone[fmt.Sprint("user", i)]; gone {
			t.Errorf("user%d was shown offline while it moved", i)
		}
	}
}

func TestDrainClosesThoseWhoStay(t *testing.T) {
	w := newWorld()
	a, stop := startStoppable(t, w, func(c *Config) { c.DrainWindow = time.Second })
	startGateway(t, w)
	c := login(t, a, "alice", "d")
	stopped := make(chan error, 1)
	start := time.Now()
	go func() { stopped <- stop() }()
	c.expect(frame{"type": "31"})
	c.expectClose(1001) // the window is shorter than the time to stay
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if d := time.Since(start); d < 900*time.Millisecond || d > 3*time.Second {
		t.Errorf("the drain took %v, want the window of 1s", d)
	}
}

func TestDrainWithNowhereToGoClosesAllAtOnce(t *testing.T) {
	w := newWorld()
	a, stopA := startStoppable(t, w, func(c *Config) { c.DrainWindow = time.Minute })
	c := login(t, a, "alice", "d")
	stopped := make(chan error, 1)
	go func() { stopped <- stopA() }()
	c.expectClose(1001)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// TestDrainTakesReadinessFirst: for the shutdown delay the gateway works as before.
func TestDrainTakesReadinessFirst(t *testing.T) {
	w := newWorld()
	a, stop := startStoppable(t, w, withOps, func(c *Config) { c.ShutdownDelay = 500 * time.Millisecond })
	startGateway(t, w)
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	eventually(t, "the gateway is not ready", func() bool { return probe(t, a, "readyz") == 503 })
	if probe(t, a, "livez") != 200 {
		t.Error("a draining gateway is not live")
	}
	c := login(t, a, "alice", "d") // sent here by a proxy that has not heard of it
	c.expect(frame{"type": "31"})
	c.send(`{"type":"12"}`) // and really leaves
	c.expectClose(1000)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if len(w.devices("alice")) != 0 {
		t.Error("alice is still registered after her logout")
	}
}

func TestDrainShare(t *testing.T) {
	peer := func(e string, draining bool) store.Peer { return store.Peer{Epoch: store.Epoch(e), Draining: draining} }
	starts := store.Peer{Epoch: "starts", Waiting: true}
	for _, tc := range []struct {
		name             string
		peers            []store.Peer
		takers, starting int
		share            float64
	}{
		{"alone", []store.Peer{peer("self", true)}, 0, 0, 90},
		{"not in the table", nil, 0, 0, 90},
		{"one other", []store.Peer{peer("self", true), peer("a", false)}, 1, 0, 90},
		{"one other that starts", []store.Peer{peer("self", true), starts}, 0, 1, 90},
		{"two drain", []store.Peer{peer("self", true), peer("a", false), peer("b", true)}, 1, 0, 45},
		{"all drain", []store.Peer{peer("self", true), peer("a", true), peer("b", true)}, 0, 0, 30},
	} {
		t.Run(tc.name, func(t *testing.T) {
			takers, starting, share := drainShare(tc.peers, "self", 90)
			if takers != tc.takers || starting != tc.starting || math.Abs(share-tc.share) > 1e-9 {
				t.Errorf("got %d others, %d that start and %v a second, want %d, %d and %v", takers, starting, share, tc.takers, tc.starting, tc.share)
			}
		})
	}
}
