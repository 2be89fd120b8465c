package gateway

import (
	"time"

	"github.com/imcluster/imcluster/api/wire"
)

// Expire is the connection's timer. It runs on the wheel's goroutine.
func (c *conn) Expire() {
	c.mu.Lock()
	if c.state == stateLost {
		// The connection may have been lost while this call, of an earlier time-out, was on its way.
		if left := c.g.cfg.Store.Grace - time.Since(c.lostAt); left > 0 {
			c.g.wheel.Schedule(&c.timer, left, c)
			c.mu.Unlock()
			return
		}
		ended := c.unregisterLocked(c.lostAt, c.closing)
		c.mu.Unlock()
		ended()
		return
	}
	if c.closing != reasonNone {
		c.mu.Unlock()
		return
	}
	due, next := c.dueLocked(c.g.wheel.Now())
	var flush func()
	if due == nil {
		var mail time.Duration
		if mail, flush = c.mailDueLocked(c.g.wheel.Now()); mail != 0 {
			next = min(next, mail)
		}
		c.g.wheel.Schedule(&c.timer, next, c)
	}
	c.mu.Unlock()
	if flush != nil {
		flush()
	}
	if due != nil {
		due()
	}
}

// dueLocked returns what is due now, or how long nothing is. A connection has one timer for all its time-outs.
func (c *conn) dueLocked(now time.Duration) (due func(), next time.Duration) {
	cfg, received := &c.g.cfg, time.Duration(c.heard.Load())
	silent := now - received
	if silent >= cfg.IdleTimeout {
		return c.idle, 0
	}
	next = cfg.IdleTimeout/2 - silent
	if next <= 0 {
		next = cfg.IdleTimeout - silent
		if c.pinged != received {
			c.pinged = received
			c.pushLocked(outPing, nil)
			if c.claimWriterLocked() {
				c.g.writers.add(c)
			}
		}
	}
	if c.state == stateNew {
		if now >= c.loginBy {
			return c.loginTimeout, 0
		}
		next = min(next, c.loginBy-now)
	}
	if c.leaveBy != 0 {
		if now >= c.leaveBy {
			return func() { c.close(reasonStayed) }, 0
		}
		next = min(next, c.leaveBy-now)
	}
	if end := c.token.end(); !end.IsZero() {
		left := time.Until(end)
		if left <= 0 {
			return c.tokenExpired, 0
		}
		next = min(next, left)
	}
	return nil, next
}

func (c *conn) idle() {
	c.close(reasonIdle, wire.Frame{Type: wire.TypeHeartbeatTimeout, Code: wire.CodeIdle,
		Message: "nothing was received for " + c.g.cfg.IdleTimeout.String()})
}

func (c *conn) loginTimeout() {
	answer := refusal(wire.TypeUnknown, nil, wire.Errorf(wire.CodeLoginRequired, "no login within %v", c.g.cfg.LoginTimeout))
	c.close(reasonLoginTimeout, answer)
}

func (c *conn) tokenExpired() {
	c.close(reasonTokenExpired, refusal(wire.TypeUnknown, nil,
		wire.Errorf(wire.CodeTokenExpired, "the token has expired; connect again with a fresh one")))
}
