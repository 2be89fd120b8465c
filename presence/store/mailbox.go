package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"time"
)

// A mailbox holds the messages of one user until every known device has acknowledged them. Messages are numbered in the
// order in which they were accepted; no number is ever used twice, whatever Redis loses. A known device is one that is
// connected or was within [MailboxConfig.Retention]; each has a cursor, the number up to which it has acknowledged.

// Record is a message to append.
type Record struct {
	// ID identifies the message: of two with the same id the second is a duplicate, and not stored.
	ID [16]byte
	// Sender is counted against when a mailbox is full. Without one, room is made for the message in any case.
	Sender string
	// Data is opaque, and not changed until the append is done; records with the same Data may share it.
	Data []byte
}

// Appended is what became of a message.
type Appended struct {
	// Seq is the number of the message; 0 for a duplicate, whose number is not known.
	Seq       uint64
	Duplicate bool
	// Tail is the number of the newest message of the mailbox.
	Tail uint64
	// Holders are the user's sessions on live epochs as they were when the message was stored. A session that is
	// registered later finds the message in its mailbox.
	Holders []Holder
}

// StoredRecord is a message in a mailbox.
type StoredRecord struct {
	ID [16]byte
	// Time is when it was stored, by Redis' clock, in whole seconds.
	Time time.Time
	Data []byte
}

// Mail is a part of a mailbox.
type Mail struct {
	// First is the number of the first record; the others follow without a gap. It may be lower than asked for if Redis
	// went back to an older state: numbers are never used again, but those given out since are forgotten.
	First   uint64
	Records []StoredRecord
	// Tail is the number of the newest message; below First if there is none from First on.
	Tail uint64
	// Missed is how many messages between the one asked for and First were dropped, because the mailbox was full or they
	// were too old.
	Missed int
}

// Login is the outcome of a registration.
type Login struct {
	// Previous is the session that was replaced, if any: close it with KICKED on the gateway that [Member.Peer] of its
	// epoch names.
	Previous *Holder
	// Since is the login time by Redis' clock; keep it in the session.
	Since time.Time
	// Next is the number of the first message that is due to this device, and Tail that of the newest in the mailbox: if
	// Next > Tail nothing waits. They are 1 and 0 if there is no mailbox yet; numbers do not begin with 1.
	Next, Tail uint64
	// Missed is how many messages that were due to this device were dropped before Next.
	Missed int
	// Status is that of the user from now on.
	Status Status
	// StatusSet is when it was set, unix ms; 0 if nobody has set any.
	StatusSet int64
	// Gateways are those, but for the caller, that have sessions of the user, if the login set a status: tell them, as those
	// of a [StatusChange].
	Gateways []Epoch
}

// Peek tells the newest number of a mailbox, and where the user is. It is for messages whose append ended with
// ErrUnavailable: it is ordered behind them, and waits through any outage. done is called as by [Member.Append].
// ErrUnavailable means that too many wait already; then [Local.Suspect] is called when Redis answers.
func (m *Member) Peek(user string, done func(tail uint64, holders []Holder, err error)) {
	l := m.lanes
	if l.peeks.Add(1) > maxPeeks {
		l.peeks.Add(-1)
		l.notePeekRefused(Partition(user))
		done(0, nil, fmt.Errorf("peek: %w: too much waits for it", ErrUnavailable))
		return
	}
	o := newOp(opPeek, Partition(user), Session{User: user})
	o.mail.peeked, o.finish = done, finishPeek
	l.push(o)
}

func finishPeek(l *lanes, o *op, reply any, err error) {
	done := o.mail.peeked
	o.free()
	l.peeks.Add(-1)
	if err != nil {
		done(0, nil, fmt.Errorf("peek: %w", err))
		return
	}
	head, sessions, _ := strings.Cut(textOf(reply), "\n")
	l.member.located(parseHolders(sessions), func(live []Holder, err error) { done(seqOf(head), live, err) })
}

