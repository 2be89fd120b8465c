package store

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"
)

// Which groups a user owns is noted in the user's slot, the group itself says who owns it in its own, and only the group is
// right: what is noted is claimed before the group is made, taken back after it was deleted, and looked at against the groups
// when the user is out of claims. So whatever ends in between, a claim without a group is found by the time that it matters.

const (
	// ownedLook is how often the claims of a user are held against the groups at most, and for how long a claim without a group
	// is believed to be one that is being made; ownedBatch how many are looked at.
	ownedLook  = time.Minute
	ownedBatch = 1000
)

// GroupPage is a part of the groups that a user owns.
type GroupPage struct {
	Groups []Group
	// Next is the cursor of the next page; empty after the last one. A page may have fewer groups than was asked for.
	Next string
}

// claimGroup notes that a user is to own a group. ErrTooManyGroups means that there are most already; zero: no limit.
func (s *Store) claimGroup(ctx context.Context, owner, id string, most int) error {
	if owner == "" {
		return nil
	}
	part := Partition(owner)
	for {
		q := eval(part, groupClaimScript, s.keys.ownedKeys(part, owner), id, most, ownedLook.Milliseconds(), ownedBatch)
		if err := s.exchange(ctx, q); err != nil {
			return fmt.Errorf("claim: %w", err)
		}
		reply := q.list()
		if len(reply) > 0 && textOf(reply[0]) == "OK" {
			return nil
		}
		if len(reply) < 2 {
			return ErrTooManyGroups
		}
		claimed := texts(reply[1])
		owned, err := s.owned(ctx, owner, claimed)
		if err != nil {
			return fmt.Errorf("look at claims: %w", err)
		}
		if len(owned) == len(claimed) {
			return ErrTooManyGroups
		}
	}
}

// noteOwner notes who owns a group after it was made or changed, or forgets the claim of a user whose group was not made. It
// also mends what a loss of the user's slot took away. If it fails, the next change or look does it.
func (s *Store) noteOwner(ctx context.Context, owner, id string, err error) {
	switch {
	case owner == "" || errors.Is(err, ErrTooManyGroups):
	case errors.Is(err, ErrGroupExists): // perhaps it is this user's
		if groups, err := s.owned(ctx, owner, []string{id}); err == nil && len(groups) == 0 {
			s.forgetOwned(ctx, owner, id)
		}
	case err == nil:
		part := Partition(owner)
		_ = s.exchange(ctx, read(part, "zadd", s.keys.ownedKeys(part, owner)[0], 0, id))
	}
}

// forgetOwned notes that users do not own groups any more.
func (s *Store) forgetOwned(ctx context.Context, owner string, ids ...string) {
	if owner == "" || len(ids) == 0 {
		return
	}
	part := Partition(owner)
	keys := s.keys.ownedKeys(part, owner)
	claims, recent := read(part, "zrem", keys[0]), read(part, "zrem", keys[1])
	for _, id := range ids {
		claims.args, recent.args = append(claims.args, id), append(recent.args, id)
	}
	_ = s.exchange(ctx, claims, recent) // see noteOwner
}

// owned returns those of the groups that a user does own, and forgets that the others are noted.
func (s *Store) owned(ctx context.Context, owner string, ids []string) (groups []Group, err error) {
	reqs := make([]*request, 0, 2*len(ids))
	for _, id := range ids {
		part := Partition(id)
		keys := s.keys.groupKeys(part, id)
		reqs = append(reqs, read(part, "hmget", keys[0], "v", "o", "c"), read(part, "zcard", keys[1]))
	}
	if err := s.exchange(ctx, reqs...); err != nil {
		return nil, err
	}
	var others []string
	for i, id := range ids {
		state := reqs[2*i].list()
		if len(state) < 3 || state[2] == nil || textOf(state[1]) != owner {
			others = append(others, id)
			continue
		}
		groups = append(groups, Group{ID: id, Owner: owner, Version: uint64(intOf(state[0])),
			Created: time.UnixMilli(intOf(state[2])), Members: int(intOf(reqs[2*i+1].text()))})
	}
	if owner != "" && len(others) > 0 {
		part := Partition(owner)
		args := []any{ownedLook.Milliseconds()}
		for _, id := range others {
			args = append(args, id)
		}
		_ = s.exchange(ctx, eval(part, groupUnclaimScript, s.keys.ownedKeys(part, owner), args...)) // see noteOwner
	}
	return groups, nil
}

// OwnedGroups returns up to limit of the groups that a user owns, sorted by the bytes of their ids, after a cursor that an
// earlier page gave; from the start if it is empty. Errors: ErrUnavailable, ErrInvalidCursor.
func (s *Store) OwnedGroups(ctx context.Context, owner, cursor string, limit int) (GroupPage, error) {
	from := "-"
	if cursor != "" {
		last, err := base64.RawURLEncoding.DecodeString(cursor)
		if err != nil || len(last) == 0 {
			return GroupPage{}, fmt.Errorf("list groups: %w", ErrInvalidCursor)
		}
		from = "(" + string(last)
	}
	part := Partition(owner)
	q := read(part, "zrange", s.keys.ownedKeys(part, owner)[0], from, "+", "bylex", "limit", 0, limit+1)
	if err := s.exchange(ctx, q); err != nil {
		return GroupPage{}, fmt.Errorf("list groups: %w", err)
	}
	var page GroupPage
	ids := texts(q.list())
	if len(ids) > limit {
		ids = ids[:limit]
		page.Next = base64.RawURLEncoding.EncodeToString([]byte(ids[limit-1]))
	}
	var err error
	if page.Groups, err = s.owned(ctx, owner, ids); err != nil {
		return GroupPage{}, fmt.Errorf("list groups: %w", err)
	}
	return page, nil
}
