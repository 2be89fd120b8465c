package gateway

import (
	"bytes"
	"sync"
	"time"

	"github.com/imcluster/imcluster/presence/store"
)

const (
	// maxEarly and maxEarlyBytes are how many pushes, of how many bytes, are kept that came before their turn. What exceeds
	// them is read from the mailbox.
	maxEarly      = 32
	maxEarlyBytes = 64 << 10
	// entryOverhead is what an unacknowledged message takes of the window besides its bytes.
	entryOverhead = 128
)

// mail is what a session keeps while messages are on their way to it. Idle sessions have none. Guarded by conn.mu.
//
// Redis has the truth: the mailbox, a list of messages with dense numbers, and a cursor for each device, below which all is
// acknowledged. A session has next, the number of the first message that it was not sent, and learns from pushes (and from
// sweeps, when pushes may have been lost) how far the mailbox goes. A push with number next is sent on; whenever the
// mailbox goes further than that, it is read. So a message is sent in order, and never skipped.
type mail struct {
	tail   uint64 // the newest message that is known of; 0: none
	raised bool   // tail has grown since the last read began
	missed int    // how many messages were dropped before the next one
	need   int    // bytes of the window that the next message takes, if it was found to be too large

	// What was sent and is not acknowledged, oldest first, acknowledged ones between others included: entries[head:].
	entries []entry
	head    int
	bytes   int // of the entries, overhead included

	cursor    uint64        // all up to here is acknowledged; 0: nothing yet
	flushed   uint64        // the cursor that the store was told
	unflushed int           // acknowledgements since then
	flushing  bool          // the store is being told
	flushAt   time.Duration // wheel time; 0: not scheduled

	early []early // by number

	// before are the messages that were sent under other numbers, and whether they are acknowledged: Redis has lost what it
	// had last, and gives out new numbers. Nil unless that has happened.
	before map[messageID]bool

	reading     bool          // in the queue of the mailboxes to read
	gap         bool          // a read begins soon, unless what is missing comes
	retryAt     time.Duration // wheel time when a read that failed is tried again; 0: none did
	redeliverAt time.Duration // wheel time; 0: not scheduled
	again, last uint64        // what is being sent again: from number again to last; again is 0 if nothing is
}

// entry is a message that was sent.
type entry struct {
	id    messageID
	seq   uint64
	size  uint32
	acked bool
}

// early is a push that came before its turn.
type early struct {
	seq  uint64
	id   messageID
	data []byte
}

var mails = sync.Pool{New: func() any { return new(mail) }}

// mailLocked returns the mail state, a fresh one if there is none.
func (c *conn) mailLocked() *mail {
	if c.mail == nil {
		c.mail = mails.Get().(*mail)
	}
	return c.mail
}

// openMailLocked begins the delivery to a session that has just been registered. Pushes that came meanwhile have told how
// far the mailbox goes.
func (c *conn) openMailLocked(login *store.Login) {
	c.nextSeq = login.Next
	if login.Missed > 0 || (login.Tail > 0 && login.Tail >= login.Next) {
		c.mailLocked().missed = login.Missed
		c.raiseTailLocked(login.Tail)
	}
	c.readOnLocked(false)
	c.settleMailLocked()
}

// behindLocked tells whether the mailbox goes further than what was sent. There is a mail state.
func (c *conn) behindLocked() bool { return c.mail.tail > 0 && c.mail.tail >= c.nextSeq }

// settleMailLocked lets go of the mail state if there is nothing to keep.
func (c *conn) settleMailLocked() {
	m := c.mail
	if m != nil && m.retryAt == 0 && m.missed == 0 && m.open() == 0 && len(m.early) == 0 && m.cursor == m.flushed && !c.behindLocked() {
		c.dropMailLocked()
	}
}

// dropMailLocked lets go of the mail state, unless somebody still needs it.
func (c *conn) dropMailLocked() {
	m := c.mail
	if m == nil || m.reading || m.gap || m.flushing {
		return
	}
	c.mail = nil
	clear(m.early)
	entries, early := m.entries[:0], m.early[:0]
	if cap(entries) > maxUnflushed {
		entries = nil
	}
	*m = mail{entries: entries, early: early}
	mails.Put(m)
}

// open is the number of messages that were sent and are not acknowledged, those between others included.
func (m *mail) open() int { return len(m.entries) - m.head }

func (m *mail) add(e entry) {
	if len(m.entries) == cap(m.entries) && m.head > 0 { // make room at the end instead of growing
		n := copy(m.entries, m.entries[m.head:])
		m.entries, m.head = m.entries[:n], 0
	}
	m.entries = append(m.entries, e)
	m.bytes += int(e.size)
}

// pop removes the oldest entry.
func (m *mail) pop() entry {
	e := m.entries[m.head]
	m.bytes -= int(e.size)
	if m.head++; m.head == len(m.entries) {
		m.entries, m.head = m.entries[:0], 0
	}
	return e
}

// leap is by how much more than by the messages that it holds the numbers of a mailbox grow at least when it is renumbered:
// by a million from the oldest one. So many messages are hardly ever dropped at once; and if they are, what follows only
// costs memory.
const leap = 500_000

// skip takes note that the mailbox goes on with number first instead of from: what lies between was dropped, or the mailbox
// was renumbered, and what was sent has other numbers now.
func (m *mail) skip(from, first uint64) {
	switch {
	case first <= from:
		return
	case first < from+leap:
		m.dropBelow(first)
		return
	}
	if m.before == nil {
		m.before = map[messageID]bool{}
	}
	for m.open() > 0 {
		e := m.pop()
		m.before[e.id] = e.acked
	}
}

