package store

import (
	"context"
	_ "embed"
	"time"
)

// What the receiver of the hooks was told is remembered by partition, so that the hooks go on when a presence pod dies: one pod
// at a time has the lease of a partition, and tells the receiver what differs from what it was told.

var (
	//go:embed lua/hookclaim.lua
	hookClaimLua string
	//go:embed lua/hooktell.lua
	hookTellLua string
	//go:embed lua/hooktold.lua
	hookToldLua string

	hookClaimScript = newScript(hookClaimLua)
	hookTellScript  = newScript(hookTellLua)
	hookToldScript  = newScript(hookToldLua)
)

// HookClaim is the answer to a claim for a partition.
type HookClaim struct {
	Part int
	// Mine tells whether the claimant has the lease now.
	Mine bool
	// Memory names what is remembered. Another name than before says that it was lost, with Redis' data.
	Memory string
	// Doubts counts how often somebody who had lost the lease told the receiver something: when it has grown, some users are in
	// doubt that were not.
	Doubts int64
	// Err is not nil if it is not known who has the lease.
	Err error
}

// ClaimHooks takes or renews the leases of partitions for the claimant, where nobody else has them. A ttl of zero gives them
// up.
func (s *Store) ClaimHooks(ctx context.Context, claimant string, parts []int, ttl, longest time.Duration) []HookClaim {
	reqs := make([]*request, len(parts))
	for i, p := range parts {
		reqs[i] = eval(p, hookClaimScript, []string{s.keys.hook[p]}, claimant, ttl.Milliseconds(), randomGeneration(), longest.Milliseconds())
	}
	_ = s.exchange(ctx, reqs...) // each has its own error
	claims := make([]HookClaim, len(parts))
	for i, r := range reqs {
		claims[i] = HookClaim{Part: parts[i], Err: wrap(r.err)}
		if list := r.list(); len(list) == 3 {
			claims[i].Memory, claims[i].Doubts, claims[i].Mine = textOf(list[0]), intOf(list[1]), intOf(list[2]) == 1
		}
	}
	return claims
}

// HookBelief is what the receiver of the hooks believes of a user.
type HookBelief uint8

// Beliefs. A user that nothing is remembered of is believed to be offline.
const (
	BelievedOffline HookBelief = iota
	BelievedOnline
	// InDoubt: it was being told when a presence pod stopped, or Redis' data was lost.
	InDoubt
)

// HookBeliefs reads what the receiver believes of the users of a partition, those believed offline left out.
func (s *Store) HookBeliefs(ctx context.Context, part int) (map[string]HookBelief, error) {
	r := read(part, "hgetall", s.keys.told[part])
	if err := s.exchange(ctx, r); err != nil {
		return nil, err
	}
	list := r.list()
	beliefs := make(map[string]HookBelief, len(list)/2)
	for i := 0; i+1 < len(list); i += 2 {
		belief := BelievedOnline
		if textOf(list[i+1]) == "?" {
			belief = InDoubt
		}
		beliefs[textOf(list[i])] = belief
	}
	return beliefs, nil
}

// HookTelling is what the receiver is to be told, or was, about users of one partition.
type HookTelling struct {
	Part   int
	Users  []string
	Online []bool
	// Number is set by [Store.TellHooks]: above all earlier ones of the partition, as far as Redis kept its data.
	Number int64
	// Lost is set when the claimant has no lease of the partition.
	Lost bool
}

// TellHooks notes that the receiver is about to be told. It must not be told of tellings that are Lost, and of none if there is
// an error.
func (s *Store) TellHooks(ctx context.Context, claimant string, tellings []HookTelling) error {
	reqs := make([]*request, len(tellings))
	for i, t := range tellings {
		args := []any{claimant}
		for _, u := range t.Users {
			args = append(args, u)
		}
		reqs[i] = eval(t.Part, hookTellScript, []string{s.keys.hook[t.Part], s.keys.told[t.Part]}, args...)
	}
	if err := s.exchange(ctx, reqs...); err != nil {
		return err
	}
	for i, r := range reqs {
		tellings[i].Number = intOf(r.cmd.Val())
		tellings[i].Lost = tellings[i].Number == 0
	}
	return nil
}

// ToldHooks notes that the receiver has been told. After an error it is in doubt.
func (s *Store) ToldHooks(ctx context.Context, claimant string, tellings []HookTelling) error {
	reqs := make([]*request, len(tellings))
	for i, t := range tellings {
		args := []any{claimant}
		for j, u := range t.Users {
			state := "0"
			if t.Online[j] {
				state = "1"
			}
			args = append(args, u, state)
		}
		reqs[i] = eval(t.Part, hookToldScript, []string{s.keys.hook[t.Part], s.keys.told[t.Part]}, args...)
	}
	if err := s.exchange(ctx, reqs...); err != nil {
		return err
	}
	for i, r := range reqs {
		tellings[i].Lost = intOf(r.cmd.Val()) == 0
	}
	return nil
}
