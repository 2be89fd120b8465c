package gateway

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/gateway/cork"
	"github.com/imcluster/imcluster/gateway/wheel"
	"github.com/imcluster/imcluster/presence/store"
)

// sessionState is how far the session of a connection is.
//
//	new → login → open → lost → gone
//	  ↖ refused ↙     ↘──────────↗
type sessionState uint8

const (
	stateNew   sessionState = iota // not logged in
	stateLogin                     // the store is being asked
	stateOpen                      // logged in
	stateLost                      // logged in, the connection is gone, the grace runs
	stateGone                      // ended
)

// conn is one connection and its session. There are as many as clients, so it is kept below 512 bytes.
type conn struct {
	// Fixed after construction.
	g     *Gateway
	ws    *websocket.Conn
	sock  *cork.Conn
	codec wire.Codec // by the sub-protocol that the client asked for
	quota *quota     // nil if nothing is shared with other connections

	// Owned by the reading goroutine.
	reads    uint32 // frames read
	maxFrame int    // size of the largest next frame

	// Owned by the worker that handles the received frames.
	limits   limits
	writes   bool  // the worker is the writer
	attempts uint8 // logins refused because the store was not available

	heard atomic.Int64 // wheel time when something was received

	prev, next *conn // list of all connections; guarded by g.connsMu

	timer wheel.Timer // login, idle, token and drain time-outs, then the grace

	mu       sync.Mutex
	readable sync.Cond // on mu: the queue of received frames has room

	// The session. Guarded by mu.
	state                  sessionState
	moving                 bool // was asked to reconnect elsewhere
	forget                 bool // the device is not to be known any more
	user, device, platform string
	id                     uint64 // of the session, unique within the process
	since                  time.Time
	lostAt                 time.Time
	token                  *tokenFacts   // nil if it says nothing
	status                 *statusFacts  // of the user, as far as this connection knows; nil if nobody has set any
	loginBy                time.Duration // wheel time
	leaveBy                time.Duration // wheel time; zero unless moving
	pinged                 time.Duration // wheel time of the last reception that a ping was sent for; -1: none

	watching *watching // users; nil without a subscription. Guarded by mu

	// The session's mail. Guarded by mu.
	nextSeq     uint64 // number of the first message of the mailbox that was not sent
	mail        *mail  // nil while there is nothing to do
	redelivered uint8  // how often the client was sent again what it had not acknowledged

	// Received frames. Guarded by mu.
	in      []inbound
	inBytes int
	working bool // a worker handles them
	pending int  // messages that wait for the store

	// Frames to send. Guarded by mu.
	out      *[]outbound // of the pool; nil while empty
	outBytes int         // queued or being written
	writing  bool        // somebody writes them
	broken   bool        // nothing can be written any more
	sawEnd   bool        // nothing can be read any more
	closing  closeReason // not reasonNone: the last frame is queued
}

// registered returns the session if it is registered in the store.
func (c *conn) registered() (store.Session, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sessionLocked()
	s.Addr = c.address()
	return s, c.state == stateOpen || c.state == stateLost
}

func (c *conn) sessionLocked() store.Session {
	s := store.Session{User: c.user, Device: c.device, Platform: c.platform, Conn: c.id, Since: c.since, Forget: c.forget}
	if c.status != nil {
		s.Status, s.StatusSet = &c.status.status, c.status.set
	}
	if c.token != nil {
		s.Issued, s.TokenID = c.token.issued, c.token.id
	}
	return s
}

// close sends the frames, closes the connection, and ends its session or starts its grace. Only the first call has an
// effect. It blocks only to confirm the end of a session that the client ended itself.
func (c *conn) close(reason closeReason, frames ...wire.Frame) {
	c.closeWith(reason, reasons[reason].code, frames...)
}

