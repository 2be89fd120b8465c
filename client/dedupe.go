package client

import (
	"context"
	"sync"
)

// defaultRemembered is how many handled messages are remembered. A server sends 500 unacknowledged ones of a mailbox at
// most, so what comes again is among the last of them.
const defaultRemembered = 4096

// Dedupe remembers by their ids which messages were handled, so that a message that comes again is acknowledged and not
// handled again. Handled is called before OnMessage, and SetHandled after it or, with [Config.ManualAck], by [Client.Ack];
// by several goroutines at once then. With an error, the message is not acknowledged and comes again.
type Dedupe interface {
	// Handled tells whether a message was handled before.
	Handled(ctx context.Context, msgID string) (bool, error)
	// SetHandled says that a message was handled. It need not remember it for longer than the server keeps messages, 7
	// days unless set otherwise.
	SetHandled(ctx context.Context, msgID string) error
}

// MemoryDedupe is a Dedupe in memory.
type MemoryDedupe struct {
	mu   sync.Mutex
	ids  map[string]struct{}
	ring []string // the ids, the oldest at next once it is full
	next int
	size int
}

// NewMemoryDedupe returns a Dedupe that remembers the last size messages, at least one; each takes about 150 bytes.
func NewMemoryDedupe(size int) *MemoryDedupe {
	return &MemoryDedupe{ids: map[string]struct{}{}, size: max(size, 1)}
}

// Handled implements [Dedupe].
func (d *MemoryDedupe) Handled(_ context.Context, msgID string) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.ids[msgID]
	return ok, nil
}

// SetHandled implements [Dedupe].
func (d *MemoryDedupe) SetHandled(_ context.Context, msgID string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.ids[msgID]; ok {
		return nil
	}
	d.ids[msgID] = struct{}{}
	if len(d.ring) < d.size {
		d.ring = append(d.ring, msgID)
		return nil
	}
	delete(d.ids, d.ring[d.next])
	d.ring[d.next] = msgID
	d.next = (d.next + 1) % d.size
	return nil
}
