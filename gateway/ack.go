package gateway

import (
	"time"

	"github.com/imcluster/imcluster/api/wire"
)

const (
	// ackDelay is how long an acknowledgement waits for others before the cursor is written: with the steps of the wheel
	// 200 ms at most. If the gateway dies meanwhile, the messages come again.
	ackDelay = 50 * time.Millisecond
	// maxUnflushed is how many acknowledgements wait at most.
	maxUnflushed = 64
	// ackRetry is how long a cursor waits that the store did not take.
	ackRetry = time.Second
)

// ack handles ACK: the client has a message, which is not sent again. One that is not known here any more is acknowledged
// already, or comes again.
func (c *conn) ack(fr *wire.Frame, size int) {
	if id, ok := rawID(fr.MsgID); ok {
		c.mu.Lock()
		known := c.ackLocked(id)
		flush := c.flushDueLocked()
		c.mu.Unlock()
		if flush != nil {
			flush()
		}
		if known {
			c.refund(size)
		}
	}
	c.send(&wire.Frame{Type: wire.TypeAckResp, Code: wire.CodeOK, MsgID: fr.MsgID})
}

// ackLocked notes that a message is acknowledged. It returns false if it was not waited for.
//
// The client may acknowledge in any order; the cursor moves over what is acknowledged without a gap.
func (c *conn) ackLocked(id messageID) bool {
	m := c.mail
	if m == nil || c.state != stateOpen {
		return false
	}
	found := false
	for i := m.head; i < len(m.entries) && !found; i++ {
		if e := &m.entries[i]; e.id == id && !e.acked {
			e.acked, found = true, true
		}
	}
	if !found {
		acked, sent := m.before[id]
		if sent && !acked {
			m.before[id] = true // it is passed over when it is read under its new number
		}
		return sent && !acked
	}
	m.unflushed++
	c.moveCursorLocked()
	c.readOnLocked(false)
	return true
}

// moveCursorLocked moves the cursor over what is acknowledged.
func (c *conn) moveCursorLocked() {
	m := c.mail
	for m.open() > 0 && m.entries[m.head].acked {
		m.cursor = m.pop().seq
		m.redeliverAt = c.g.wheel.Now() + c.redeliveryDelayLocked()
	}
}

// flushDueLocked returns how to write the cursor if that is due, and otherwise sees to it that it is written soon.
func (c *conn) flushDueLocked() func() {
	m := c.mail
	switch {
	case m == nil || m.cursor == m.flushed || m.flushing:
		return nil
	case m.unflushed >= maxUnflushed || c.moving:
		return c.flushLocked()
	case m.flushAt == 0:
		m.flushAt = c.g.wheel.Now() + ackDelay
		c.g.wheel.Sooner(&c.timer, ackDelay, c)
	}
	return nil
}

// flushLocked returns how to write the cursor, nil if it is written. At the end of a session it is written even if an
// earlier one is on its way: the store keeps their order.
func (c *conn) flushLocked() func() {
	m := c.mail
	if m == nil || m.cursor == m.flushed {
		return nil
	}
	session, seq, before := c.sessionLocked(), m.cursor, m.flushed
	m.flushing, m.flushed, m.flushAt = true, seq, 0
	c.g.metrics.acks.Add(int64(m.unflushed))
	c.g.metrics.ackFlushes.Add(1)
	m.unflushed = 0
	member := c.g.registry()
	return func() { member.Ack(session, seq, func(err error) { c.cursorWritten(m, before, err) }) }
}

// cursorWritten is called when a cursor was written, or not.
func (c *conn) cursorWritten(m *mail, before uint64, err error) {
	c.mu.Lock()
	if c.mail != m { // the session has ended
		c.mu.Unlock()
		return
	}
	m.flushing = false
	if err != nil {
		m.flushed = before
		m.flushAt = c.g.wheel.Now() + ackRetry
		c.g.wheel.Sooner(&c.timer, ackRetry, c)
	}
	var flush func()
	if err == nil {
		flush = c.flushDueLocked()
		c.settleMailLocked()
	}
	c.mu.Unlock()
	if flush != nil {
		flush()
	}
}

// endMailLocked ends the delivery to a session. It returns how to write what the client acknowledged, before anything else
// of the session's end is written; nil if that is written.
func (c *conn) endMailLocked() func() {
	flush := c.flushLocked()
	c.mail = nil // whoever still has it finds that it is not the session's any more
	return flush
}
