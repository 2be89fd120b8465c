package store

import (
	"context"
	"time"
)

// userRead is what is asked about one user.
type userRead struct {
	part     int
	sessions *request
	seen     *request // of the bucket, with others
	at       int      // which reply of the bucket
	buckets  int      // how many there were thought to be
}

// partRead is what is asked about one partition.
type partRead struct {
	before  *request // the whole meta, before the users are read
	after   *request // generation and bucket count, after the users were read
	buckets int      // as they were remembered
}

// reread has a second look at users, and answers as far as can be told. It takes nothing from memory but the numbers of
// buckets, and follows slots and servers as [Store.exchange] does.
//
// The order of the reads is what makes the answer true: the partition is known to be complete before the users are read,
// and its generation unchanged after, so that nobody was lost in between; last seen is read after the sessions, so that who logs
// out in between is found in one of them; the lease table is read last, so that it knows the epoch of every session that was
// found.
func (q *query) reread(ctx context.Context, which []int) {
	users, parts, reqs := q.reads(which)
	lease := q.tableRequests(true)
	reqs = append(reqs, lease.requests()...)
	_ = q.exchange(ctx, reqs...) // each request has its own error

	t := q.table(lease)
	if t == nil {
		q.degraded = true
		return
	}
	q.asOf = time.UnixMilli(t.wall)
	q.degraded = q.degraded || !t.settled()
	whole := q.wholeParts(parts, t)
	for _, w := range whole {
		q.degraded = q.degraded || !w.complete
	}
	for n, i := range which {
		r, part := &users[n], whole[users[n].part]
		if r.sessions.err != nil || r.seen.err != nil || !part.read || !t.present {
			continue // stays unavailable
		}
		f := found{asked: r.buckets == part.buckets}
		f.sessions, f.status = userFields(stringsOf(r.sessions.list()), nil)
		if list := r.seen.list(); r.at < len(list) {
			f.seen = textOf(list[r.at])
		}
		q.decide(i, &f, part, t, true)
	}
}

// reads makes the requests about users and their partitions, in the order that reread needs.
func (q *query) reads(which []int) (users []userRead, parts map[int]*partRead, reqs []*request) {
	parts = map[int]*partRead{}
	reqs = make([]*request, 0, len(which)+3*min(len(which), Partitions)+4)
	for _, i := range which {
		p := Partition(q.ids[i])
		if parts[p] != nil {
			continue
		}
		r := &partRead{
			before: read(p, "hgetall", q.keys.meta[p]), buckets: 1,
			after: read(p, "hmget", q.keys.meta[p], generationField, bucketsField),
		}
		if m := q.metas[p].Load(); m != nil {
			r.buckets = m.buckets
		}
		reqs = append(reqs, r.before)
		parts[p] = r
	}
	users = make([]userRead, len(which))
	sessions := make([]request, len(which))
	buckets, seen := map[[2]int]*request{}, []*request(nil)
	for n, i := range which {
		id := q.ids[i]
		u := &users[n]
		u.part = Partition(id)
		u.buckets = parts[u.part].buckets
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

// wholeParts judges partitions, and remembers what was read of them.
func (q *query) wholeParts(parts map[int]*partRead, t *table) map[int]wholePart {
	whole := make(map[int]wholePart, len(parts))
	for p, r := range parts {
		after := r.after.list()
		if len(after) != 2 || r.before.err != nil {
			whole[p] = wholePart{}
			continue
		}
		known := parseMeta(r.before.list())
		q.metas[p].Store(known)
		whole[p] = q.whole(p, known, true, textOf(after[0]), int(intOf(after[1])), t)
	}
	return whole
}

// stringsOf is a list of strings.
func stringsOf(list []any) []string {
	texts := make([]string, len(list))
	for i, v := range list {
		texts[i] = textOf(v)
	}
	return texts
}
