package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// errBeingReaped says that a status was not set because a gateway of the user has just died.
var errBeingReaped = fmt.Errorf("%w: sessions of a gateway that died are being removed", ErrUnavailable)

// StatusChange says what came of setting a status.
type StatusChange struct {
	// Set is when it was set, by Redis' clock, unix ms. Of two statuses of a user the later one holds.
	Set int64
	// Gateways are those, but for the caller, that have sessions of the user. Each puts back the status that it remembers, if
	// Redis loses its data: tell them.
	Gateways []Epoch
}

// parseChange reads "+<set> <epoch> …".
func parseChange(reply string) (c StatusChange) {
	set, gateways, _ := strings.Cut(strings.TrimPrefix(reply, "+"), " ")
	c.Set, _ = strconv.ParseInt(set, 36, 64) // 0, older than all, if it were none
	c.Gateways = parseGateways(gateways)
	return c
}

// parseGateways reads "<epoch> …", and leaves those out that put nothing back.
func parseGateways(text string) (gateways []Epoch) {
	for f := range strings.FieldsSeq(text) {
		if e := Epoch(f); !e.External() {
			gateways = append(gateways, e)
		}
	}
	return gateways
}

// SetStatus sets the status of the session's user, in order with what else the gateway writes about the user. It waits at most
// Config.OpTimeout and what an attempt takes. ErrInvalidStatus; ErrNoSession; ErrUnavailable and ErrFenced mean that
// the outcome is unknown; so does the end of ctx.
func (m *Member) SetStatus(ctx context.Context, session Session, status Status) (StatusChange, error) {
	if err := status.Check(); err != nil {
		return StatusChange{}, fmt.Errorf("set status: %w", err)
	}
	type result struct {
		reply string
		err   error
	}
	results := make(chan result, 1)
	o := newOp(opStatus, Partition(session.User), session)
	o.deadline = o.queued.Add(m.store.cfg.OpTimeout)
	o.setStatus(&status)
	o.finish = func(_ *lanes, o *op, reply any, err error) {
		o.free()
		r := result{textOf(reply), err}
		if err == nil && r.reply == "N" {
			r.err = ErrNoSession
		}
		results <- r
	}
	m.lanes.push(o)
	var r result
	select {
	case r = <-results:
	case <-ctx.Done():
		r.err = context.Cause(ctx)
	}
	if r.err != nil {
		return StatusChange{}, fmt.Errorf("set status: %w", r.err)
	}
	return parseChange(r.reply), nil
}

const (
	// statusAttempts is how often SetStatus tries, statusPause apart: long enough for the keepers to remove the sessions of a
	// gateway that died, which they do every second.
	statusAttempts = 60
	statusPause    = 50 * time.Millisecond
)

// SetStatus sets the status of a user, connected or not. ErrInvalidStatus, or ErrUnavailable, whose outcome is unknown.
func (s *Store) SetStatus(ctx context.Context, user string, status Status) (StatusChange, error) {
	if err := status.Check(); err != nil {
		return StatusChange{}, fmt.Errorf("set status: %w", err)
	}
	if err := s.tellDeaths(ctx); err != nil {
		return StatusChange{}, fmt.Errorf("set status: %w", err)
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
			return StatusChange{}, fmt.Errorf("set status: %w", err)
		}
		switch text := r.text(); {
		case text == "W":
			if err := pause(ctx, statusPause); err != nil {
				return StatusChange{}, fmt.Errorf("set status: %w", err)
			}
		case text != "" && text[0] == 'B':
			buckets = max(1, int(intOf(text[1:])))
		default:
			return parseChange(text), nil
		}
	}
	return StatusChange{}, fmt.Errorf("set status: %w", errBeingReaped)
}

// noDeadline is later than all times, in unix ms: the API has no lease that could end.
const noDeadline = 1 << 52
