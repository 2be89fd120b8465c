package store

import (
	"context"
	"fmt"
	"time"
)

// A mailbox holds the messages of one user until every known device has acknowledged them. Messages are numbered in the
// order in which they were accepted; no number is ever used twice, whatever Redis loses. A known device is one that is
// connected or was within [MailboxConfig.Retention]; each has a cursor, the number up to which it has acknowledged.

// Record is a message to append.
type Record struct {
	// ID identifies the message: of two with the same id the second is a duplicate, and not stored.
	ID [16]byte
	// Sender is counted against when a mailbox is full.
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
	// Time is when it was stored, by Redis' clock.
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
	// Next > Tail nothing waits. Both are 0 if there is no mailbox yet: then any number may come first.
	Next, Tail uint64
	// Missed is how many messages that were due to this device were dropped before Next.
	Missed int
}

// Append stores a message for a user, behind everything that was queued for the user before. done is called once, perhaps
// before Append returns, holds no locks and must not block. Its error is ErrUnavailable if the outcome is unknown: the
// message may have been stored, or be stored yet, once. After ErrStoreFull and ErrMailboxFull it was not stored.
func (m *Member) Append(user string, msg *Record, done func(Appended, error)) {
	done(Appended{}, fmt.Errorf("append: %w", ErrUnavailable))
}

// Peek tells the newest number of a mailbox, and where the user is. It is for messages whose append ended with
// ErrUnavailable: it is ordered behind them, and waits through any outage. done is called as by [Member.Append].
// ErrUnavailable means that too many wait already.
func (m *Member) Peek(user string, done func(tail uint64, holders []Holder, err error)) {
	done(0, nil, fmt.Errorf("peek: %w", ErrUnavailable))
}

// Ack notes that the session's device has acknowledged every message up to seq. It waits through any outage, in order with
// what is queued for the user. done is called as by [Member.Append].
func (m *Member) Ack(s Session, seq uint64, done func(error)) {
	done(fmt.Errorf("ack: %w", ErrUnavailable))
}

// Read reads a mailbox from a number on: up to limit records, and up to so many bytes of data, but one record at least.
func (m *Member) Read(ctx context.Context, user string, from uint64, limit, bytes int) (Mail, error) {
	return Mail{}, fmt.Errorf("read: %w", ErrUnavailable)
}

// Tails tells the newest number of each mailbox, 0 where there is none. It may be too high if the mailbox is being emptied.
func (m *Member) Tails(ctx context.Context, users []string) ([]uint64, error) {
	return nil, fmt.Errorf("tails: %w", ErrUnavailable)
}