// Ack notes that the session's device has acknowledged every message up to seq. It waits through any outage, in order with
// what is queued for the user. done is called as by [Member.Append].
func (m *Member) Ack(s Session, seq uint64, done func(error)) {
	o := newOp(opAck, Partition(s.User), s)
	o.mail.upTo, o.mail.acked, o.finish = seq, done, finishAck
	m.lanes.push(o)
}

func finishAck(_ *lanes, o *op, _ any, err error) {
	done := o.mail.acked
	o.free()
	if err != nil {
		err = fmt.Errorf("ack: %w", err)
	}
	done(err)
}

// encodeMail builds the arguments of a peek or an ack.
func (o *op) encodeMail(l *lanes) {
	cfg := &l.store.cfg.Mailbox
	o.mailKey.set(l.store.keys.mail[o.part], o.session.User)
	if o.kind == opPeek {
		o.add("evalsha", &peekScript.sha, 2, &o.user, &o.mailKey)
		return
	}
	o.mail.day = l.store.servers.routes.Load().node[o.part].now() / dayLength
	o.add("evalsha", &ackScript.sha, 2, &o.user, &o.mailKey,
		&o.session.Device, &o.mail.upTo, &o.mail.day, cfg.MaxBytes/cfg.MaxMessages)
}

// Read reads a mailbox for a device from a number on, leaving out what the device has acknowledged: that may be under
// another number, if the mailbox was renumbered. It returns up to limit records, and up to so many bytes of data, but one
// record at least. It goes around the lanes: what was appended before it was called, and is done, is there. Errors: ErrUnavailable.
func (m *Member) Read(ctx context.Context, user, device string, from uint64, limit, bytes int) (Mail, error) {
	s, part := m.store, Partition(user)
	r := eval(part, readScript, []string{s.keys.userKey(part, user), s.keys.mailKey(part, user)}, from, max(1, limit), bytes, device)
	if err := s.exchange(ctx, r); err != nil {
		return Mail{}, fmt.Errorf("read mailbox: %w", err)
	}
	list := r.list()
	if len(list) < 3 {
		return Mail{}, fmt.Errorf("read mailbox: unexpected reply %v", r.cmd.Val())
	}
	mail := Mail{First: seqOf(textOf(list[0])), Tail: seqOf(textOf(list[1])), Missed: int(seqOf(textOf(list[2])))}
	oldest := s.servers.routes.Load().node[part].now() - s.cfg.Mailbox.Retention.Milliseconds()
	for _, v := range list[3:] {
		record, ok := parseRecordOf(textOf(v))
		if !ok {
			return Mail{}, fmt.Errorf("read mailbox: a record of %d bytes", len(textOf(v)))
		}
		if len(mail.Records) == 0 && record.Time.UnixMilli() < oldest {
			mail.First++
			mail.Missed++
			continue
		}
		mail.Records = append(mail.Records, record)
	}
	return mail, nil
}

// recordHead is how many bytes of a stored record come before its data: the id and the time.
const recordHead = 16 + 4

func parseRecordOf(text string) (r StoredRecord, ok bool) {
	if len(text) < recordHead {
		return r, false
	}
	copy(r.ID[:], text)
	data := []byte(text[16:])
	r.Time, r.Data = time.Unix(int64(binary.BigEndian.Uint32(data)), 0), data[4:]
	return r, true
}

// Tails tells the newest number of each mailbox, 0 where there is none, in one pipeline for each node.
// Errors: ErrUnavailable; then the mailboxes that could be read are told all the same, and the others as if there were none.
func (m *Member) Tails(ctx context.Context, users []string) ([]uint64, error) {
	if len(users) == 0 {
		return nil, nil
	}
	k := m.store.keys
	reqs := make([]*request, len(users))
	for i, user := range users {
		part := Partition(user)
		reqs[i] = eval(part, peekScript, []string{k.userKey(part, user), k.mailKey(part, user)})
	}
	err := m.store.exchange(ctx, reqs...)
	if err != nil {
		err = fmt.Errorf("read tails: %w", err)
	}
	tails := make([]uint64, len(users))
	for i, r := range reqs {
		tail, _, _ := strings.Cut(r.text(), "\n")
		tails[i] = seqOf(tail)
	}
	return tails, err
}
