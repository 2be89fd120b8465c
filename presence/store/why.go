package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/imcluster/imcluster/presence/feed"
)

// Explanation is what Redis holds of a user, for people who ask why an answer is as it is. It tells what others may not see.
type Explanation struct {
	// Status is what the user has set; the zero Standing is online, without text.
	Status feed.Standing
	// Sessions are all in the user's record, also those of gateways that have ended, sorted by device.
	Sessions []ExplainedSession
	// Transitions are what the feed still holds of the user, the newest first.
	Transitions []feed.Fact
	// Partition is that of the user, and Generation that of its data, empty while it has none; Revision is how many changes
	// it has seen.
	Partition  int
	Generation string
	Revision   uint64
	// Complete says that every live gateway has registered its sessions in the partition, so that who is not found is not
	// there. Settled says that the lease table knows all that are alive.
	Complete, Settled bool
	// AsOf is Redis' clock.
	AsOf time.Time
}

// ExplainedSession is a session with what is known of the gateway that holds it.
type ExplainedSession struct {
	feed.Session
	// Lease tells of the gateway, by its epoch.
	Lease Lease
}

// Lease is what the lease table says of an epoch.
type Lease struct {
	// Known is false if the table does not have the epoch: then nothing else is known.
	Known bool
	// Gateway is the name of the pod, PodUID its UID, Address where other gateways reach it.
	Gateway, PodUID, Address string
	// Draining says that it moves its clients away.
	Draining bool
	// Renewed is when the gateway last renewed the lease, which it does every 5 s; zero if that is not known.
	Renewed time.Time
	// Left is how long the lease lasts without another renewal; not positive once it has ended.
	Left time.Duration
	// Fenced says that it cannot be renewed any more.
	Fenced bool
}

// maxTransitions bounds how many transitions are told.
const maxTransitions = 20

// Explain reads what there is of a user. Errors wrap [ErrUnavailable].
func (s *Store) Explain(ctx context.Context, user string) (*Explanation, error) {
	part := Partition(user)
	record := read(part, "hgetall", s.keys.userKey(part, user))
	about := read(part, "hgetall", s.keys.meta[part])
	facts := read(part, "xrevrange", s.keys.feed[part], "+", "-")
	lease := s.tableRequests(true)
	if err := s.exchange(ctx, append(lease.requests(), about, record, facts)...); err != nil {
		return nil, fmt.Errorf("explain a user: %w", err)
	}
	t, m := s.table(lease), parseMeta(about.list())
	e := &Explanation{
		Partition: part, Generation: m.gen, Revision: m.revision, Complete: m.complete(t), Settled: t.settled(),
		AsOf: time.UnixMilli(t.wall),
	}
	fields := record.list()
	for i := 0; i+1 < len(fields); i += 2 {
		if textOf(fields[i]) == statusField {
			e.Status, _ = feed.ParseStanding(textOf(fields[i+1])) // none other is written
		}
	}
	for _, h := range holders(fields) {
		session := feed.Session{Device: h.Device, Epoch: h.Epoch, Conn: h.Conn, Since: h.Since.UnixMilli(), Platform: h.Platform}
		e.Sessions = append(e.Sessions, ExplainedSession{session, t.lease(h.Epoch)})
	}
	slices.SortFunc(e.Sessions, func(a, b ExplainedSession) int { return cmp.Compare(a.Device, b.Device) })
	e.Transitions = transitionsOf(user, facts.list())
	return e, nil
}

// Status returns what a user has set; the zero Standing is online, without text. Errors wrap [ErrUnavailable].
func (s *Store) Status(ctx context.Context, user string) (feed.Standing, error) {
	part := Partition(user)
	r := read(part, "hget", s.keys.userKey(part, user), statusField)
	if err := s.exchange(ctx, r); err != nil {
		return feed.Standing{}, fmt.Errorf("read a status: %w", err)
	}
	return feed.ParseStanding(r.text())
}

// lease is what the table says of an epoch.
func (t *table) lease(e Epoch) Lease {
	deadline, ok := t.deadlines[e]
	if !ok {
		return Lease{}
	}
	r := t.records[e]
	l := Lease{
		Known: true, Gateway: r.PodName, PodUID: r.podUID, Address: r.Address, Draining: r.Draining,
		Left: time.Duration(deadline-t.now) * time.Millisecond, Fenced: !r.renewable,
	}
	if r.renewed > 0 {
		l.Renewed = time.UnixMilli(t.wall - (t.now - r.renewed))
	}
	return l
}

// transitionsOf picks what concerns a user from the entries of a feed, which come newest first: facts about the user, and
// the ends of epochs that the user had sessions on.
func transitionsOf(user string, entries []any) (list []feed.Fact) {
	ends := map[Epoch]feed.Fact{} // that come later than what is being looked at
	for _, entry := range entries {
		revision, text, ok := parseFactEntry(entry)
		if !ok {
			continue
		}
		f, err := feed.Parse(revision, text)
		switch {
		case err != nil:
			continue
		case f.Kind == feed.EpochDead:
			ends[f.Epoch] = f
			continue
		case f.User != user:
			continue
		}
		if end, ok := ends[f.Session.Epoch]; ok && f.Kind == feed.Put {
			list = append(list, end)
			delete(ends, f.Session.Epoch)
		}
		list = append(list, f)
	}
	slices.SortStableFunc(list, func(a, b feed.Fact) int { return cmp.Compare(b.Revision, a.Revision) })
	return list[:min(len(list), maxTransitions)]
}
