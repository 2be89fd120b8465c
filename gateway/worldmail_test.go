package gateway

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/imcluster/imcluster/presence/store"
)

// worldBox is a mailbox in memory. It has no cap.
type worldBox struct {
	first   uint64
	records []store.StoredRecord
	cursors map[string]uint64 // by device
	acks    int               // writes of cursors
	old     int               // how many of the first messages are too old to be read
}

// worldOrigin is the number of the first message of each mailbox.
const worldOrigin = 1000

func (b *worldBox) tail() uint64 { return b.first + uint64(len(b.records)) - 1 }

// next is the number of the first message that is due to a device.
func (b *worldBox) next(device string) uint64 { return max(b.first, b.cursors[device]+1) }

// drop drops the oldest messages of a mailbox.
func (w *world) drop(user string, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.boxes[user]
	b.first, b.records = b.first+uint64(n), b.records[n:]
}

// fill puts messages into a mailbox, with 0, 1, 2… as their content, of which nobody is told.
func (w *world) fill(t testing.TB, user string, n int) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	deaf := w.deaf
	w.deaf = true
	for i := range n {
		rec := record{from: "s", content: []byte(strconv.Itoa(i))}
		if _, err := w.appendLocked(user, &store.Record{ID: messageID(uuid.New()), Data: rec.encode()}); err != nil {
			t.Fatal(err)
		}
	}
	w.deaf = deaf
}

// set changes how the registry behaves.
func (w *world) set(change func(*world)) {
	w.mu.Lock()
	change(w)
	w.mu.Unlock()
}

// cursor returns how many messages of a user's mailbox a device has acknowledged.
func (w *world) cursor(user, device string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.boxes[user]
	if b == nil {
		return 0
	}
	return int(b.next(device) - worldOrigin)
}

// worldLane calls functions in order, one at a time, also if one of them calls another.
type worldLane struct {
	mu      sync.Mutex
	queue   []func()
	running bool
}

func (l *worldLane) run(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = append(l.queue, f)
	if l.running {
		return
	}
	for l.running = true; len(l.queue) > 0; {
		f := l.queue[0]
		l.queue = l.queue[1:]
		l.mu.Unlock()
		f()
		l.mu.Lock()
	}
	l.running = false
}

func (m *worldMember) Append(user string, msg *store.Record, done func(store.Appended, error)) {
	m.w.mu.Lock()
	a, err := m.w.appendLocked(user, msg)
	if m.w.unsure {
		a, err = store.Appended{}, fmt.Errorf("append: %w", store.ErrUnavailable)
	}
	m.w.mu.Unlock()
	m.lane.run(func() { done(a, err) })
}

func (w *world) appendLocked(user string, msg *store.Record) (a store.Appended, err error) {
	if a.Holders, err = w.holdersLocked(user); err != nil {
		return a, err
	}
	if w.deaf {
		a.Holders = nil
	}
	if w.forgetful {
		a.Seq, a.Tail = 1, 1
		return a, nil
	}
	b := w.boxes[user]
	if b == nil {
		b = &worldBox{first: worldOrigin, cursors: map[string]uint64{}}
		w.boxes[user] = b
	}
	if slices.ContainsFunc(b.records, func(r store.StoredRecord) bool { return r.ID == msg.ID }) {
		a.Duplicate, a.Tail = true, b.tail()
		return a, nil
	}
	b.records = append(b.records, store.StoredRecord{ID: msg.ID, Data: msg.Data})
	a.Seq, a.Tail = b.tail(), b.tail()
	return a, nil
}

func (m *worldMember) Peek(user string, done func(uint64, []store.Holder, error)) {
	m.w.mu.Lock()
	holders, err := m.w.holdersLocked(user)
	var tail uint64
	if b := m.w.boxes[user]; b != nil {
		tail = b.tail()
	}
	m.w.mu.Unlock()
	m.lane.run(func() { done(tail, holders, err) })
}

func (m *worldMember) Read(_ context.Context, user, _ string, from uint64, limit, _ int) (store.Mail, error) {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	if m.w.down {
		return store.Mail{}, fmt.Errorf("read: %w", store.ErrUnavailable)
	}
	b := m.w.boxes[user]
	if b == nil {
		return store.Mail{}, nil
	}
	mail := store.Mail{First: max(from, b.first), Tail: b.tail()}
	if from < b.first {
		mail.Missed = int(b.first - max(from, worldOrigin))
	}
	if mail.First <= mail.Tail {
		records := b.records[mail.First-b.first:]
		mail.Records = slices.Clone(records[:min(limit, len(records))])
		for len(mail.Records) > 0 && mail.First < b.first+uint64(b.old) {
			mail.Records = mail.Records[1:]
			mail.First++
			mail.Missed++
		}
	}
	return mail, nil
}

func (m *worldMember) Ack(s store.Session, seq uint64, done func(error)) {
	m.w.mu.Lock()
	if b := m.w.boxes[s.User]; b != nil {
		b.cursors[s.Device] = max(b.cursors[s.Device], seq)
		b.acks++
	}
	m.w.mu.Unlock()
	m.lane.run(func() { done(nil) })
}

func (m *worldMember) Tails(_ context.Context, users []string) ([]uint64, error) {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	if m.w.down {
		return nil, fmt.Errorf("tails: %w", store.ErrUnavailable)
	}
	tails := make([]uint64, len(users))
	for i, u := range users {
		if b := m.w.boxes[u]; b != nil {
			tails[i] = b.tail()
		}
	}
	return tails, nil
}
