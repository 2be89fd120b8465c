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
	start := time.Now()
	users = make([]User, len(ids))
	all := make([]int, len(ids))
	for i := range ids {
		users[i] = User{ID: ids[i], State: Unknown, Reason: Unavailable}
		all[i] = i
	}
	q := &query{Store: s, users: users}
	again := q.look(ctx, all, false)
	if len(again) > 0 {
		q.look(ctx, again, true)
	}
	if len(ids) > 0 {
		s.metrics.query(time.Since(start), q.degraded)
	}
	return users, q.asOf, q.degraded
}

// query is one call of Users.
type query struct {
	*Store
	users    []User
	asOf     time.Time
	degraded bool
}

// userRead is what is asked about one user.
type userRead struct {
	part     int
	sessions *request
	seen     *request // of the bucket, with others
	at       int      // which reply of the bucket
	buckets  int      // how many there were thought to be
}

// lastSeen returns when the user was last seen, in unix s at the time now; 0 if that is not known.
func (u *userRead) lastSeen(now time.Time) int64 {
	if list := u.seen.list(); u.at < len(list) {
		return parseSeen(textOf(list[u.at]), now.Unix())
	}
	return 0
}

// partRead is what is asked about one partition.
type partRead struct {
	before *request // the whole meta, before the users are read; nil if cached is good
	cached *meta
	after  *request // generation and bucket count, after the users were read
}

// look reads users and decides what can be decided. It returns the users that need a second look because what was
// remembered about their partition, or the lease table, is too old. A second look is final.
//
// The order of the reads is what makes the answer true: the partition is known to be complete before the users are read,
// and its generation unchanged after, so that nobody was lost in between; last seen is read after the sessions, so that who logs
// out in between is found in one of them; the lease table is read last, so that it knows the epoch of every session that was
// found.
func (q *query) look(ctx context.Context, which []int, second bool) (again []int) {
	users, parts, reqs := q.reads(which, second)
	records := q.records.Load()
	lease := q.tableRequests(second || records == nil)
	reqs = append(reqs, lease.requests()...)
	_ = q.exchange(ctx, reqs...) // each request has its own error

	t := q.table(lease)
	if t == nil {
		q.degraded = true
		return nil
	}
	q.asOf = time.UnixMilli(t.wall)
	if t.records == nil {
		t.records = *records
	}
	whole := q.wholeParts(parts, t)
	for n, i := range which {
		if !q.decide(&q.users[i], &users[n], whole[users[n].part], t, second) && !second {
			again = append(again, i)
		}
	}
	q.degraded = q.degraded || !t.settled()
	for _, w := range whole {
		q.degraded = q.degraded || !w.complete && !w.stale // of stale ones the second look tells
	}
	return again
}

// reads makes the requests about users and their partitions, in the order that look needs.
func (q *query) reads(which []int, second bool) (users []userRead, parts map[int]*partRead, reqs []*request) {
	parts = map[int]*partRead{}
	reqs = make([]*request, 0, len(which)+3*min(len(which), Partitions)+4)
	for _, i := range which {
		p := Partition(q.users[i].ID)
		if parts[p] != nil {
			continue
		}
		r := &partRead{cached: q.metas[p].Load(), after: read(p, "hmget", q.keys.meta[p], generationField, bucketsField)}
		if r.cached == nil || second {
			r.before = read(p, "hgetall", q.keys.meta[p])
			reqs = append(reqs, r.before)
		}
		parts[p] = r
	}
	users = make([]userRead, len(which))
	sessions := make([]request, len(which))
	buckets, seen := map[[2]int]*request{}, []*request(nil)
	for n, i := range which {
		id := q.users[i].ID
		u := &users[n]
		u.part, u.buckets = Partition(id), 1
		if m := parts[u.part].cached; m != nil {
			u.buckets = m.buckets
		}
		u.sessions = &sessions[n]
		u.sessions.part, u.sessions.args = u.part, []any{"hgetall", q.keys.userKey(u.part, id)}
		reqs = append(reqs, u.sessions)
		field := seenField(id)
		at := [2]int{u.part, seenBucket(field, u.buckets)}
		if u.seen = buckets[at]; u.seen == nil {
			u.seen = read(u.part, "hmget", q.keys.seenKey(at[0], at[1]))
			buckets[at] = u.seen
			seen = append(seen, u.seen)
		}
		u.at = len(u.seen.args) - 2
		u.seen.args = append(u.seen.args, field)
	}
	reqs = append(reqs, seen...)
	for _, r := range parts {
		reqs = append(reqs, r.after)
	}
	return users, parts, reqs
}

