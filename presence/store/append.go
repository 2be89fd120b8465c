package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/cespare/xxhash/v2"
	"github.com/redis/go-redis/v9"
)

// Appends of one partition in a batch are one call of one script, whatever their users, because a call costs Redis 5 µs before
// it does anything. It happens whole or not at all, and if the reply is lost it is repeated, whole, before anything younger of
// the partition.

const (
	// maxRun is how many messages one call stores. All of them are in the ring of ids when the call is repeated, which
	// holds 127, unless others stored as many for the same user in between.
	maxRun = 64
	// planBytes is how many bytes describe a message to append.lua.
	planBytes = 19
	// replicaTimeout is how long a replica may take to confirm a batch.
	replicaTimeout = 500 * time.Millisecond
	// opOverhead is about how many bytes an append takes in the lane beside its data.
	opOverhead = 1 << 10
)

// dayLength is a day in ms.
const dayLength = 24 * 60 * 60 * 1000

var errNotReplicated = fmt.Errorf("%w: no replica confirmed the message", ErrUnavailable)

// mailOp is what ops on mailboxes have besides.
type mailOp struct {
	// Of an append.
	id      [16]byte
	sender  uint16
	data    arg  // the caller's
	unsure  bool // it may be stored: an attempt had no answer, or no replica confirmed it
	lead    *op  // the first op of the same user in the call
	content byte // which content of the call, from 1; 128 more if it is a whole record
	shared  bool // of the first op with a content: another has the same
	// Of the first op of a user: what the reply said, not yet told to the others.
	statuses string
	next     uint64
	// What the reply said of this one.
	status  byte // n new, d duplicate, f full
	seq     uint64
	tail    uint64
	holders []Holder
	settled bool // all holders are on epochs that the lease table knows, and live

	appended func(Appended, error)
	peeked   func(uint64, []Holder, error)
	acked    func(error)
	upTo     uint64
	day      int64
}

// Append stores a message for a user, behind everything that was queued for the user before. done is called once, perhaps
// before Append returns, without locks, and must not block. Its error is ErrUnavailable if the outcome is unknown: the
// message may have been stored, or be stored yet, once. After ErrStoreFull and ErrMailboxFull it was not stored.
func (m *Member) Append(user string, msg *Record, done func(Appended, error)) {
	l, part := m.lanes, Partition(user)
	size := int64(len(msg.Data) + opOverhead)
	switch {
	case m.store.servers.routes.Load().node[part].full.Load():
		done(Appended{}, fmt.Errorf("append: %w", ErrStoreFull))
		return
	case l.queued.Add(size) > maxQueued:
		l.queued.Add(-size)
		done(Appended{}, fmt.Errorf("append: %w: too much waits for it", ErrUnavailable))
		return
	}
	o := newOp(opAppend, part, Session{User: user})
	o.deadline = o.queued.Add(m.store.cfg.OpTimeout)
	o.mail.id, o.mail.data.b, o.mail.appended = msg.ID, msg.Data, done
	o.mail.sender = senderMark(msg.Sender)
	o.finish = finishAppend
	l.push(o)
}

// senderMark is what the ring of a mailbox keeps of a sender: two bytes are enough to tell senders apart. Zero is nobody's.
func senderMark(sender string) uint16 {
	if sender == "" {
		return 0
	}
	return uint16(xxhash.Sum64String(sender)%0xffff) + 1 //nolint:gosec // at most 0xffff
}

func finishAppend(l *lanes, o *op, _ any, err error) {
	mail := &o.mail
	done, settled, full := mail.appended, mail.settled, mail.status == 'f'
	result := Appended{Seq: mail.seq, Duplicate: mail.status == 'd', Tail: mail.tail, Holders: mail.holders}
	l.queued.Add(-int64(len(mail.data.b) + opOverhead))
	o.free()
	if err == nil && full {
		err = ErrMailboxFull
	}
	switch {
	case err != nil:
		done(Appended{}, fmt.Errorf("append: %w", err))
	case settled:
		done(result, nil)
	default:
		l.member.settleLater(result, done)
	}
}

// settleLater ends an append when the lease table tells which holders are on live epochs.
func (m *Member) settleLater(result Appended, done func(Appended, error)) {
	m.located(slices.Clone(result.Holders), func(live []Holder, _ error) {
		result.Holders = live
		done(result, nil)
	})
}

