package gateway

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/imcluster/imcluster/presence/store"
)

const (
	// pageMessages and pageBytes bound what is read of a mailbox at once.
	pageMessages = 100
	pageBytes    = 64 << 10
	// maxReaders is how many mailboxes are read at once. Each holds a goroutine.
	maxReaders = 64
	// readTimeout is how long a read may take, and readRetry how long a session waits after one that failed.
	readTimeout = 5 * time.Second
	readRetry   = time.Second
	// gapPatience is how long a session waits for the push that is missing, before it reads the mailbox: two gateways
	// that send to the same user overtake each other all the time.
	gapPatience = 3 * time.Millisecond
	// maxGaps is how many sessions wait so at once; the others read at once.
	maxGaps = 4096
)

// mailboxes are the sessions whose mailbox is to be read, first come first served, a page at a time.
type mailboxes struct {
	g    *Gateway
	gaps chan gap

	mu     sync.Mutex
	queue  []*conn
	active int // workers that read
}

// gap is a session that waits for a push that is missing.
type gap struct {
	c  *conn
	at time.Time // when its patience ends
}

func newMailboxes(g *Gateway) *mailboxes {
	return &mailboxes{g: g, gaps: make(chan gap, maxGaps)}
}

// read queues a session. Its mail.reading is set.
func (b *mailboxes) read(c *conn) {
	b.mu.Lock()
	b.queue = append(b.queue, c)
	start := b.active < maxReaders
	if start {
		b.active++
	}
	b.mu.Unlock()
	if start {
		b.g.workers.run(task{read: b})
	}
}

// work reads until the queue is empty.
func (b *mailboxes) work() {
	for {
		b.mu.Lock()
		if len(b.queue) == 0 {
			b.queue = nil
			b.active--
			b.mu.Unlock()
			return
		}
		c := b.queue[0]
		b.queue[0] = nil
		b.queue = b.queue[1:]
		b.mu.Unlock()
		c.readPage()
	}
}

// watchGaps ends the patience of sessions until ctx ends. All have the same patience, so the channel is in order.
func (b *mailboxes) watchGaps(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case gap := <-b.gaps:
			timer.Reset(time.Until(gap.at))
			select {
			case <-timer.C:
			case <-ctx.Done():
				return
			}
			gap.c.gapOver()
		case <-ctx.Done():
			return
		}
	}
}

// gapOver reads the mailbox if what was missing has not come.
func (c *conn) gapOver() {
	c.mu.Lock()
	if m := c.mail; m != nil && m.gap {
		m.gap = false
		if c.behindLocked() {
			c.g.metrics.gaps.Add(1)
		}
		c.readOnLocked(false)
		c.settleMailLocked()
	}
	c.mu.Unlock()
}

// readOnLocked begins to read the mailbox if it goes further than the session, and the client may be sent more. If what is
// missing may still come by itself, it waits for that first.
func (c *conn) readOnLocked(patient bool) {
	m := c.mail
	if m == nil || m.reading || m.retryAt != 0 || !c.behindLocked() || c.state != stateOpen || c.closing != reasonNone || !c.roomLocked() {
		return
	}
	if patient {
		if m.gap {
			return
		}
		select {
		case c.g.mailboxes.gaps <- gap{c, time.Now().Add(gapPatience)}:
			m.gap = true
			return
		default:
		}
	}
	m.reading = true
	c.g.mailboxes.read(c)
}

// roomLocked tells whether the client has acknowledged so much that a page is worth reading.
func (c *conn) roomLocked() bool {
	if c.mail.open() == 0 {
		return true
	}
	box := &c.g.cfg.Store.Mailbox
	messages, bytes := c.windowLocked()
	return messages >= min(pageMessages, max(1, box.MaxMessages/4)) && bytes >= max(min(pageBytes, box.MaxBytes/4), c.mail.need)
}

var errNoRecords = errors.New("there is nothing where the mailbox should have messages")

// readPage reads a page of the mailbox and sends it.
func (c *conn) readPage() {
	c.mu.Lock()
	m := c.mail
	if m == nil || !m.reading {
		c.mu.Unlock()
		return
	}
	again := m.again != 0
	from, limit := m.again, pageMessages
	if !again {
		messages, _ := c.windowLocked()
		from, limit = c.nextSeq, max(1, min(limit, messages))
	}
	m.raised = false
	user, device := c.user, c.device
	c.mu.Unlock()

	ctx, cancel := context.WithTimeout(c.g.ctx, readTimeout)
	page, err := c.g.registry().Read(ctx, user, device, from, limit, pageBytes)
	cancel()
	c.g.metrics.reads.Add(1)

	c.mu.Lock()
	if c.mail != m { // the session has ended
		c.mu.Unlock()
		return
	}
	m.reading = false
	if err == nil && len(page.Records) == 0 && page.Tail >= max(1, page.First) && page.First <= from {
		err = errNoRecords
	}
	switch {
	case err != nil:
		c.g.logRare.log(c.g.ctx, "reading a mailbox", "error", err)
		m.retryAt = c.g.wheel.Now() + readRetry
		c.g.wheel.Sooner(&c.timer, readRetry, c)
	case again:
		c.sendAgainLocked(&page)
	default:
		c.sendPageLocked(from, &page)
	}
	if m.again != 0 && err == nil {
		m.reading = true
		c.g.mailboxes.read(c)
	}
	c.readOnLocked(false)
	flush := c.flushDueLocked()
	c.settleMailLocked()
	c.writeAndUnlock()
	if flush != nil {
		flush()
	}
}

// sendPageLocked sends what was read from a number on.
func (c *conn) sendPageLocked(from uint64, page *store.Mail) {
	m := c.mail
	m.skip(from, page.First)
	if page.First > c.nextSeq { // what lies between was dropped, but for what was pushed meanwhile
		m.missed += max(0, page.Missed-int(c.nextSeq-from))
		c.nextSeq = page.First
	}
	sent := true
	for i := range page.Records {
		r, seq := &page.Records[i], page.First+uint64(i)
		if seq < c.nextSeq {
			continue
		}
		if sent = c.sendNextLocked(seq, &letter{id: r.ID, data: r.Data}); !sent {
			break
		}
	}
	if !m.raised {
		m.tail = page.Tail
	}
	if sent {
		c.sendEarlyLocked()
	}
}
