package store

import (
	"context"
	"time"
)

// A push is only a hint: it is lost with the gateway that should have sent it, and is never sent to a session that the sender
// did not see. There is no traffic to find that out; on evidence that it may have happened the gateway compares mailboxes.

// suspect notes evidence, which Run tells the gateway of as soon as all its sessions are registered: until then others do
// not see them, and what they append now would be missed again.
func (m *Member) suspect(reason string) {
	m.mu.Lock()
	m.suspicion = reason
	m.mu.Unlock()
	m.kick()
}

// tellSuspicion tells the gateway of what was noted.
func (m *Member) tellSuspicion() {
	m.mu.Lock()
	reason := m.suspicion
	m.suspicion = ""
	m.mu.Unlock()
	if reason != "" && m.local != nil {
		m.local.Suspect(reason)
	}
}

// notePeers suspects lost pushes when a gateway has ended since the last look: it may have stored messages that it did not
// live to push.
func (m *Member) notePeers(last *view, t *table) {
	for e := range last.peers {
		if !t.live(e) && e != m.Epoch() {
			m.suspect("a gateway has ended")
			return
		}
	}
}

// memoryPause is the least time between two looks at the memory of the nodes.
const memoryPause = 5 * time.Second

// checkMemory finds the nodes whose memory is so full that no messages are stored there any more, and
// those that have begun another run under the lane.
func (r *runner) checkMemory(ctx context.Context) {
	if time.Since(r.checked) < memoryPause {
		return
	}
	r.checked = time.Now()
	var reqs []*request
	for _, n := range r.store.servers.routes.Load().nodes() {
		for _, section := range []string{"memory", "server", "replication"} {
			reqs = append(reqs, &request{on: n, args: []any{"info", section}})
		}
	}
	_ = r.store.exchange(ctx, reqs...) // who does not answer keeps what is known
	for i := 0; i < len(reqs); i += 3 {
		n := reqs[i].on
		if memory := reqs[i].text(); memory != "" {
			full := memoryUse(memory) >= r.store.cfg.MemoryLimit
			if was := n.full.Swap(full); was != full {
				r.store.log.Warn("the memory of redis crossed the limit for messages", "redis", n.addr, "full", full)
			}
		}
		if run := n.run.Load(); run != nil && *run != runName(reqs[i+1].text()+reqs[i+2].text()) {
			n.relearn.Store(true)
		}
	}
}

// memoryUse is the share of maxmemory that is used, as INFO tells; 0 without maxmemory. Buffers for replicas and for the
// append-only file do not count, as for Redis itself.
func memoryUse(info string) float64 {
	limit := intOf(infoField(info, "maxmemory"))
	if limit <= 0 {
		return 0
	}
	return float64(intOf(infoField(info, "used_memory"))-intOf(infoField(info, "mem_not_counted_for_evict"))) / float64(limit)
}
