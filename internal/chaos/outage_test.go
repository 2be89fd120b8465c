package chaos

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/imcluster/imcluster/internal/chaos/check"
)

// crowd is users who chat with each other at a steady rate.
type crowd struct {
	t   *testing.T
	w   *World
	r   *run
	all []Device
}

// newCrowd starts a world for n users.
func newCrowd(t *testing.T, cfg WorldConfig, n int) *crowd {
	t.Helper()
	cfg.Program = gatewayProgram(t)
	w := NewWorld(t, cfg)
	c := &crowd{t: t, w: w, r: w.newRun(t.Context(), Schedule{Users: n + 1}, check.Options{AckTime: ackTime})}
	t.Cleanup(c.r.end)
	if err := c.r.setUp(); err != nil {
		t.Fatal(err)
	}
	return c
}

// gather starts a world and logs n users in.
func gather(t *testing.T, cfg WorldConfig, n int) *crowd {
	t.Helper()
	c := newCrowd(t, cfg, n)
	for u := range n {
		c.all = append(c.all, Device{User: u})
		c.r.login(c.all[u], u)
	}
	if !c.r.until(c.r.patience(), c.here) {
		t.Fatal("not everybody could log in")
	}
	return c
}

func (c *crowd) here() bool {
	return !slices.ContainsFunc(c.all, func(d Device) bool { return c.r.client(d) == nil })
}

// chat has everybody send a message to somebody every so often, until done.
func (c *crowd) chat(every time.Duration, done func() bool) {
	for !done() {
		for _, d := range c.all {
			if to := rand.IntN(len(c.all)); to != d.User {
				c.r.step(Step{Verb: SendTo, Dev: d, To: to, N: 1})
			}
			c.r.wait(every / time.Duration(len(c.all)))
		}
	}
}

// judge settles and checks what happened.
func (c *crowd) judge() {
	c.t.Helper()
	result := c.r.result(c.r.settle())
	accepted := 0
	for _, e := range result.History {
		if e.Kind == check.Answered && e.Code == 200 {
			accepted++
		}
	}
	c.t.Logf("%d messages, %d accepted, %d events", c.r.count, accepted, len(result.History))
	if result.Failed() {
		report(c.t, c.w, c.r.schedule, result)
	}
}

// closed lists the connections that have ended so far, but for that which created the group.
func (c *crowd) closed() (list []string) {
	for _, e := range c.r.rec.history() {
		if e.Kind == check.Closed && e.Device == "d0" {
			list = append(list, e.String())
		}
	}
	return list
}

// after returns a condition that becomes true after some time.
func after(d time.Duration) func() bool {
	end := time.Now().Add(d)
	return func() bool { return time.Now().After(end) }
}

// outage is how long Redis is away: twice as long as the default lease.
const outage = 30 * time.Second

// TestRedisOutageUnderLoad: no connection is dropped, nothing is accepted that is not stored, and everything accepted
// arrives.
func TestRedisOutageUnderLoad(t *testing.T) {
	for _, verb := range []Verb{PauseRedis, KillRedis} {
		t.Run(string(verb), func(t *testing.T) {
			t.Parallel()
			c := gather(t, WorldConfig{Gateways: 2, Redis: StartDurable(t)}, 12)
			c.chat(300*time.Millisecond, after(time.Second))
			c.w.do(Step{Verb: verb, For: outage})
			c.chat(300*time.Millisecond, after(outage+2*time.Second))
			if list := c.closed(); len(list) > 0 {
				t.Errorf("connections were closed: %q", list)
			}
			c.judge()
		})
	}
}

// TestGatewayDiesRightAfterItAccepted: its pushes may never have left it. The recipients, who are connected elsewhere and
// silent, get the messages when its death is noticed.
func TestGatewayDiesRightAfterItAccepted(t *testing.T) {
	t.Parallel()
	const users = 12
	c := newCrowd(t, WorldConfig{Gateways: 2, Redis: StartDurable(t)}, users)
	var idle []Device
	for u := range users {
		idle = append(idle, Device{User: u})
	}
	for round := range 4 {
		sender := Device{User: users, Device: round}
		// The gateway in slot 0 dies every time.
		ready := func() bool {
			all := true
			for _, d := range idle {
				all = c.connectedAt(d, 1) && all
			}
			return c.connectedAt(sender, 0) && all
		}
		if !c.r.until(c.r.patience(), ready) {
			t.Fatal("not everybody could log in")
		}
		p, killed := c.w.slots[0].process(), make(chan struct{})
		c.r.client(sender).setOnFrame(func(_ *client, f *frame) {
			if f.Type == tChatResp && f.Code == 200 {
				select {
				case <-killed:
				default:
					c.w.record(check.GatewayHit, p.Label)
					p.Kill()
					close(killed)
				}
			}
		})
		for range 3 {
			for _, d := range idle {
				c.r.step(Step{Verb: SendTo, Dev: sender, To: d.User, N: 1})
			}
		}
		select {
		case <-killed:
		case <-time.After(c.r.patience()):
			report(t, c.w, c.r.schedule, c.r.result(errors.New("nothing was accepted")))
			return
		}
		begun := time.Now()
		if !c.r.until(c.r.patience(), func() bool { return len(c.missing()) == 0 }) {
			t.Errorf("not delivered in time: %v", c.missing())
		}
		t.Logf("all arrived %v after the death", time.Since(begun))
		c.w.start(c.w.slots[0], true)
	}
	c.judge()
}

// missing lists what has not arrived, but at the device that created the group and is away.
func (c *crowd) missing() []check.Pending {
	away := fmt.Sprintf("d%d", ownersDevice)
	return slices.DeleteFunc(check.Missing(c.r.rec.history(), c.r.opts), func(p check.Pending) bool { return p.Device == away })
}

// connectedAt is run.connected at one gateway only.
func (c *crowd) connectedAt(d Device, gateway int) bool {
	there, coming := c.r.whereabouts(d)
	if !there && !coming {
		c.r.login(d, gateway)
	}
	return there
}

// TestRollingRestartUnderLoad: every gateway is replaced while all users chat. Nobody is cut off, but asked to move, and
// everything arrives.
func TestRollingRestartUnderLoad(t *testing.T) {
	t.Parallel()
	const users = 200
	c := gather(t, WorldConfig{Gateways: 3, Redis: StartDurable(t), Args: []string{"--drain-window=10s", "--drain-max-reconnects-per-second=100"}}, users)
	c.r.obey = time.Minute
	const every = 500 * time.Millisecond
	for slot := range 3 {
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.w.doGateway(c.w.slots[slot], Step{Verb: DrainGateway})
		}()
		c.chat(every, func() bool {
			select {
			case <-done:
				return true
			default:
				return false
			}
		})
		if !c.r.until(c.r.patience(), c.here) {
			t.Fatalf("not everybody is back after restart %d", slot)
		}
	}
	for _, e := range c.r.rec.history() {
		if e.Kind == check.Closed && e.Code != 4502 && e.Code != 1000 && e.Code != 4304 {
			t.Errorf("closed: %v", e)
		}
	}
	t.Logf("%d connections in all", len(c.r.all))
	c.judge()
}
