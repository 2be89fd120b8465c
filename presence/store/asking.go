package store

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/imcluster/imcluster/presence/feed"
)

// asking is the first look of a query. Next to what [Store.exchange] would need, half of the processor time is saved: it is used
// again with its commands, their arguments are pointers, which are not copied to the heap, and replies are read as strings.
type asking struct {
	order    []int32 // users by partition
	users    []asked
	groups   []group
	pipes    []pipe
	keys     []string       // of the hashes of the users
	hashes   []*reading     // of the users
	metas    []*reading     // generation and number of buckets of the groups' partitions
	sessions []feed.Session // of one user
}

// asked is where to find when a user was last seen.
type asked struct {
	seen *redis.StringSliceCmd // of the bucket
	at   int                   // which reply of the bucket
}

// group is the users of a partition.
type group struct {
	part   int
	pipe   int     // of its node
	users  []int32 // which of the query
	cached *meta   // what is remembered of the partition
}

// pipe is what is asked of a node.
type pipe struct {
	node *node
	cmds []redis.Cmder
}

// reading is a command with a fixed number of arguments, which it keeps.
type reading struct {
	*redis.StringSliceCmd
	args []any
}

func newReading(name string, args ...any) *reading {
	r := &reading{args: append([]any{name, nil}, args...)}
	//nolint:contextcheck // the pipeline has the one that counts
	r.StringSliceCmd = redis.NewStringSliceCmd(context.Background(), r.args...)
	return r
}

// of has the command read a key, which stays where it is until it has.
func (r *reading) of(key *string) *reading {
	r.args[1] = key
	r.SetErr(nil)
	return r
}

var askings = sync.Pool{New: func() any { return &asking{} }}

func (a *asking) release() {
	clear(a.users)
	clear(a.groups)
	for i := range a.pipes {
		clear(a.pipes[i].cmds)
		a.pipes[i] = pipe{cmds: a.pipes[i].cmds[:0]}
	}
	for _, r := range a.metas[:len(a.groups)] {
		r.SetVal(nil)
	}
	for i, r := range a.hashes[:len(a.users)] {
		r.args[1] = nil
		r.SetVal(nil)
		a.keys[i] = ""
	}
	clear(a.sessions[:cap(a.sessions)])
	a.users, a.groups, a.pipes = a.users[:0], a.groups[:0], a.pipes[:0]
	askings.Put(a)
}

// ask reads everybody, and decides what can be decided. It returns the users that need a second look: because what is
// remembered about their partition, or the lease table, is too old, or because the one attempt that this is found another
// server, or a slot that is being moved.
//
// The order of the reads is what makes the answer true: the partition is known to be complete from before, and its generation
// unchanged after the users are read, so that nobody was lost in between; last seen is read after the sessions, so that who
// logs out in between is found in one of them; the lease table is read last, so that it knows the epoch of every session that
// was found.
func (q *query) ask(ctx context.Context) (again []int) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	a := askings.Get().(*asking)
	defer a.release()
	routes := q.servers.routes.Load()
	a.sort(q, routes)
	a.readUsers(q.ids, q.keys)
	for i := range a.groups {
		g := &a.groups[i]
		a.add(g.pipe, a.metas[i].of(&q.keys.meta[g.part]))
	}
	records := q.records.Load()
	lease := q.tableRequests(records == nil)
	last := a.pipeOf(routes.node[gateways])
	for _, r := range lease.requests() {
		r.cmd = redis.NewCmd(ctx, r.args...)
		a.add(last, r.cmd)
	}
	a.exec(ctx)

	for _, r := range lease.requests() {
		switch tell(r.cmd) {
		case refused:
			return a.everybody(nil)
		case failed:
			q.degraded = true
			return nil
		}
	}
	t := q.table(lease)
	q.asOf = time.UnixMilli(t.wall)
	q.degraded = !t.settled()
	if !t.present {
		return nil
	}
	if t.records == nil {
		t.records = *records
	}
	for i := range a.groups {
		again = a.decide(q, i, t, again)
	}
	return again
}

// sort makes groups of the users by partition.
func (a *asking) sort(q *query, routes *routes) {
	n := len(q.ids)
	a.order = slices.Grow(a.order[:0], 2*n)[:2*n]
	parts, order := a.order[:n], a.order[n:]
	var ends [Partitions + 1]int32
	for i, id := range q.ids {
		p := Partition(id)
		parts[i] = int32(p)
		ends[p+1]++
	}
	for p := range Partitions {
		ends[p+1] += ends[p]
	}
	next := ends
	for i, p := range parts {
		order[next[p]] = int32(i)
		next[p]++
	}
	for p := range Partitions {
		if ends[p] == ends[p+1] {
			continue
		}
		g := group{part: p, pipe: a.pipeOf(routes.node[p]), users: order[ends[p]:ends[p+1]], cached: q.metas[p].Load()}
		if g.cached == nil {
			g.cached = &meta{buckets: 1}
		}
		a.groups = append(a.groups, g)
	}
	for len(a.metas) < len(a.groups) {
		a.metas = append(a.metas, newReading("hmget", generationField, bucketsField))
	}
	for len(a.hashes) < n {
		a.hashes = append(a.hashes, newReading("hgetall"))
	}
	a.keys = slices.Grow(a.keys[:0], n)[:n]
	a.users = slices.Grow(a.users, n)[:n]
}

