package store

import (
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/imcluster/imcluster/presence/feed"
)

// kind is what an operation in a lane does. It is also the label of its metrics.
type kind uint8

const (
	opRegister kind = iota
	opReassert
	opUnregister
	opEvict // unregister whatever connection of ours is there, since the gateway has none
	opLocate
	opSplit
	opBeginGroup
	opFinishGroup
	opAppend
	opPeek
	opAck
	opStatus
	opKinds
)

var kindNames = [opKinds]string{"register", "reassert", "unregister", "evict", "locate", "split", "begin_group", "finish_group",
	"append", "peek", "ack", "status"}

// evictAge is how old a session must be before it is evicted: a younger one may be on its way from Redis to the gateway.
const evictAge = 10 * time.Second

// op is one write, or one read in order with them, on its way through a lane. Ops are pooled, with the buffers of their
// arguments: a login costs its lane five allocations.
type op struct {
	next     *op
	kind     kind
	part     int
	queued   time.Time
	deadline time.Time // after it the op is given up; zero: never
	session  Session
	endedAt  int64 // unix ms: when the session ended
	cause    feed.Cause
	letter   string // of session.Status, if it is to be set or put back
	text     string

	// Owned by the worker that has the op in its batch.
	sent bool // it may have been executed
	cmd  *redis.Cmd
	args []any
	// fixed are the arguments of an op that needs nothing else than its maker knew.
	fixed []any
	// Arguments live here, since pointers go into args without an allocation.
	user, entry, conn, since, seen, bucket, mailKey, ring, revoked, issued, statusSet arg

	device, buckets, index, modulus int
	until                           int64

	// finish is called once, on the goroutine of the worker, with the reply or an error.
	finish func(l *lanes, o *op, reply any, err error)
	locate func([]Holder, error)
	batch  *reassertion
	mail   mailOp
	// Of a register: its caller waits for done, unless it has given up.
	done      chan struct{}
	reply     any
	err       error
	finished  bool // guarded by lanes.mu
	abandoned bool // guarded by lanes.mu
}

// arg is an argument whose bytes the op owns.
type arg struct{ b []byte }

// MarshalBinary is how the client library asks for the bytes.
func (a *arg) MarshalBinary() ([]byte, error) { return a.b, nil }

func (a *arg) set(parts ...string) {
	a.b = a.b[:0]
	for _, p := range parts {
		a.b = append(a.b, p...)
	}
}

// keptBuffer is how large a buffer of a pooled op may be: records are copied into one.
const keptBuffer = 4 << 10

var ops = sync.Pool{New: func() any { return &op{done: make(chan struct{}, 1)} }}

func newOp(k kind, part int, session Session) *op {
	o := ops.Get().(*op)
	*o = op{
		kind: k, part: part, session: session, queued: time.Now(), done: o.done, args: o.args,
		user: o.user, entry: o.entry, conn: o.conn, since: o.since, seen: o.seen, bucket: o.bucket,
		mailKey: o.mailKey, ring: o.ring, revoked: o.revoked, issued: o.issued,
		statusSet: o.statusSet,
	}
	return o
}

// free gives an op back. Nobody may hold it any more.
func (o *op) free() {
	o.cmd, o.finish, o.locate, o.batch, o.reply, o.err, o.fixed, o.mail = nil, nil, nil, nil, nil, nil, nil, mailOp{}
	if cap(o.entry.b) > keptBuffer {
		o.entry.b = nil
	}
	ops.Put(o)
}

