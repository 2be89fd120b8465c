package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// Keep tends the model until ctx ends; every presence pod runs it. Four times a second it looks for epochs that have died, and
// tells so in the feed. Once a second it advances store time, removes the sessions of such epochs and forgets who was last seen
// too long ago. All of it can be done by several at once and be interrupted anywhere; answers from Redis do not depend on it, but
// for the advance of store time when no gateway is left to advance it. It returns nil when ctx ends, ErrForeignOwner or ErrIncompatible when the keys are not ours any more.
func (s *Store) Keep(ctx context.Context) error {
	k := &keeper{Store: s, orphans: map[Epoch]time.Time{}, part: rand.IntN(Partitions)}
	var deaths sync.WaitGroup
	defer deaths.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	deaths.Go(func() { s.watchDeaths(ctx) })
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		err := k.tick(ctx)
		switch {
		case errors.Is(err, ErrForeignOwner), errors.Is(err, ErrIncompatible):
			return fmt.Errorf("keep: %w", err)
		case err != nil && ctx.Err() == nil:
			s.log.Debug("the presence model could not be tended; trying again", "error", err)
		}
		timer.Reset(jitter(s.cfg.interval()))
	}
}

// keeper is the state of Keep.
type keeper struct {
	*Store
	// orphans are epochs that partitions know and the lease table does not, and since when.
	orphans    map[Epoch]time.Time
	searchedAt time.Time
	searched   string // the generation of the table that was settled when they were searched for
	// last is the lease table of the last look.
	last *table
	// part and bucket are where forgetting goes on.
	part, bucket int
}

func (k *keeper) tick(ctx context.Context) error {
	k.servers.follow(ctx)
	if _, err := k.tableCall(ctx, stepScript, banTTL.Milliseconds()); err != nil {
		return fmt.Errorf("advance store time: %w", err)
	}
	t, err := k.readTable(ctx)
	if err != nil {
		return fmt.Errorf("read the lease table: %w", err)
	}
	var failures []error
	for e, deadline := range t.deadlines {
		if deadline <= t.now {
			failures = append(failures, k.bury(ctx, t, e))
		}
	}
	failures = append(failures, k.restore(ctx, t), k.adoptOrphans(ctx, t), k.forget(ctx, t))
	return errors.Join(failures...)
}

// bury removes what a dead epoch left: its sessions at once; its record and its marks when everything that it may have sent
// has long been refused by its deadline.
func (k *keeper) bury(ctx context.Context, t *table, e Epoch) error {
	r := t.records[e]
	forget := t.now >= max(t.deadlines[e], r.renewed)+2*t.ttl
	if r.reaped && !forget {
		return nil
	}
	if !r.reaped {
		if err := k.markDead(ctx, t, e); err != nil {
			return err
		}
	}
	if err := k.reap(ctx, e); err != nil {
		return fmt.Errorf("reap epoch %s: %w", e, err)
	}
	arg := "0"
	if forget {
		if err := k.unmark(ctx, e); err != nil {
			return fmt.Errorf("forget epoch %s: %w", e, err)
		}
		arg = "1"
	} else {
		k.log.Info("a gateway has died and its sessions are ended", "epoch", e, "pod", r.PodName)
	}
	_, err := k.tableCall(ctx, buriedScript, string(e), arg)
	return err
}

// unmark removes the marks of an epoch from every partition.
func (k *keeper) unmark(ctx context.Context, e Epoch) error {
	reqs := make([]*request, Partitions)
	for p := range reqs {
		reqs[p] = read(p, "hdel", k.keys.meta[p], doneField+string(e), fencedField+string(e))
	}
	return k.exchange(ctx, reqs...)
}

// orphanAge is for how long an epoch must be missing from the lease table before it is told to be dead: one that is about to
// join marks the partitions first.
func (c *Config) orphanAge() time.Duration { return min(2*time.Second, c.LeaseTTL/5) }

// adoptOrphans buries epochs that only partitions know, because the lease table was lost and they never came back. They are told
// to be dead as soon as the table is settled, and forgotten when they have been missing for two lease TTLs.
func (k *keeper) adoptOrphans(ctx context.Context, t *table) error {
	ttl := k.cfg.LeaseTTL
	if !t.present || time.Since(k.searchedAt) < ttl && len(k.orphans) == 0 && k.searched == t.gen {
		return nil
	}
	metas, err := k.readMetas(ctx)
	if err != nil {
		return fmt.Errorf("search for orphans: %w", err)
	}
	k.searchedAt = time.Now()
	found := map[Epoch]time.Time{}
	for _, m := range metas {
		for _, e := range m.known {
			if _, ok := t.deadlines[e]; ok {
				continue
			}
			found[e] = k.searchedAt
			if since, ok := k.orphans[e]; ok {
				found[e] = since
			}
		}
	}
	k.orphans = found
	if !t.settled() {
		return nil
	}
	k.searched = t.gen
	if err := k.markLost(ctx, t, metas, func(e Epoch) bool { return time.Since(found[e]) >= k.cfg.orphanAge() }); err != nil {
		return err
	}
	for e, since := range found {
		if time.Since(since) < 2*ttl {
			continue
		}
		if err := k.reap(ctx, e); err != nil {
			return fmt.Errorf("reap orphan %s: %w", e, err)
		}
		if err := k.unmark(ctx, e); err != nil {
			return fmt.Errorf("forget orphan %s: %w", e, err)
		}
		delete(k.orphans, e)
	}
	return nil
}