// readUsers asks about users, and then when they were last seen.
func (a *asking) readUsers(ids []string, keys *keys) {
	size := 0
	for i := range a.groups {
		g := &a.groups[i]
		size += len(g.users) * len(keys.user[g.part])
		for _, u := range g.users {
			size += len(ids[u])
		}
	}
	var all strings.Builder // one string for all keys
	all.Grow(size)
	for i := range a.groups {
		g := &a.groups[i]
		for _, u := range g.users {
			from := all.Len()
			all.WriteString(keys.user[g.part])
			all.WriteString(ids[u])
			a.keys[u] = all.String()[from:]
			a.add(g.pipe, a.hashes[u].of(&a.keys[u]))
		}
	}
	for i := range a.groups {
		a.readSeen(&a.groups[i], ids, keys)
	}
}

// readSeen asks when users of a partition were last seen: those of one bucket by one command.
func (a *asking) readSeen(g *group, ids []string, keys *keys) {
	type bucket struct {
		number int
		users  []int32
	}
	var few [8]bucket
	list := few[:0]
	if g.cached.buckets == 1 {
		list = append(list, bucket{0, g.users})
	} else {
		for _, u := range g.users {
			n := seenBucket(seenField(ids[u]), g.cached.buckets)
			at := slices.IndexFunc(list, func(b bucket) bool { return b.number == n })
			if at < 0 {
				at = len(list)
				list = append(list, bucket{number: n})
			}
			list[at].users = append(list[at].users, u)
		}
	}
	for _, b := range list {
		args := make([]any, 2, 2+len(b.users))
		args[0], args[1] = "hmget", keys.seenKey(g.part, b.number)
		for _, u := range b.users {
			if len(ids[u]) > longID {
				args = append(args, seenField(ids[u]))
				continue
			}
			args = append(args, &ids[u])
		}
		cmd := redis.NewStringSliceCmd(context.Background(), args...)
		for at, u := range b.users {
			a.users[u] = asked{cmd, at}
		}
		a.add(g.pipe, cmd)
	}
}

// pipeOf returns the pipe of a node.
func (a *asking) pipeOf(n *node) int {
	for i := range a.pipes {
		if a.pipes[i].node == n {
			return i
		}
	}
	if len(a.pipes) < cap(a.pipes) {
		a.pipes = a.pipes[:len(a.pipes)+1] // with the room for commands that it had
	} else {
		a.pipes = append(a.pipes, pipe{})
	}
	a.pipes[len(a.pipes)-1].node = n
	return len(a.pipes) - 1
}

func (a *asking) add(pipe int, cmd redis.Cmder) { a.pipes[pipe].cmds = append(a.pipes[pipe].cmds, cmd) }

// exec sends everything, to all nodes at once.
func (a *asking) exec(ctx context.Context) {
	var wg sync.WaitGroup
	for i := 1; i < len(a.pipes); i++ {
		wg.Go(func() { a.pipes[i].exec(ctx) })
	}
	a.pipes[0].exec(ctx)
	wg.Wait()
}

func (p *pipe) exec(ctx context.Context) {
	pipeline := p.node.reads.Pipeline()
	_ = pipeline.BatchProcess(ctx, p.cmds...) // queues
	cmds, err := pipeline.Exec(ctx)
	spread(cmds, err)
}

// told is what became of a command.
type told int

const (
	good    told = iota
	refused      // another attempt may do
	failed       // another attempt would fail too
)

func tell(cmd redis.Cmder) told {
	err := cmd.Err()
	switch classify(err) {
	case success:
		return good
	case connection: // A pooled connection that the server closed fails once. A time out would only fail again.
		if isTimeout(err) {
			return failed
		}
	case busy, outOfMemory:
		return failed
	}
	return refused
}

// everybody adds all users to a list.
func (a *asking) everybody(list []int) []int {
	for i := range a.users {
		list = append(list, i)
	}
	return list
}

// decide answers for the users of a group, and adds those who need a second look to again.
func (a *asking) decide(q *query, n int, t *table, again []int) []int {
	g := &a.groups[n]
	switch tell(a.metas[n]) {
	case refused:
		for _, u := range g.users {
			again = append(again, int(u))
		}
		return again
	case failed:
		q.degraded = true
		return again
	}
	after := a.metas[n].Val()
	part := q.whole(g.part, g.cached, false, after[0], int(intOf(after[1])), t)
	q.degraded = q.degraded || !part.complete && !part.stale // of stale ones the second look tells
	for _, u := range g.users {
		hash, r := a.hashes[u], &a.users[u]
		what := max(tell(hash), tell(r.seen))
		if what == good {
			f := found{asked: g.cached.buckets == part.buckets}
			f.sessions, f.status = userFields(hash.Val(), a.sessions[:0])
			a.sessions = f.sessions
			f.seen = r.seen.Val()[r.at]
			if q.decide(int(u), &f, part, t, false) {
				continue
			}
			what = refused
		}
		if what == refused {
			again = append(again, int(u))
		}
	}
	return again
}

// userFields reads the sessions, which are added to into, and the status in the hash of a user.
func userFields(fields []string, into []feed.Session) (sessions []feed.Session, status feed.Standing) {
	for i := 0; i+1 < len(fields); i += 2 {
		if fields[i] == statusField {
			status, _ = feed.ParseStanding(fields[i+1]) // no other is written
			continue
		}
		device, ok := strings.CutPrefix(fields[i], "s")
		if !ok {
			continue
		}
		if s, err := feed.ParseSession(device, fields[i+1]); err == nil {
			into = append(into, s)
		}
	}
	return into, status
}
