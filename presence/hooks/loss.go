package hooks

import (
	"context"
	"time"

	"github.com/imcluster/imcluster/presence/store"
)

// What the receiver was told is in Redis and in the memory of the pod that told it. If both are lost at once, the others help:
// whose state changes shortly before or after the loss may be somebody whom the receiver takes for online, and is put in doubt.
const (
	// suspectBefore and suspectAfter are how long before a loss was noticed and after it changes are suspect. A pod notices it
	// with its next claim, and knows who left only when every gateway has registered its users again.
	suspectBefore = 15 * time.Second
	suspectAfter  = time.Minute
)

// remember keeps changes in partitions that are not this pod's.
func (s *sender) remember(user string, at time.Time) { s.lately[user] = at }

// forget drops the changes that are too old to matter.
func (s *sender) forget() {
	for u, at := range s.lately {
		if time.Since(at) > suspectBefore {
			delete(s.lately, u)
		}
	}
}

// lost tells whether the receiver may have been told things about the partition that nobody remembers.
func (p *partition) lost() bool { return !p.lostAt.IsZero() && time.Since(p.lostAt) < suspectAfter }

// observe compares the name of what is remembered with the one that was seen last, and looks for suspects if that was lost and
// this pod has nothing to restore.
func (s *sender) observe(ctx context.Context, p *partition, c store.HookClaim) {
	gone := p.name != "" && p.name != c.Memory && p.beliefs == nil
	p.name = c.Memory
	if !gone {
		return
	}
	p.lostAt = time.Now()
	var users []string
	for u := range s.lately {
		if store.Partition(u) == p.index {
			users = append(users, u)
		}
	}
	if c.Mine {
		// Whoever was online as far as is known, too: the data may be back so soon that no change is seen.
		online, _ := s.d.cfg.Presence.OnlineIn(p.index)
		users = append(users, online...)
	}
	s.suspect(ctx, p, users, c.Mine)
}

// suspect puts users in doubt, so that the receiver is told about them again: by this pod, if the partition is its own, or else
// by whoever has it.
func (s *sender) suspect(ctx context.Context, p *partition, users []string, mine bool) {
	switch {
	case len(users) == 0:
	case mine && p.beliefs == nil:
		p.suspects = append(p.suspects, users...)
	case mine:
		for _, u := range users {
			p.beliefs[u] = store.InDoubt
		}
	default:
		t := store.HookTelling{Part: p.index, Users: users, Online: make([]bool, len(users))}
		// Without the lease this notes a doubt. If it fails Redis is away again, and what it holds in question anyway.
		_ = s.d.cfg.Memory.ToldHooks(ctx, s.d.claimant, []store.HookTelling{t})
	}
}