// wholePart says what the reads of a partition amount to.
type wholePart struct {
	read     bool // the partition could be read
	complete bool // who was not found is not there
	stale    bool // what was remembered of it is too old to tell
	buckets  int
}

// wholeParts judges partitions, and remembers what was read of them.
func (q *query) wholeParts(parts map[int]*partRead, t *table) map[int]wholePart {
	whole := make(map[int]wholePart, len(parts))
	for p, r := range parts {
		after := r.after.list()
		if len(after) != 2 || r.before != nil && r.before.err != nil {
			whole[p] = wholePart{}
			continue
		}
		known := r.cached
		if r.before != nil {
			known = parseMeta(r.before.list())
			q.metas[p].Store(known)
		}
		w := wholePart{read: true, buckets: max(1, int(intOf(after[1])))}
		w.complete = known.complete(t) && known.gen == textOf(after[0])
		w.stale = !w.complete && r.before == nil && t.settled()
		if w.buckets != known.buckets {
			// Not changed in place: others read it.
			q.metas[p].Store(&meta{gen: known.gen, buckets: w.buckets, done: known.done, known: known.known})
		}
		whole[p] = w
	}
	return whole
}

// decide fills in a user. It returns false if only a second look can tell.
func (q *query) decide(u *User, r *userRead, part wholePart, t *table, second bool) bool {
	if r.sessions.err != nil || r.seen.err != nil || !part.read || !t.present {
		return true // stays unavailable
	}
	var last time.Time
	known := true
	var alive []feed.Session
	sessions, status := userFields(r.sessions.list())
	for i := range sessions {
		s := &sessions[i]
		if t.live(s.Epoch) {
			_, ok := t.records[s.Epoch]
			known = known && ok
			alive = append(alive, *s)
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
	pod := func(e Epoch) string { return t.records[e].PodName }
	if len(alive) > 0 && !status.Invisible() {
		*u = Answer(u.ID, feed.Visible(true, &status, 0, q.asOf, q.cfg.Retention), alive, pod)
		return known && !part.stale || second
	}
	switch {
	case !part.complete:
		return !part.stale || second
	case (r.buckets != part.buckets || !known) && !second:
		return false
	case r.buckets != part.buckets:
		return true // split twice in a millisecond: stays unavailable
	}
	var seen int64
	if !last.IsZero() {
		seen = last.Unix()
	}
	seen = max(seen, r.lastSeen(q.asOf))
	*u = Answer(u.ID, feed.Visible(len(alive) > 0, &status, seen, q.asOf, q.cfg.Retention), alive, pod)
	return true
}

// userFields reads the sessions and the status in the hash of a user.
func userFields(fields []any) (sessions []feed.Session, status feed.Standing) {
	for i := 0; i+1 < len(fields); i += 2 {
		name := textOf(fields[i])
		if name == statusField {
			status, _ = feed.ParseStanding(textOf(fields[i+1])) // no other is written
			continue
		}
		device, ok := strings.CutPrefix(name, "s")
		if !ok {
			continue
		}
		if s, err := feed.ParseSession(device, textOf(fields[i+1])); err == nil {
			sessions = append(sessions, s)
		}
	}
	return sessions, status
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
