package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

var (
	// ErrRevoked says that the session may not be there: its user, device or token was revoked.
	ErrRevoked = errors.New("the session is revoked")
	// ErrTooManyRevocations says that so many devices and tokens of a user are revoked one by one that the user should
	// be instead.
	ErrTooManyRevocations = errors.New("too many revocations of one user")
)

// maxRevocations is how many devices and tokens of one user can be revoked one by one: their hash stays small.
const maxRevocations = 256

// Revocation says which sessions of a user have to end.
type Revocation struct {
	User string
	// Device or TokenID narrow it down to a device or to a token; at most one is set.
	Device, TokenID string
	// Before ends the sessions whose token was issued until then, or does not say when. Zero means, to [Store.Revoke],
	// now, and otherwise: whenever it was issued. It does not matter for a TokenID.
	Before time.Time
	// At is when it was revoked, by the clock that [Session.Since] is told by: sessions since then were held against it
	// when they logged in. Zero means any session. It is set by [Store.Revoke].
	At time.Time
	// Reason is for the people whose sessions end; may be empty.
	Reason string
}

// Covers tells whether a session has to end.
func (r Revocation) Covers(s Session) bool {
	switch {
	case r.User != s.User,
		r.Device != "" && r.Device != s.Device,
		r.TokenID != "" && r.TokenID != s.TokenID,
		!r.At.IsZero() && s.Since.After(r.At):
		return false
	}
	return r.TokenID != "" || r.Before.IsZero() || s.Issued.IsZero() || !s.Issued.After(r.Before)
}

// field is the entry of a revocation in the hash of its user.
func (r Revocation) field() string {
	switch {
	case r.TokenID != "":
		return "t" + r.TokenID
	case r.Device != "":
		return "d" + r.Device
	}
	return "u"
}

// Revoke ends sessions on every gateway within a second, and has them refused for the ttl: as long as the tokens may be
// good for. A ttl of zero ends them and refuses nothing; a gateway that is away for longer than the control log reaches back
// misses such a one. Otherwise gateways that cannot be reached now, or cannot reach Redis, end the sessions when they can
// again. After ErrUnavailable it has perhaps happened in part: do it again.
func (s *Store) Revoke(ctx context.Context, r Revocation, ttl time.Duration) error {
	before := ""
	if !r.Before.IsZero() {
		before = strconv.FormatInt(r.Before.UnixMilli(), 10)
	}
	// First who logs in from now on is refused, then who is there is sent away: nobody slips through.
	part := Partition(r.User)
	q := eval(part, revokeScript, []string{s.keys.revokedKey(part, r.User), s.keys.meta[part]}, r.field(), before, ttl.Milliseconds(), maxRevocations)
	var err error
	if ttl > 0 {
		err = s.write(ctx, q)
	} else {
		err = s.exchange(ctx, q) // the script writes nothing
	}
	if err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	now := q.text()
	if now == "FULL" {
		return fmt.Errorf("revoke: %w", ErrTooManyRevocations)
	}
	r.At = time.UnixMilli(intOf(now))
	if r.Before.IsZero() {
		r.Before = r.At
	}
	if _, err := s.tableCall(ctx, controlScript, encodeControl(r), maxControl); err != nil {
		return fmt.Errorf("revoke: tell the gateways: %w", err)
	}
	return nil
}

// Reinstate lifts every revocation of a user. Sessions that were ended stay ended, and those that are just being ended
// are.
func (s *Store) Reinstate(ctx context.Context, user string) error {
	part := Partition(user)
	if err := s.exchange(ctx, read(part, "del", s.keys.revokedKey(part, user))); err != nil {
		return fmt.Errorf("reinstate: %w", err)
	}
	return nil
}

// parseRevocations reads the hash of a user's revocations, without those that held until now, unix ms.
func parseRevocations(user string, fields []any, now int64) (list []Revocation) {
	for i := 0; i+1 < len(fields); i += 2 {
		field := textOf(fields[i])
		before, holds, ok := strings.Cut(textOf(fields[i+1]), ".")
		if field == "" || !ok || intOf(holds) <= now {
			continue
		}
		r := Revocation{User: user, Before: time.UnixMilli(intOf(before))}
		switch field[0] {
		case 'd':
			r.Device = field[1:]
		case 't':
			r.TokenID = field[1:]
		}
		list = append(list, r)
	}
	return list
}
