package replica

import (
	"context"
	"time"

	"github.com/imcluster/imcluster/presence/store"
)

// resolveTimeout bounds a question to Redis about watched users.
const resolveTimeout = 2 * time.Second

// resolve has Redis asked about a topic. The caller holds mu.
func (h *hub) resolve(t *topic) {
	if t.queued {
		return
	}
	t.queued = true
	h.queue = append(h.queue, t)
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// resolveLoop asks about topics of which memory does not know: many at a time, and for all who watch them at once.
func (h *hub) resolveLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.wake:
		}
		for h.resolveSome(ctx) && ctx.Err() == nil {
		}
	}
}

// resolveSome asks about the topics that have waited longest, and returns whether there were any.
//
// It is sound against facts that come in meanwhile: each counts up the version of its topic, and then the answer, which may
// be older, is dropped. What the fact said was told, or it had the topic resolved again.
func (h *hub) resolveSome(ctx context.Context) bool {
	h.mu.Lock()
	n := min(len(h.queue), resolveAtOnce)
	topics := h.queue[:n:n]
	h.queue = h.queue[n:]
	ids, versions := make([]string, n), make([]uint64, n)
	for i, t := range topics {
		t.queued, t.asking = false, true
		ids[i], versions[i] = t.user, t.version
	}
	h.mu.Unlock()
	if n == 0 {
		return false
	}
	asking, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	users, _, _ := h.r.Users(asking, ids)
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, t := range topics {
		t.asking = false
		if t.version == versions[i] && h.topics[t.part][t.user] == t {
			h.resolved(t, &users[i])
		}
	}
	return true
}

// resolved takes over what Redis told. That it could not tell is told only to who knows nothing yet: it changes nothing.
func (h *hub) resolved(t *topic, u *store.User) {
	if u.State == store.Unknown && u.Reason == store.Unavailable {
		if t.state.Load() == nil {
			h.set(t, u, false)
		}
		h.owe(t)
		h.unsettled[t] = struct{}{}
		return
	}
	h.set(t, u, false)
	h.settleAll(t, u)
}

// healed asks again about users of a partition that Redis could not tell of, and tells what it was too old to tell.
func (h *hub) healed(part int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for t := range h.unsettled {
		if t.part == part {
			h.resolve(t)
		}
	}
	for s := range h.all {
		s.poke() // it may have waited for the partition
	}
	now := h.r.now()
	for t := range h.unsure {
		if t.part != part {
			continue
		}
		delete(h.unsure, t)
		for _, m := range t.members {
			if m.sub.reassure(m, now) {
				h.late = append(h.late, m.sub)
			}
		}
	}
}

// tickLoop lets late subscriptions go on, has idle ones send a bookmark, asks again, and finds who is forgotten by now.
func (h *hub) tickLoop(ctx context.Context) {
	ticker := time.NewTicker(tickPause)
	defer ticker.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		h.mu.Lock()
		h.releaseLate()
		h.checkHealth()
		if n%int(askAgain/tickPause) == 0 {
			h.everySecond()
		}
		h.mu.Unlock()
	}
}

func (h *hub) releaseLate() {
	now := h.r.now()
	waiting := h.late[:0]
	for _, s := range h.late {
		if !s.release(now) {
			waiting = append(waiting, s)
		}
	}
	clear(h.late[len(waiting):])
	h.late = waiting
}

// checkHealth has those subscriptions send a bookmark for whom it has changed whether they are told everything.
func (h *hub) checkHealth() {
	if degraded := h.r.degraded(); degraded != h.degraded {
		h.degraded = degraded
		for s := range h.subs {
			s.checkHealth(&degraded)
		}
	}
}

// degraded tells which partitions cannot be answered for.
func (r *Replica) degraded() (degraded [store.Partitions]bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	now := r.now()
	for i, p := range r.parts {
		degraded[i] = !p.fresh(now) || !p.complete
	}
	return degraded
}

func (h *hub) everySecond() {
	now := h.r.now()
	for s := range h.subs {
		s.mark(now)
	}
	for t := range h.unsettled {
		h.resolve(t)
	}
	for range ageStep {
		h.age(h.ageing)
		h.ageing = (h.ageing + 1) % store.Partitions
	}
}

// age looks for watched users who were last seen so long ago that they are forgotten. No fact tells of that.
func (h *hub) age(part int) {
	h.r.mu.RLock()
	wall := h.r.wall()
	h.r.mu.RUnlock()
	for _, t := range h.topics[part] {
		if u := t.state.Load(); u != nil && u.State == store.Offline && wall.Sub(u.LastSeen) > h.r.cfg.Retention {
			h.set(t, &store.User{ID: t.user, State: store.Unknown, Reason: store.NeverSeen}, true)
		}
	}
}