// encode builds the arguments, with what is true at the moment of sending: the epoch, its deadline, the bucket count.
func (o *op) encode(l *lanes, lease *lease, until int64) []any {
	k := l.store.keys
	o.args = o.args[:0]
	o.until = until
	o.user.set(k.user[o.part], o.session.User)
	switch o.kind {
	case opLocate:
		o.add("hgetall", &o.user)
	case opSplit:
		o.encodeSplit(k)
	case opBeginGroup, opFinishGroup:
		return o.fixed
	case opRegister:
		o.encodeSeen(l)
		sc := registerScript
		if o.letter != "" {
			sc = registerStatusScript
		}
		o.encodePut(k, sc, lease, &o.bucket)
		o.add(&l.store.cfg.MaxDevices, &o.device, &o.seen, &o.buckets, &l.retention, &o.session.Addr)
		if o.letter != "" {
			o.add(&o.letter, &o.text)
		}
	case opReassert:
		o.device = deviceHash(o.session.User, o.session.Device)
		o.encodePut(k, reassertScript, lease)
		o.since.b = strconv.AppendInt(o.since.b[:0], o.session.Since.UnixMilli(), 36)
		o.add(&o.since, &o.device, &o.session.Addr)
		if o.letter != "" {
			o.statusSet.b = strconv.AppendInt(o.statusSet.b[:0], o.session.StatusSet, 36)
			o.add(&o.letter, &o.text, &o.statusSet)
		}
	case opStatus:
		o.encodeSeen(l)
		o.ring.set(k.ring[o.part], o.session.User)
		o.encodeWrite(k, setStatusScript, lease, &o.ring, &o.bucket)
		o.add((*string)(&lease.earlier), &o.letter, &o.text, &o.seen, &o.buckets, &l.kept)
	case opPeek, opAck:
		o.encodeMail(l)
	case opUnregister, opEvict:
		o.encodeSeen(l)
		o.encodeWrite(k, unregisterScript, lease, &o.bucket)
		o.add((*string)(&lease.earlier), &o.endedAt, &o.seen, &o.buckets)
		if o.kind == opEvict {
			o.add(evictAge.Milliseconds())
		} else {
			o.add("")
		}
		o.since.b = strconv.AppendInt(o.since.b[:0], o.endedAt, 36)
		o.add(&l.kept, &o.device, (*string)(&o.cause), &o.since)
		if o.session.Forget {
			o.add("1")
		} else {
			o.add("")
		}
	}
	return o.args
}

// encodePut adds what the scripts that put sessions want.
func (o *op) encodePut(k *keys, sc *script, lease *lease, more ...any) {
	o.revoked.set(k.revoked[o.part], o.session.User)
	o.issued.b = o.issued.b[:0]
	if !o.session.Issued.IsZero() {
		o.issued.b = strconv.AppendInt(o.issued.b, o.session.Issued.UnixMilli(), 10)
	}
	o.ring.set(k.ring[o.part], o.session.User)
	o.encodeWrite(k, sc, lease, append([]any{&o.revoked, &o.ring}, more...)...)
	o.add(&o.session.Platform, &o.session.TokenID, &o.issued)
}

// setStatus readies the status that the op is to set or put back.
func (o *op) setStatus(s *Status) {
	if s != nil {
		o.letter, o.text = s.Letter(), s.Text
	}
}

// encodeSeen readies what the scripts need to find the user in last seen.
func (o *op) encodeSeen(l *lanes) {
	field := seenField(o.session.User)
	o.seen.set(field)
	o.buckets = l.buckets(o.part)
	o.bucket.set(l.store.keys.seen[o.part])
	o.bucket.b = strconv.AppendInt(o.bucket.b, int64(seenBucket(field, o.buckets)), 10)
	o.device = deviceHash(o.session.User, o.session.Device)
}

// encodeWrite adds what write.lua wants; more are keys that the script has besides.
func (o *op) encodeWrite(k *keys, sc *script, lease *lease, more ...any) {
	o.entry.set(o.session.User, "\x00", o.session.Device)
	o.mailKey.set(k.mail[o.part], o.session.User)
	o.conn.b = o.conn.b[:0]
	if o.kind != opEvict {
		o.conn.b = strconv.AppendUint(o.conn.b, o.session.Conn, 36)
	}
	o.add("evalsha", &sc.sha, 6+len(more), &o.user, &k.meta[o.part], &lease.index[o.part], &o.mailKey)
	o.add(more...)
	o.add(&k.feed[o.part], &k.hidden[o.part])
	o.add((*string)(&lease.epoch), &o.conn, &o.session.Device, &o.entry, &o.until, &k.index[o.part])
}

func (o *op) encodeSplit(k *keys) {
	from, modulus := splitBucket(o.buckets)
	o.index, o.modulus = from, modulus
	o.add("evalsha", &splitScript.sha, 3, &k.meta[o.part], k.seenKey(o.part, from), k.seenKey(o.part, o.buckets),
		&o.buckets, &o.index, &o.modulus)
}

func (o *op) add(args ...any) { o.args = append(o.args, args...) }

// splitBucket returns which bucket is split when there are n, and the modulus of the two that result.
func splitBucket(n int) (from, modulus int) {
	level := 1
	for 2*level <= n {
		level *= 2
	}
	return n - level, 2 * level
}
