package gateway

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/presence/store"
)

const (
	// reconnectDelayLow and reconnectDelayHigh bound the delay that a client is asked to wait before it reconnects. The
	// requests themselves are spread over time, so it only has to blur their beat.
	reconnectDelayLow  = 100 * time.Millisecond
	reconnectDelayHigh = 500 * time.Millisecond
	// stayTimeout is how long after its delay a client that was asked to reconnect may stay.
	stayTimeout = 5 * time.Second
	// aloneTimeout is how long nobody else must be seen before that is believed: the lease table is read once a second.
	aloneTimeout = 1500 * time.Millisecond
	// paceStep is how often a drain hands out requests when the rate is high.
	paceStep = 10 * time.Millisecond
)

// drain moves all clients to other gateways: it returns when none is left, or the window is over, or joined reports that
// the membership failed. What is left is closed by the caller.
//
//	ready → not ready: nobody is sent here any more → no logins → clients are asked to reconnect, a few at a time → gone
func (g *Gateway) drain(ctx context.Context, joined chan error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.cfg.ShutdownDelay+g.cfg.DrainWindow)
	defer cancel()
	g.leaving.Store(true)
	g.cfg.Logger.Info("draining", "connections", g.connections(), "window", g.cfg.DrainWindow.String())
	member := g.member.Load()
	if member == nil {
		return
	}
	// At once, so that other gateways that stop now share the rate, and do not count on this one.
	if err := (*member).SetDraining(ctx); err != nil {
		g.cfg.Logger.Warn("marking the lease as draining", "error", err)
	}
	failed := make(chan struct{})
	go func() { // hands the result on to the caller
		select {
		case err := <-joined:
			joined <- err
			close(failed)
		case <-ctx.Done():
		}
	}()
	if !pause(ctx, failed, g.cfg.ShutdownDelay) {
		return
	}
	g.draining.Store(true)
	g.clients.Close()
	g.closeNotLoggedIn()
	g.moveAll(ctx, failed, *member)
}

// pause waits. It returns false if the drain is over instead.
func pause(ctx context.Context, failed <-chan struct{}, d time.Duration) bool {
	select {
	case <-time.After(d):
		return ctx.Err() == nil
	case <-failed:
	case <-ctx.Done():
	}
	return false
}

func (g *Gateway) closeNotLoggedIn() {
	for _, c := range g.all() {
		c.mu.Lock()
		state := c.state
		c.mu.Unlock()
		if state == stateNew {
			c.close(reasonStopped)
		}
	}
}

// moveAll asks the clients to reconnect, at the rate that is this gateway's share, and waits until they have left.
func (g *Gateway) moveAll(ctx context.Context, failed <-chan struct{}, member membership) {
	waiting := g.all()
	rand.Shuffle(len(waiting), func(i, j int) { waiting[i], waiting[j] = waiting[j], waiting[i] })
	credit := 0.0
	accompanied := time.Now() // when another gateway was seen
	for {
		n := g.connections()
		if n == 0 {
			return
		}
		takers, starting, share := drainShare(member.Peers(), member.Epoch(), g.cfg.DrainMaxReconnectsPerSecond)
		if takers+starting > 0 {
			accompanied = time.Now()
		} else if time.Since(accompanied) > aloneTimeout {
			g.cfg.Logger.Warn("no other gateway takes clients: closing all at once", "connections", n)
			return
		}
		// One request per step at low rates, several at high ones; the step is jittered by a half.
		step := min(max(time.Duration(float64(time.Second)/share), paceStep), time.Second)
		step = step/2 + rand.N(step)
		if !pause(ctx, failed, step) {
			return
		}
		if takers == 0 {
			continue
		}
		credit = min(credit+share*step.Seconds(), max(share/4, 1))
		for ; credit >= 1 && len(waiting) > 0; waiting = waiting[1:] {
			if waiting[0].move() {
				credit--
			}
		}
	}
}

// drainShare returns how many other gateways take clients, how many will do so soon, and how many clients this one may move
// a second.
func drainShare(peers []store.Peer, self store.Epoch, rate int) (takers, starting int, share float64) {
	draining := 1
	for _, p := range peers {
		switch {
		case p.Epoch == self:
		case p.Draining:
			draining++
		case p.Waiting:
			starting++
		default:
			takers++
		}
	}
	return takers, starting, float64(rate) / float64(draining)
}

// move asks the client to reconnect elsewhere. It returns false if there is nobody to ask.
func (c *conn) move() bool {
	ms := between(reconnectDelayLow, reconnectDelayHigh)
	c.mu.Lock()
	if c.closing != reasonNone || c.moving {
		c.mu.Unlock()
		return false
	}
	c.moving = true // from now on acknowledgements are written at once
	flush := c.flushDueLocked()
	c.leaveBy = c.g.wheel.Now() + time.Duration(ms)*time.Millisecond + stayTimeout
	c.g.wheel.Schedule(&c.timer, 0, c)
	c.mu.Unlock()
	if flush != nil {
		flush()
	}
	c.send(&wire.Frame{Type: wire.TypeReconnect, Code: wire.CodeDraining, DelayMS: ms,
		Message: "this gateway is going away; connect again after delayMs"})
	return true
}
