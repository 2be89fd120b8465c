package store

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/imcluster/imcluster/presence/feed"
)

// Users tells the state of users, in the order of ids, which may repeat. Normally it is one pipeline for each node: the
// users, when they were last seen, the generation of their partitions and the lease table. It never fails: who could not be
// read is Unknown, with the reason Unavailable. asOf is Redis' clock, zero if nothing could be read; degraded is true if
// some partition asked, or the lease table, could not be read or may not hold everybody.
func (s *Store) Users(ctx context.Context, ids []string) (users []User, asOf time.Time, degraded bool) {
	users = make([]User, len(ids))
	for i := range ids {
		users[i] = User{ID: ids[i], State: Unknown, Reason: Unavailable}
	}
	q := &query{Store: s, ids: ids, users: users}
	q.run(ctx)
	return users, q.asOf, q.degraded
}

// Brief is what [Store.Briefs] tells of a user.
type Brief struct {
	// Known is false if it could not be found out.
	Known  bool
	Online bool
	// LastSeen of who is offline, unix s; 0 if the user was never seen.
	LastSeen int64
}

// Briefs tells of users what [Store.Users] does but for their devices and status, into a slice of the same length as ids.
func (s *Store) Briefs(ctx context.Context, ids []string, into []Brief) (degraded bool) {
	clear(into)
	q := &query{Store: s, ids: ids, briefs: into}
	q.run(ctx)
	return q.degraded
}

// query is one call of Users or Briefs.
type query struct {
	*Store
	ids      []string
	users    []User  // the answers of Users,
	briefs   []Brief // or of Briefs
	asOf     time.Time
	degraded bool
	alive    []feed.Session // of one user, used again
}

// run answers: mostly with the first look.
func (q *query) run(ctx context.Context) {
	if len(q.ids) == 0 {
		q.ask(ctx) // when it is, and whether all is well
		return
	}
	start := time.Now()
	if again := q.ask(ctx); len(again) > 0 {
		q.reread(ctx, again)
	}
	q.metrics.query(time.Since(start), q.degraded)
}

// wholePart says what the reads of a partition amount to.
type wholePart struct {
	read     bool // the partition could be read
	complete bool // who was not found is not there
	stale    bool // what was remembered of it is too old to tell
	buckets  int
}

// whole judges a partition that had this generation and number of buckets when its users were read, by what was known of it
// before they were; fresh says that this was read just then. It remembers the number of buckets.
func (q *query) whole(part int, known *meta, fresh bool, gen string, buckets int, t *table) wholePart {
	w := wholePart{read: true, buckets: max(1, buckets)}
	w.complete = known.gen == gen && known.complete(t)
	w.stale = !w.complete && !fresh && t.settled()
	if w.buckets != known.buckets {
		// Not changed in place: others read it.
		q.metas[part].Store(&meta{gen: known.gen, buckets: w.buckets, done: known.done, known: known.known})
	}
	return w
}

// found is what was read of a user.
type found struct {
	sessions []feed.Session
	status   feed.Standing
	seen     string // the entry in last seen; empty if there is none
	asked    bool   // last seen was read, and where it is now
}

// decide answers for user i. It returns false if only a second look can tell.
func (q *query) decide(i int, f *found, part wholePart, t *table, second bool) bool {
	var last time.Time
	known := true
	q.alive = q.alive[:0]
	for n := range f.sessions {
		s := &f.sessions[n]
		if t.live(s.Epoch) {
			_, ok := t.records[s.Epoch]
			known = known && ok
			q.alive = append(q.alive, *s)
			continue
		}
		if _, ok := t.deadlines[s.Epoch]; !ok {
			known = false
			if !t.settled() {
				continue // perhaps alive
			}
		}
		last = latest(last, t.ended(s.Epoch), s.LoginTime())
	}
	online := len(q.alive) > 0
	if online && !f.status.Invisible() {
		q.answer(i, feed.Visible(true, &f.status, 0, q.asOf, q.cfg.Retention), t)
		return known && !part.stale || second
	}
	// When an invisible user was seen last is part of the status.
	asked := f.asked || f.status.Invisible()
	switch {
	case !part.complete:
		return !part.stale || second
	case (!asked || !known) && !second:
		return false
	case !asked:
		return true // split twice in a millisecond: stays unavailable
	}
	seen := parseSeen(f.seen, q.asOf.Unix())
	if !last.IsZero() {
		seen = max(seen, last.Unix())
	}
	q.answer(i, feed.Visible(online, &f.status, seen, q.asOf, q.cfg.Retention), t)
	return true
}

// answer answers for user i, whose sessions alive are those of the query.
func (q *query) answer(i int, v feed.View, t *table) {
	if q.briefs != nil {
		q.briefs[i] = Brief{Known: true, Online: v.Online, LastSeen: v.LastSeen}
		return
	}
	q.users[i] = Answer(q.ids[i], v, q.alive, func(e Epoch) string { return t.records[e].PodName })
}

// Answer makes the answer about a user of what may be seen, and of the sessions that are alive. pod names the pod of an epoch.
func Answer(id string, v feed.View, alive []feed.Session, pod func(Epoch) string) User {
	u := User{ID: id}
	switch {
	case v.Online:
		u.State, u.Status, u.Text = Online, v.Show, v.Text
		u.Devices = make([]Device, len(alive))
		for i := range alive {
			s := &alive[i]
			u.Devices[i] = Device{ID: s.Device, Platform: s.Platform, Gateway: pod(s.Epoch), LoginTime: s.LoginTime()}
		}
		slices.SortFunc(u.Devices, func(a, b Device) int { return cmp.Compare(a.ID, b.ID) })
	case v.LastSeen > 0:
		u.State, u.LastSeen = Offline, time.Unix(v.LastSeen, 0)
	default:
		u.State, u.Reason = Unknown, NeverSeen
	}
	return u
}

func latest(times ...time.Time) time.Time {
	return slices.MaxFunc(times, time.Time.Compare)
}

// splitEntry reads an entry of a session index.
func splitEntry(e string) (user, device string) {
	user, device, _ = strings.Cut(e, "\x00")
	return user, device
}