// appends are the calls of append.lua in a worker's batch.
type appends struct {
	runs  []*run // those in use are the first
	used  int
	now   int64   // unix ms by the node's clock
	time  [4]byte // the same in s
	stamp stamp
	// confirmed: as many replicas as were asked for have the batch.
	confirmed bool
}

// run is one call of append.lua.
type run struct {
	ops   []*op
	leads []*op // one for each user
	// contents are ops with different data.
	contents []*op
	args     []any
	cmd      *redis.Cmd

	keys, count int
	time        arg
	room, share int
	replicated  int
	kept        int64
}

// beginAppends readies a worker for the appends of the next batch.
func (w *worker) beginAppends() {
	w.used, w.now = 0, w.node.now()
	binary.BigEndian.PutUint32(w.time[:], uint32(w.now/1000)) //nolint:gosec // until 2106
	w.stamp.node, w.stamp.day = w.node, w.now/dayLength
}

// stamp is the argument that tells a mailbox when it has to be tended: "<day>.<run of the server>". It is made when it is
// written, since a new connection, perhaps to a server that has restarted, is made just before.
type stamp struct {
	node *node
	day  int64
	text []byte
}

// MarshalBinary is how the client library asks for the bytes.
func (s *stamp) MarshalBinary() ([]byte, error) {
	s.text = append(strconv.AppendInt(s.text[:0], s.day, 10), '.')
	if run := s.node.run.Load(); run != nil {
		s.text = append(s.text, *run...)
	}
	return s.text, nil
}

// nextRun takes the appends of one partition from the front of ops.
func (w *worker) nextRun(ops []*op) *run {
	if w.used == len(w.runs) {
		w.runs = append(w.runs, &run{})
	}
	r := w.runs[w.used]
	w.used++
	n := 1
	for n < len(ops) && ops[n].kind == opAppend && ops[n].part == ops[0].part {
		n++
	}
	r.ops = append(r.ops[:0], ops[:n]...)
	return r
}

// encode builds the arguments of a call.
func (r *run) encode(l *lanes, w *worker) []any {
	k, cfg := l.store.keys, &l.store.cfg
	r.leads, r.contents, r.args = r.leads[:0], r.contents[:0], r.args[:0]
	for _, o := range r.ops {
		o.sent = true
		o.mail.content = r.contentOf(o)
	}
	for _, o := range r.ops {
		first := r.contents[o.mail.content-1]
		if !first.mail.shared {
			o.mail.content |= 128
		}
		lead := r.leadOf(o)
		if lead == o {
			o.user.set(k.user[o.part], o.session.User)
			o.mailKey.set(k.mail[o.part], o.session.User)
			o.ring.set(k.ring[o.part], o.session.User)
			o.bucket.b = o.bucket.b[:0]
		}
		o.mail.lead = lead
		lead.bucket.b = append(lead.bucket.b, o.mail.id[:]...)
		lead.bucket.b = binary.BigEndian.AppendUint16(lead.bucket.b, o.mail.sender)
		lead.bucket.b = append(lead.bucket.b, o.mail.content)
	}
	r.keys, r.count, r.time.b = 3*len(r.leads), len(r.contents), w.time[:]
	r.room, r.share, r.kept = cfg.Mailbox.MaxBytes, cfg.Mailbox.MaxBytes/cfg.Mailbox.MaxMessages, cfg.Mailbox.Retention.Milliseconds()
	r.args = append(r.args, "evalsha", &appendScript.sha, &r.keys)
	for _, lead := range r.leads {
		r.args = append(r.args, &lead.user, &lead.mailKey, &lead.ring)
	}
	r.replicated = 0
	if cfg.Durability == DurabilityReplicated {
		r.replicated = 1
	}
	r.args = append(r.args, &w.now, &r.time, &w.stamp, &r.room, &r.share, &r.kept, &r.replicated, &r.count)
	for _, o := range r.contents {
		if o.mail.shared {
			r.args = append(r.args, &o.mail.data)
			continue
		}
		o.entry.b = append(append(append(o.entry.b[:0], o.mail.id[:]...), w.time[:]...), o.mail.data.b...)
		r.args = append(r.args, &o.entry)
	}
	for _, lead := range r.leads {
		r.args = append(r.args, &lead.bucket)
	}
	return r.args
}