// closeWith is close with a close code other than that of the reason.
func (c *conn) closeWith(reason closeReason, code int, frames ...wire.Frame) {
	c.mu.Lock()
	if c.closing != reasonNone {
		c.mu.Unlock()
		return
	}
	c.closing = reason
	if reason == reasonSlowConsumer {
		c.dropQueueLocked()
		c.sock.Hurry(closeTimeout)
	}
	for i := range frames {
		c.pushLocked(outFrame, c.g.encode(c.codec, &frames[i]))
	}
	user, ended := c.user, c.endSessionLocked(reason)
	c.readable.Signal()
	if ended != nil {
		c.mu.Unlock()
		ended()
		if reason == reasonLogout || reason == reasonClosedByClient {
			c.g.confirmEnd(user)
		}
		c.mu.Lock()
	}
	c.pushLocked(outClose, websocket.FormatCloseMessage(code, ""))
	start := c.claimWriterLocked()
	c.mu.Unlock()

	c.g.metrics.closes[reason].Add(1)
	if start {
		c.g.writers.add(c)
	}
}

// endSessionLocked ends the session because of the connection's end, or starts its grace. It returns what has to be done
// without the mutex. A session that is just being registered is left to login.
func (c *conn) endSessionLocked(reason closeReason) func() {
	if c.state != stateOpen {
		return nil
	}
	switch {
	case reason == reasonReplaced, reason == reasonMoved, reason == reasonLogout, reason == reasonRevoked,
		reason == reasonClosedByClient && !c.moving:
		return c.unregisterLocked(time.Now(), reason)
	default: // the client may come back, to this gateway or another
		flush := c.endMailLocked()
		c.state = stateLost
		c.lostAt = time.Now()
		c.g.wheel.Schedule(&c.timer, c.g.cfg.Store.Grace, c)
		return flush
	}
}

// unregisterLocked ends the session because of reason, with at as the time when the user was last seen. The store leaves a
// session alone that has replaced it.
func (c *conn) unregisterLocked(at time.Time, reason closeReason) func() {
	session, flush := c.sessionLocked(), c.endMailLocked()
	c.state = stateGone
	c.g.wheel.Stop(&c.timer)
	return func() {
		if flush != nil {
			flush()
		}
		c.g.table.remove(session.User, session.Conn)
		(*c.g.member.Load()).Unregister(session, at, reasons[reason].cause) // it registered the session
	}
}

const (
	// confirmTimeout is how long a client that logs out waits for the store.
	confirmTimeout = 2 * time.Second
	// maxConfirms is how many wait at once; the others are closed without. Each holds a goroutine.
	maxConfirms = 1024
)

// confirmEnd waits until the end of a session is in the store, so that whoever reads the close code 1000 finds the device
// offline. A lookup of the user does that: the store does it behind what was unregistered before.
func (g *Gateway) confirmEnd(user string) {
	defer g.confirming.Add(-1)
	if g.confirming.Add(1) > maxConfirms {
		return
	}
	done := make(chan struct{})
	(*g.member.Load()).Locate(user, func([]store.Holder, error) { close(done) })
	timeout := time.NewTimer(confirmTimeout)
	defer timeout.Stop()
	select {
	case <-done:
	case <-timeout.C:
	case <-g.ctx.Done():
	}
}

// giveUp ends the session if its connection is lost, whatever is left of the grace.
func (c *conn) giveUp() {
	c.mu.Lock()
	if c.state != stateLost {
		c.mu.Unlock()
		return
	}
	ended := c.unregisterLocked(c.lostAt, c.closing)
	c.mu.Unlock()
	ended()
}

// kick closes the connection because its device logged in elsewhere. A client that was asked to move has done so.
func (c *conn) kick(user string, id uint64) {
	c.mu.Lock()
	if c.user != user || c.id != id || c.state == stateNew || c.state == stateGone {
		c.mu.Unlock()
		return
	}
	if c.state == stateLost {
		ended := c.unregisterLocked(c.lostAt, reasonReplaced)
		c.mu.Unlock()
		ended()
		return
	}
	moving := c.moving
	c.mu.Unlock()
	if moving {
		c.close(reasonMoved)
		return
	}
	c.close(reasonReplaced, wire.Frame{Type: wire.TypeKicked, Code: wire.CodeReplaced,
		Message: "this device logged in elsewhere; do not reconnect"})
}
