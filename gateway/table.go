package gateway

import (
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/imcluster/imcluster/presence/store"
)

// table holds the sessions of this gateway: connections that are logged in or logging in, and those in their grace. It is
// split by the store's partitions, because the store re-registers sessions by partition after a data loss.
//
// Locks are taken in the order conn.mu, shard.mu.
type table struct {
	shards [store.Partitions]shard
	count  atomic.Int64
}

type shard struct {
	mu       sync.Mutex
	sessions map[uint64]*conn // by session id
}

func (t *table) add(c *conn, user string, id uint64) {
	s := &t.shards[store.Partition(user)]
	s.mu.Lock()
	if s.sessions == nil {
		s.sessions = map[uint64]*conn{}
	}
	s.sessions[id] = c
	s.mu.Unlock()
	t.count.Add(1)
}

func (t *table) remove(user string, id uint64) {
	s := &t.shards[store.Partition(user)]
	s.mu.Lock()
	if _, ok := s.sessions[id]; ok {
		delete(s.sessions, id)
		t.count.Add(-1)
	}
	s.mu.Unlock()
}

// get returns the connection of a user's session, nil if it is not here. Ids name connections of this process only, so
// the user is checked by the caller, under the connection's mutex.
func (t *table) get(user string, id uint64) *conn {
	s := &t.shards[store.Partition(user)]
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[id]
}

// partition returns the connections of a partition.
func (t *table) partition(p int) []*conn {
	s := &t.shards[p]
	s.mu.Lock()
	defer s.mu.Unlock()
	conns := make([]*conn, 0, len(s.sessions))
	for _, c := range s.sessions {
		conns = append(conns, c)
	}
	return conns
}

// local is what the store sees of the gateway. It implements [store.Local].
type local struct{ g *Gateway }

// Sessions yields the registered sessions of a partition.
func (l local) Sessions(partition int) iter.Seq[store.Session] {
	return func(yield func(store.Session) bool) {
		for _, c := range l.g.table.partition(partition) {
			if s, ok := c.registered(); ok && !yield(s) {
				return
			}
		}
	}
}

// Count is the number of sessions.
func (l local) Count() int { return int(l.g.table.count.Load()) }

// catchUpTime is how long a gateway that was stopped may take to read what came meanwhile.
const catchUpTime = 200 * time.Millisecond

// Fenced gives up the sessions whose connection is lost, once it is known which are: their users may have left by another gateway
// since, and would be shown online for another grace.
func (l local) Fenced() {
	select {
	case <-time.After(catchUpTime):
	case <-l.g.ctx.Done():
		return
	}
	for p := range store.Partitions {
		for _, c := range l.g.table.partition(p) {
			c.giveUp()
		}
	}
}

// Suspect has the mailboxes of all sessions compared.
func (l local) Suspect(reason string) { l.g.Sweep(reason) }

// Replaced closes a session whose device is connected elsewhere.
func (l local) Replaced(s store.Session) { l.g.kickLocal(s.User, s.Conn) }

// Revoked closes the sessions that a revocation covers.
func (l local) Revoked(r store.Revocation) {
	for _, c := range l.g.table.partition(store.Partition(r.User)) {
		c.revoke(r)
	}
}
