package store

import (
	"context"
	"fmt"
)

// CheckRevoked holds a session against the revocations of its user, as its login did: for a token that takes the place of
// another one while the session goes on. It returns an error that wraps ErrRevoked if one covers it, or ErrUnavailable.
//
// A revocation that comes meanwhile is told to the gateway by [Local.Revoked]. So that it finds it, the session must have
// its new token before the call.
func (m *Member) CheckRevoked(ctx context.Context, session Session) error {
	part := Partition(session.User)
	clock := read(part, "time")
	kept := read(part, "hgetall", m.store.keys.revokedKey(part, session.User))
	if err := m.store.exchange(ctx, clock, kept); err != nil {
		return fmt.Errorf("look for revocations: %w", err)
	}
	for _, r := range parseRevocations(session.User, kept.list(), timeOf(clock)) {
		if r.Covers(session) {
			return fmt.Errorf("look for revocations: %w", ErrRevoked)
		}
	}
	return nil
}