// contentOf returns which content of the call is that of an op; a message to a group is sent to Redis once for all members
// in a partition.
func (r *run) contentOf(o *op) byte {
	for i, c := range r.contents {
		if len(c.mail.data.b) == len(o.mail.data.b) && unsafe.SliceData(c.mail.data.b) == unsafe.SliceData(o.mail.data.b) {
			c.mail.shared = true
			return byte(i + 1)
		}
	}
	o.mail.shared = false
	r.contents = append(r.contents, o)
	return byte(len(r.contents))
}

// leadOf returns the first op of the same user in the call.
func (r *run) leadOf(o *op) *op {
	for _, lead := range r.leads {
		if lead.session.User == o.session.User {
			return lead
		}
	}
	r.leads = append(r.leads, o)
	return o
}

var errBadReply = errors.New("append.lua: unexpected reply")

// endAppends tells each op what the replies said of it, before the first is finished.
func (w *worker) endAppends(v *view, wait *redis.Cmd) {
	w.confirmed = true
	if wait != nil {
		n, err := wait.Int()
		w.confirmed = err == nil && n > 0
	}
	for _, r := range w.runs[:w.used] {
		for _, o := range r.ops {
			o.cmd = r.cmd
		}
		if r.cmd.Err() != nil {
			continue
		}
		if reply, ok := r.cmd.Val().(string); !ok || !r.parse(reply, v) {
			r.cmd.SetErr(errBadReply)
		}
	}
}

// parse reads "<tail> <status of each>" and pairs of lines of sessions for each user.
func (r *run) parse(reply string, v *view) bool {
	for _, lead := range r.leads {
		one, rest, _ := strings.Cut(reply, "\x01")
		reply = rest
		head, sessions, _ := strings.Cut(one, "\n")
		tail, status, ok := strings.Cut(head, " ")
		if !ok || len(status)*planBytes != len(lead.bucket.b) {
			return false
		}
		mail := &lead.mail
		mail.statuses, mail.tail = status, seqOf(tail)
		mail.next = mail.tail + 1 - uint64(strings.Count(status, "n")) //nolint:gosec // a count
		mail.holders = parseHolders(sessions)
		mail.holders, mail.settled = v.settle(mail.holders)
	}
	for _, o := range r.ops {
		lead, mail := &o.mail.lead.mail, &o.mail
		mail.status, lead.statuses = lead.statuses[0], lead.statuses[1:]
		if mail.seq = 0; mail.status == 'n' {
			mail.seq = lead.next
			lead.next++
		}
		mail.tail, mail.holders, mail.settled = lead.tail, lead.holders, lead.settled
	}
	return true
}

// judgeAppend decides what becomes of an append by its reply. Whoever is told that a message was not stored is told so only
// if no attempt can have stored it.
func (w *worker) judgeAppend(o *op, f failure, err error) (verdict, error) {
	mail := &o.mail
	switch f {
	case success:
		if w.confirmed {
			return finished, nil
		}
		// Stored here, but for all that is known not elsewhere. The next attempt finds a duplicate, and waits again.
		mail.unsure, o.err = true, errNotReplicated
		return retrySlower, nil
	case outOfMemory:
		if mail.unsure {
			return retrySlower, nil
		}
		return finished, ErrStoreFull
	case fatal:
		return finished, err
	case moved, migrating:
		return retryHeld, nil
	case noScript:
		return retry, nil
	case connection:
		mail.unsure = true
	}
	return retrySlower, nil
}

// seqOf reads a number that a script wrote; 0 if it is none.
func seqOf(text string) uint64 {
	n, _ := strconv.ParseUint(text, 10, 64)
	return n
}

// parseHolders reads pairs of lines: the field of a session and its value.
func parseHolders(lines string) []Holder {
	if lines == "" {
		return nil
	}
	list := make([]Holder, 0, (strings.Count(lines, "\n")+1)/2)
	for lines != "" {
		var field, value string
		field, lines, _ = strings.Cut(lines, "\n")
		value, lines, _ = strings.Cut(lines, "\n")
		if e, ok := parseEntry(value); ok && field != "" {
			list = append(list, Holder{Epoch: e.epoch, Conn: e.conn, Device: field[1:], Platform: e.platform, Since: e.since})
		}
	}
	return list
}
