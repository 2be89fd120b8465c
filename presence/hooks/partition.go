package hooks

import (
	"context"
	"time"

	"github.com/imcluster/imcluster/presence/store"
)

// partition is what a sender knows of one of its partitions.
type partition struct {
	index int
	// mine says that this pod has the lease; until is up to when it surely does.
	mine  bool
	until time.Time
	// memory names what Redis remembers, and doubts counts what others told late; as of when beliefs were read.
	memory string
	doubts int64
	// beliefs is what the receiver was told: nil while it has to be read.
	beliefs map[string]store.HookBelief
	// everybody has to be compared with it.
	everybody bool

	// name is what memory was called when it was last asked for, by whoever has the lease; lostAt is when it was found to be
	// lost, while this pod had no beliefs; suspects are put in doubt when beliefs have been read.
	name     string
	lostAt   time.Time
	suspects []string
}

// usable tells whether the receiver may be told about users of the partition.
func (p *partition) usable() bool { return p.mine && p.beliefs != nil && time.Now().Before(p.until) }

// told tells whether the receiver knows that a user is, or is not, online.
func (p *partition) told(user string, online bool) bool {
	belief := p.beliefs[user]
	return belief == store.BelievedOnline && online || belief == store.BelievedOffline && !online
}

func (p *partition) believe(user string, online, doubt bool) {
	switch {
	case p.beliefs == nil: // read anew meanwhile
	case doubt:
		p.beliefs[user] = store.InDoubt
	case online:
		p.beliefs[user] = store.BelievedOnline
	default:
		delete(p.beliefs, user)
	}
}

// lose notes that somebody else has the lease, and remembers from now on what the receiver is told.
func (p *partition) lose() {
	p.mine, p.beliefs, p.everybody = false, nil, false
}

func (s *sender) owned() (parts []int) {
	for i, p := range s.parts {
		if p.mine {
			parts = append(parts, i)
		}
	}
	return parts
}

// claim takes or renews the leases of all partitions that nobody else has.
func (s *sender) claim(ctx context.Context) {
	parts := make([]int, 0, len(s.parts))
	for i := range s.parts {
		parts = append(parts, i)
	}
	s.forget()
	until := time.Now().Add(LeaseTTL)
	for _, c := range s.d.cfg.Memory.ClaimHooks(ctx, s.d.claimant, parts, LeaseTTL, LeaseTTL) {
		p := s.parts[c.Part]
		if c.Err != nil {
			continue
		}
		if p.beliefs != nil && p.memory != c.Memory && !s.restore(ctx, p) {
			continue // tried again with the next claim
		}
		s.observe(ctx, p, c)
		if !c.Mine {
			p.lose()
			continue
		}
		if !p.mine || !time.Now().Before(p.until) || p.doubts != c.Doubts && p.memory == c.Memory {
			// Somebody else may have told the receiver something.
			p.beliefs, p.everybody = nil, true
		}
		p.mine, p.until, p.memory, p.doubts = true, until, c.Memory, c.Doubts
	}
}

// restore writes what the receiver was told into a Redis that lost it. If another pod has the lease by now, all of it is in
// doubt there, and told again.
func (s *sender) restore(ctx context.Context, p *partition) bool {
	online, doubts := store.HookTelling{Part: p.index}, store.HookTelling{Part: p.index}
	for u, belief := range p.beliefs {
		if belief == store.InDoubt {
			doubts.Users = append(doubts.Users, u)
			continue
		}
		online.Users, online.Online = append(online.Users, u), append(online.Online, true)
	}
	p.everybody = true
	memory := s.d.cfg.Memory
	return (len(online.Users) == 0 || memory.ToldHooks(ctx, s.d.claimant, []store.HookTelling{online}) == nil) &&
		(len(doubts.Users) == 0 || memory.TellHooks(ctx, s.d.claimant, []store.HookTelling{doubts}) == nil)
}

// different returns the users whom the receiver was told something else about than what they are; ok is false if that cannot
// be said now.
func (s *sender) different(ctx context.Context, p *partition) (users []string, ok bool) {
	online, ok := s.d.cfg.Presence.OnlineIn(p.index)
	if !ok {
		return nil, false
	}
	if p.beliefs == nil {
		beliefs, err := s.d.cfg.Memory.HookBeliefs(ctx, p.index)
		if err != nil {
			return nil, false
		}
		p.beliefs = beliefs
		for _, u := range p.suspects {
			p.beliefs[u] = store.InDoubt
		}
		p.suspects = nil
	}
	there := make(map[string]struct{}, len(online))
	for _, u := range online {
		there[u] = struct{}{}
		if p.beliefs[u] != store.BelievedOnline {
			users = append(users, u)
		}
	}
	for u, belief := range p.beliefs {
		if _, ok := there[u]; !ok || belief == store.InDoubt {
			users = append(users, u)
		}
	}
	return users, true
}
