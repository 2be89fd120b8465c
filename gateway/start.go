package gateway

import (
	"context"
	"fmt"
	"time"

	"github.com/imcluster/imcluster/presence/store"
)

// A Deployment takes the next old pod away as soon as a new one is ready, and does not wait for the drain of the one before.
// So a new gateway holds its readiness back while too many clients are still to be moved. That also gates evictions and node
// drains, through the disruption budget, and needs no operator.

const (
	// movesAhead is how long the clients that are still to be moved may take at the rate of drains.
	movesAhead = 5 * time.Second
	// nearlyFull is the part of their connections from which on the others need help more than they need patience.
	nearlyFull = 0.9
	// startSlack is how long a start waits on top of a drain window: as long as a pod lives longer than its window.
	startSlack = 15 * time.Second
	// blindAfter is for how long the lease table may not have been read: it is read every 0.8 s.
	blindAfter = 3 * time.Second
	// startStep is how often a start that waits looks again, and startLog how often it says so.
	startStep = 200 * time.Millisecond
	startLog  = 15 * time.Second
)

// standing is what a gateway that starts goes by.
type standing struct {
	peers  []store.Peer
	self   store.Epoch
	blind  time.Duration // since the peers were read
	waited time.Duration
}

// mayStart tells whether a gateway that starts may say that it is ready, and why. moving is how many sessions the draining
// gateways have.
func (c *Config) mayStart(s standing) (ok bool, moving int, why string) {
	takers, held := 0, 0
	for _, p := range s.peers {
		switch {
		case p.Epoch == s.self, p.Waiting && !p.Draining:
		case p.Draining:
			moving += p.Sessions
		default:
			takers++
			held += p.Sessions
		}
	}
	switch {
	case s.blind > blindAfter:
		return true, moving, "the store cannot be asked"
	case float64(moving) <= float64(c.DrainMaxReconnectsPerSecond)*movesAhead.Seconds():
		return true, moving, "few clients are on the move"
	case takers == 0:
		return true, moving, "no other gateway takes clients"
	case float64(held) > nearlyFull*float64(takers)*float64(c.MaxConnections):
		return true, moving, "the other gateways are nearly full"
	case s.waited >= c.DrainWindow+startSlack:
		return true, moving, "the drain window has passed"
	}
	return false, moving, ""
}

// awaitStart holds the readiness back as long as it has to be, and then makes the gateway ready for good. It returns early
// when ctx ends.
func (g *Gateway) awaitStart(ctx context.Context, member membership) {
	tick := time.NewTicker(startStep)
	defer tick.Stop()
	begin := time.Now()
	var logged time.Time
	for {
		ok, moving, why := g.cfg.mayStart(standing{
			peers: member.Peers(), self: member.Epoch(), blind: time.Since(member.Seen()), waited: time.Since(begin)})
		if ok {
			g.heldBy.Store(0)
			g.wasReady.Store(true)
			g.cfg.Logger.Info("ready", "because", why, "waited", time.Since(begin).Round(time.Millisecond).String())
			if err := member.SetServing(ctx); err != nil && ctx.Err() == nil {
				g.cfg.Logger.Warn("telling the other gateways of being ready", "error", err)
			}
			return
		}
		g.heldBy.Store(int64(moving))
		if time.Since(logged) >= startLog {
			logged = time.Now()
			g.cfg.Logger.Info("not ready yet: too many clients of draining gateways are still to be moved", "moving", moving,
				"most", int(float64(g.cfg.DrainMaxReconnectsPerSecond)*movesAhead.Seconds()))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// unready says why the gateway is not ready.
func (g *Gateway) unready() string {
	switch n := g.heldBy.Load(); {
	case g.leaving.Load():
		return "draining"
	case g.member.Load() == nil:
		return "not joined yet"
	default:
		return fmt.Sprintf("waits: %d sessions of draining gateways are still to be moved", n)
	}
}
