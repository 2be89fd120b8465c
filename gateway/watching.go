package gateway

import (
	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/gateway/watch"
)

// maxEventUsers is how many users one event tells of; more are told by the next one.
const maxEventUsers = 256

// watching is what a connection has that subscribed to users.
//
// A client gets an event as soon as there is one, unless what it was sent before is still being written. Then only who has
// changed is noted, and told when that is through, by how they are by then: a slow client gets fewer events, not more and more
// old ones.
type watching struct {
	subscriber *watch.Subscriber // fixed
	c          *conn             // fixed

	held bool                      // nothing is told; guarded by conn.mu
	due  map[*watch.Topic]struct{} // who is still to be told of; guarded by conn.mu
}

// watcher returns what the connection watches with, nil if it is closing.
func (c *conn) watcher() *watching {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing != reasonNone {
		return nil
	}
	if c.watching == nil {
		w := &watching{c: c}
		w.subscriber = watch.NewSubscriber(w)
		c.watching = w
	}
	return c.watching
}

// Changed tells the client how users are now. It implements [watch.Sink].
func (w *watching) Changed(b *watch.Batch) {
	c := w.c
	c.mu.Lock()
	if c.closing != reasonNone {
		c.mu.Unlock()
		return
	}
	if w.held || c.writing || b.Len() > maxEventUsers {
		if w.due == nil {
			w.due = make(map[*watch.Topic]struct{}, b.Len())
		}
		b.Topics(w.due)
		c.writeDueAndUnlock(w)
		return
	}
	c.g.metrics.sent[wire.TypePresenceEvent].Add(1)
	c.pushLocked(outFrame, b.Frame(c.codec))
	c.claimWriterLocked() // nobody writes
	c.mu.Unlock()
	c.g.writers.add(c)
}

// writeDueAndUnlock has what is due be written, unless somebody writes, who will see it.
func (c *conn) writeDueAndUnlock(w *watching) {
	start := len(w.due) > 0 && !w.held && c.closing == reasonNone && c.claimWriterLocked()
	c.mu.Unlock()
	if start {
		c.g.writers.add(c)
	}
}

// tellDueLocked queues an event about who is due, for the writer, who is done with what was queued before.
func (c *conn) tellDueLocked() {
	w := c.watching
	if w.held || len(w.due) == 0 || c.closing != reasonNone {
		return
	}
	c.g.metrics.sent[wire.TypePresenceEvent].Add(1)
	c.pushLocked(outFrame, c.g.hub.Frame(c.codec, w.due, maxEventUsers))
	if len(w.due) == 0 {
		w.due = nil
	}
}
