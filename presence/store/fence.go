package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// banTTL is how long a ban lasts: far longer than a process outlives its pod.
const banTTL = 24 * time.Hour

// Fence ends leases: they are cut to the last renewal plus the grace and cannot be renewed, and what their holders still
// send is refused. Pods whose UIDs are banned cannot join, and what they hold is ended too. Fencing is idempotent: after an
// error, do it again. fenced are the epochs that the lease table knew, unknown the others.
func (s *Store) Fence(ctx context.Context, epochs []Epoch, banPodUIDs []string) (fenced, unknown []Epoch, err error) {
	args := []any{s.cfg.Grace.Milliseconds(), len(epochs)}
	for _, e := range epochs {
		args = append(args, string(e))
	}
	for _, uid := range banPodUIDs {
		args = append(args, uid)
	}
	reply, err := s.tableCall(ctx, fenceScript, args...)
	if err != nil {
		return nil, nil, fmt.Errorf("fence: %w", err)
	}
	for _, e := range epochs {
		if slices.Contains(reply.epochs, e) {
			fenced = append(fenced, e)
		} else {
			unknown = append(unknown, e)
		}
	}
	if err := s.markFenced(ctx, fenced); err != nil {
		return nil, nil, fmt.Errorf("fence: mark partitions: %w", err)
	}
	s.log.Info("fenced", "epochs", fenced, "unknown", unknown, "banned", banPodUIDs)
	return fenced, unknown, nil
}

// markFenced has every partition refuse writes of epochs.
func (s *Store) markFenced(ctx context.Context, epochs []Epoch) error {
	if len(epochs) == 0 {
		return nil
	}
	reqs := make([]*request, 0, Partitions*len(epochs))
	for p := range Partitions {
		for _, e := range epochs {
			// That it is dead already is not forgotten.
			reqs = append(reqs, read(p, "hsetnx", s.keys.meta[p], fencedField+string(e), "1"))
		}
	}
	return s.exchange(ctx, reqs...)
}

// Incarnations returns the gateways of the lease table, sorted by pod name and epoch. degraded is true while some that are
// alive may be missing.
func (s *Store) Incarnations(ctx context.Context) (list []Incarnation, degraded bool, err error) {
	t, err := s.readTable(ctx)
	if err != nil {
		return nil, true, fmt.Errorf("read the lease table: %w", err)
	}
	for e, deadline := range t.deadlines {
		if e.External() {
			continue
		}
		r := t.records[e]
		list = append(list, Incarnation{
			Epoch: e, PodName: r.PodName, PodUID: r.podUID, Address: r.Address, Draining: r.Draining,
			LeaseRemaining: time.Duration(deadline-t.now) * time.Millisecond, Sessions: r.Sessions,
		})
	}
	slices.SortFunc(list, func(a, b Incarnation) int {
		return cmp.Or(cmp.Compare(a.PodName, b.PodName), cmp.Compare(a.Epoch, b.Epoch))
	})
	return list, !t.settled(), nil
}
