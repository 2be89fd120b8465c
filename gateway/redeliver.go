package gateway

import (
	"time"

	"github.com/imcluster/imcluster/presence/store"
)

// maxRedeliveries is how often a connection is sent again what it does not acknowledge. The next login starts anew.
const maxRedeliveries = 5

// redeliveryDelayLocked is how long the client may acknowledge nothing until it is sent all of it again: twice as long each
// time.
func (c *conn) redeliveryDelayLocked() time.Duration {
	return c.g.cfg.RedeliveryDelay << min(c.redelivered, maxRedeliveries-1)
}

// mailDueLocked does what is due for the mail, and returns when it next wants to be called, 0 if not, and what has to be
// done without the mutex.
func (c *conn) mailDueLocked(now time.Duration) (next time.Duration, flush func()) {
	m := c.mail
	if m == nil || c.state != stateOpen {
		return 0, nil
	}
	if m.flushAt != 0 && now >= m.flushAt {
		m.flushAt = 0
		if !m.flushing {
			flush = c.flushLocked()
		}
	}
	if m.retryAt != 0 && now >= m.retryAt {
		m.retryAt = 0
		c.readOnLocked(false)
	}
	if m.redeliverAt != 0 && now >= m.redeliverAt {
		c.redeliverLocked(now)
	}
	for _, at := range []time.Duration{m.flushAt, m.retryAt, m.redeliverAt} {
		if at != 0 && (next == 0 || at < next) {
			next = at
		}
	}
	if next != 0 {
		next = max(next-now, 1)
	}
	c.settleMailLocked()
	return next, flush
}

// redeliverLocked begins to send again what the client has not acknowledged.
func (c *conn) redeliverLocked(now time.Duration) {
	m := c.mail
	m.redeliverAt = 0
	behind := c.behindLocked()
	switch {
	case m.open() == 0:
		return
	case c.outBytes > 0: // the client does not even read
		m.redeliverAt = now + c.redeliveryDelayLocked()
		return
	case c.redelivered < maxRedeliveries:
		c.redelivered++
		m.again, m.last = m.entries[m.head].seq, m.entries[len(m.entries)-1].seq
	case behind: // only to see whether what was never acknowledged is still there, and keeps newer ones from being sent
		m.again, m.last = m.entries[m.head].seq, 0
	default:
		return
	}
	m.redeliverAt = now + c.redeliveryDelayLocked()
	if !m.reading {
		m.reading = true
		c.g.mailboxes.read(c)
	}
}

// sendAgainLocked sends a page of what the client has not acknowledged.
func (c *conn) sendAgainLocked(page *store.Mail) {
	m := c.mail
	from := m.again
	m.skip(from, page.First)
	m.again = 0
	i := m.head
	for k := range page.Records {
		r, seq := &page.Records[k], page.First+uint64(k)
		if seq < from || seq > m.last {
			continue
		}
		for i < len(m.entries) && m.entries[i].seq < seq {
			i++
		}
		if i == len(m.entries) {
			return
		}
		if e := &m.entries[i]; e.seq != seq || e.acked || e.id != r.ID {
			continue
		}
		f, err := (&letter{id: r.ID, data: r.Data}).frame(c.user)
		if err != nil {
			continue
		}
		if c.outBytes > c.g.cfg.MaxQueuedBytes/2 {
			return // the client does not read; later
		}
		f.Redelivered = true
		c.pushLocked(outFrame, c.g.encode(c.codec, &f))
		c.g.metrics.redelivered.Add(1)
	}
	if end := page.First + uint64(len(page.Records)); len(page.Records) > 0 && end <= m.last && end <= page.Tail {
		m.again = end
	}
}
