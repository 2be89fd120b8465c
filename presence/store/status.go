package store

import (
	"context"
	"fmt"
	"time"
)

// errBeingReaped says that a status was not set because a gateway of the user has just died.
var errBeingReaped = fmt.Errorf("%w: sessions of a gateway that died are being removed", ErrUnavailable)

// SetStatus sets the status of the session's user, in order with what else the gateway writes about the user. It waits at most
// Config.OpTimeout and what an attempt takes. ErrInvalidStatus; ErrNoSession; ErrUnavailable and ErrFenced mean that
// the outcome is unknown; so does the end of ctx.
func (m *Member) SetStatus(ctx context.Context, session Session, status Status) error {
	if err := status.Check(); err != nil {
		return fmt.Errorf("set status: %w", err)
	}
	result := make(chan error, 1)
	o := newOp(opStatus, Partition(session.User), session)
	o.deadline = o.queued.Add(m.store.cfg.OpTimeout)
	o.setStatus(&status)
	o.finish = func(_ *lanes, o *op, reply any, err error) {
		o.free()
		if err == nil && textOf(reply) == "N" {
			err = ErrNoSession
		}
		result <- err
	}
	m.lanes.push(o)
	var err error
	select {
	case err = <-result:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("set status: %w", err)
	}
	return nil
}

const (
	// statusAttempts is how often SetStatus tries, statusPause apart: long enough for the keepers to remove the sessions of a
	// gateway that died, which they do every second.
	statusAttempts = 60
	statusPause    = 50 * time.Millisecond
)

// SetStatus sets the status of a user, connected or not. ErrInvalidStatus, or ErrUnavailable, whose outcome is unknown.
func (s *Store) SetStatus(ctx context.Context, user string, status Status) error {
	if err := status.Check(); err != nil {
		return fmt.Errorf("set status: %w", err)
	}
	if err := s.tellDeaths(ctx); err != nil {
		return fmt.Errorf("set status: %w", err)
	}
	part := Partition(user)
	buckets, field := 1, seenField(user)
	if m := s.metas[part].Load(); m != nil {
		buckets = m.buckets
	}
	for range statusAttempts {
		r := eval(part, setStatusScript,
			[]string{s.keys.userKey(part, user), s.keys.meta[part], s.keys.index[part], s.keys.mailKey(part, user),
				s.keys.ring[part] + user, s.keys.seenKey(part, seenBucket(field, buckets)), s.keys.feed[part], s.keys.hidden[part]},
			"", "", "", indexEntry(user, ""), noDeadline, s.keys.index[part],
			"", status.Letter(), status.Text, field, buckets, s.cfg.mailKept().Milliseconds())
		if err := s.write(ctx, r); err != nil {
			return fmt.Errorf("set status: %w", err)
		}
		switch text := r.text(); {
		case text == "W":
			if err := pause(ctx, statusPause); err != nil {
				return fmt.Errorf("set status: %w", err)
			}
		case text != "" && text[0] == 'B':
			buckets = max(1, int(intOf(text[1:])))
		default:
			return nil
		}
	}
	return fmt.Errorf("set status: %w", errBeingReaped)
}

// noDeadline is later than all times, in unix ms: the API has no lease that could end.
const noDeadline = 1 << 52
