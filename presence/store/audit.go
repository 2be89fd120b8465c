package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/imcluster/imcluster/presence/feed"
)

// Redis can lose single writes without losing a generation: a failover to a replica that lagged, or an append-only file
// whose end is missing. A reply can be lost together with the name of the session that it replaced. All of these leave the
// index of our epoch with another number of sessions than we have, which costs one HLEN a partition to see.

// suspicion is after how many looks in a row that differ a partition is compared in full.
const suspicion = 2

// audit returns the partitions whose index differs from our count for longer than writes on their way explain.
func (r *runner) audit(v *look) []int {
	if r.local == nil {
		return nil
	}
	var differ []int
	for p, part := range v.parts {
		if !part.read {
			continue
		}
		if r.lanes.agrees(p, part.sessions) {
			r.suspects[p] = 0
			continue
		}
		if r.suspects[p]++; r.suspects[p] >= suspicion {
			r.suspects[p] = 0
			differ = append(differ, p)
		}
	}
	return differ
}

// agrees tells whether an index has as many sessions as we count, or cannot be compared now because of queued writes.
func (l *lanes) agrees(part, sessions int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := &l.parts[part]
	return q.count == sessions || q.head != nil || q.busy
}

// reconcile compares partitions with the gateway's sessions one by one: what is missing is registered again, if nobody has
// replaced it; what is too much is removed.
func (r *runner) reconcile(ctx context.Context, parts []int) error {
	for _, p := range parts {
		index := read(p, "hkeys", r.lease.Load().index[p])
		if err := r.store.exchange(ctx, index); err != nil {
			return fmt.Errorf("read the session index: %w", err)
		}
		there := map[string]bool{}
		for _, v := range index.list() {
			there[textOf(v)] = true
		}
		sessions := r.lanes.snapshot(p, r.local)
		ours := map[string]Session{} // the newest of each device
		var missing []Session
		for _, s := range sessions {
			e := indexEntry(s.User, s.Device)
			if other, ok := ours[e]; ok && other.Since.After(s.Since) {
				s, other = other, s
				missing = append(missing, other) // it was replaced, which the gateway will hear
			} else if ok {
				missing = append(missing, other)
			}
			ours[e] = s
		}
		present := 0
		for e, s := range ours {
			if there[e] {
				present++
			} else {
				missing = append(missing, s)
			}
		}
		b := &reassertion{}
		n := r.lanes.reassert(p, missing, b, false)
		if err := b.wait(ctx); err != nil {
			return fmt.Errorf("register sessions again: %w", err)
		}
		evicted := 0
		for e := range there {
			if _, ok := ours[e]; !ok {
				evicted++
				r.lanes.evict(p, e)
			}
		}
		r.lanes.addCount(p, present) // those that were registered again are counted
		if n > 0 || evicted > 0 {
			r.store.log.Info("a partition differed from the sessions here", "partition", p, "registered", n-b.replaced,
				"replaced", b.replaced, "unregistered", evicted)
			r.store.metrics.reregistered.Add(ctx, int64(n))
		}
	}
	return nil
}

// evict queues the removal of a session that the gateway does not have.
func (l *lanes) evict(part int, indexed string) {
	user, device, _ := strings.Cut(indexed, "\x00")
	o := newOp(opEvict, part, Session{User: user, Device: device})
	o.endedAt, o.cause = o.queued.UnixMilli(), feed.CauseError
	o.finish = finishUnregister
	l.mu.Lock()
	ok := l.pushLocked(o)
	l.mu.Unlock()
	if !ok {
		o.free()
	}
}

func (l *lanes) addCount(part, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.parts[part].count += n
}
