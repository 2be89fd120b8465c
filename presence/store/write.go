package store

import (
	"context"
)

// write runs a script that may be repeated, and makes what it wrote as durable as messages are. The script must write
// something whenever it succeeds: WAIT is about the last write of its connection.
func (s *Store) write(ctx context.Context, q *request) error {
	if s.cfg.Durability != DurabilityReplicated {
		return s.exchange(ctx, q)
	}
	const attempts = 3
	for range attempts {
		wait := read(q.part, "wait", 1, replicaTimeout.Milliseconds())
		q.sent = 0
		if err := s.exchange(ctx, q, wait); err != nil {
			return err
		}
		if q.sent != wait.sent {
			continue // they were not sent together each time, so that the replica may have confirmed something else
		}
		if intOf(wait.text()) > 0 {
			return nil
		}
	}
	return errNotReplicated
}

// room tells whether there is memory for what is kept until it is deleted: groups are refused like messages.
func (s *Store) room(ctx context.Context, part int) error {
	n := s.servers.routes.Load().node[part]
	memory := &request{on: n, args: []any{"info", "memory"}}
	// Where INFO is forbidden it cannot be known, and whether Redis answers is seen by what follows.
	_ = s.exchange(ctx, memory)
	if n.full.Load() || memoryUse(memory.text()) >= s.cfg.MemoryLimit {
		return ErrStoreFull
	}
	return nil
}