// dropBelow forgets what is not in the mailbox any more, because it was dropped there: all before the number first.
func (m *mail) dropBelow(first uint64) {
	for m.open() > 0 && m.entries[m.head].seq < first {
		m.pop()
	}
}

// windowLocked returns how many more messages, of how many bytes, may be sent before the client has to acknowledge some:
// not more than a mailbox holds, and than half of what may wait to be written.
func (c *conn) windowLocked() (messages, bytes int) {
	cfg, m := &c.g.cfg, c.mail
	return cfg.Store.Mailbox.MaxMessages - m.open(), min(cfg.Store.Mailbox.MaxBytes, cfg.MaxQueuedBytes/2) - m.bytes
}

// hand is a push: the message with a number of the user's mailbox, for one connection. A nil message tells only that the
// mailbox goes as far as seq.
func (c *conn) hand(user string, id, seq uint64, msg *letter) {
	c.mu.Lock()
	if c.user != user || c.id != id || seq < c.nextSeq || !c.raiseTailLocked(seq) {
		c.mu.Unlock()
		return
	}
	ahead := seq - c.nextSeq
	switch {
	case msg != nil && ahead == 0 && c.sendNextLocked(seq, msg):
		c.sendEarlyLocked()
	case msg != nil && ahead > 0:
		c.mail.keepEarly(early{seq, msg.id, msg.data})
	}
	// What is missing may still come by itself, unless the numbers leap: the mailbox is new, or was numbered anew.
	c.readOnLocked(msg != nil && ahead < maxEarly)
	c.writeAndUnlock()
}

// keepEarly keeps a push until its turn, unless too much is kept already: by a client that acknowledges nothing it never comes.
func (m *mail) keepEarly(e early) {
	size := len(e.data)
	for _, o := range m.early {
		size += len(o.data)
	}
	if len(m.early) < maxEarly && size <= maxEarlyBytes {
		e.data = bytes.Clone(e.data) // it may be part of much that came together
		m.early = append(m.early, e)
	}
}

// raiseTailLocked takes note of how far the mailbox goes. It returns false if nothing is to be done about it now: then the
// login that is under way does.
func (c *conn) raiseTailLocked(seq uint64) bool {
	if c.closing != reasonNone || (c.state != stateOpen && c.state != stateLogin) {
		return false
	}
	if m := c.mailLocked(); seq > m.tail {
		m.tail, m.raised = seq, true
	}
	return c.state == stateOpen
}

// writeAndUnlock releases the mutex and has what was queued written.
func (c *conn) writeAndUnlock() {
	start := c.out != nil && c.claimWriterLocked()
	c.mu.Unlock()
	if start {
		c.g.writers.add(c)
	}
}

// sendNextLocked sends the message with number next. It returns false if the client has to acknowledge others before.
func (c *conn) sendNextLocked(seq uint64, msg *letter) bool {
	m := c.mail
	// The mailbox holds no more than MaxMessages: so much is sure without reading it.
	m.dropBelow(seq + 1 - min(seq, uint64(c.g.cfg.Store.Mailbox.MaxMessages)))
	size := len(msg.data) + entryOverhead
	if messages, bytes := c.windowLocked(); messages <= 0 || (bytes < size && m.open() > 0) {
		m.need = size
		return false
	}
	c.nextSeq, m.need = seq+1, 0
	acked, again := m.before[msg.id]
	if acked {
		m.add(entry{id: msg.id, seq: seq, size: uint32(size), acked: true})
		c.moveCursorLocked()
		return true
	}
	data := c.encodeMailLocked(msg, again)
	if data == nil {
		c.g.cfg.Logger.Error("a stored message cannot be read, and is passed over", "seq", seq)
		return true
	}
	c.pushLocked(outFrame, data)
	c.g.metrics.delivered.Add(1)
	m.add(entry{id: msg.id, seq: seq, size: uint32(size)})
	if m.redeliverAt == 0 {
		m.redeliverAt = c.g.wheel.Now() + c.redeliveryDelayLocked()
		c.g.wheel.Sooner(&c.timer, c.redeliveryDelayLocked(), c)
	}
	return true
}

// encodeMailLocked encodes the next message, which tells how many are missing before it, and whether it was sent before.
func (c *conn) encodeMailLocked(msg *letter, again bool) []byte {
	m := c.mail
	if m.missed == 0 && !again {
		return msg.encoded(c.g, c.codec, c.user)
	}
	f, err := msg.frame(c.user)
	if err != nil {
		return nil
	}
	f.Missed, f.Redelivered = int64(m.missed), again
	c.g.metrics.missed.Add(f.Missed)
	m.missed = 0
	return c.g.encode(c.codec, &f)
}

// sendEarlyLocked sends the pushes whose turn has come.
func (c *conn) sendEarlyLocked() {
	m := c.mail
	for i := 0; i < len(m.early); {
		e := m.early[i]
		if e.seq > c.nextSeq || (e.seq == c.nextSeq && !c.sendNextLocked(e.seq, &letter{id: e.id, data: e.data})) {
			i++
			continue
		}
		last := len(m.early) - 1
		m.early[i], m.early[last] = m.early[last], early{}
		m.early = m.early[:last]
		i = 0
	}
}
