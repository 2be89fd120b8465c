package store

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/imcluster/imcluster/presence/feed"
)

// That an epoch is dead must be a fact of the feed, and not be judged by each reader's look at the lease table: a watcher that
// resumes on another pod would miss what was judged in between. Whoever sees it first tells it in every partition, with a mark
// that refuses what the epoch still sends; from then on it cannot come back, whatever becomes of the table.

// deathInterval is how often presence pods look for epochs that have died.
func (c *Config) deathInterval() time.Duration { return min(250*time.Millisecond, c.LeaseTTL/10) }

// watchDeaths tells of epochs that have died, until ctx ends.
func (s *Store) watchDeaths(ctx context.Context) {
	w := &deathWatch{Store: s, told: map[Epoch]struct{}{}}
	for {
		if err := w.look(ctx); err != nil && ctx.Err() == nil {
			s.log.Debug("dead epochs could not be told of; trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(jitter(s.cfg.deathInterval())):
		}
	}
}

// deathWatch is the state of watchDeaths.
type deathWatch struct {
	*Store
	told map[Epoch]struct{} // and still in the table
}

func (w *deathWatch) look(ctx context.Context) error {
	lease := w.tableRequests(true)
	if err := w.exchange(ctx, lease.requests()...); err != nil {
		return err
	}
	t := w.table(lease)
	for e := range w.told {
		if _, ok := t.deadlines[e]; !ok {
			delete(w.told, e)
		}
	}
	for e := range t.deadlines {
		if _, told := w.told[e]; told || t.live(e) || t.records[e].reaped {
			continue
		}
		if err := w.markDead(ctx, t, e); err != nil {
			return err
		}
		w.told[e] = struct{}{}
	}
	return nil
}

// tellDeaths tells now of epochs that have died, for who cannot wait until presence pods look.
func (s *Store) tellDeaths(ctx context.Context) error {
	t, err := s.readTable(ctx)
	if err != nil {
		return fmt.Errorf("read the lease table: %w", err)
	}
	for e := range t.deadlines {
		if !t.live(e) && !t.records[e].reaped {
			if err := s.markDead(ctx, t, e); err != nil {
				return err
			}
		}
	}
	return nil
}

// markDead tells every partition that an epoch is dead, unless it was told.
func (s *Store) markDead(ctx context.Context, t *table, e Epoch) error {
	end := t.ended(e).UnixMilli()
	reqs := make([]*request, Partitions)
	for p := range reqs {
		reqs[p] = s.deadRequest(p, e, end, t.causeOf(e))
	}
	if err := s.exchange(ctx, reqs...); err != nil {
		return fmt.Errorf("mark epoch %s as dead: %w", e, err)
	}
	return nil
}

func (s *Store) deadRequest(part int, e Epoch, end int64, cause feed.Cause) *request {
	return eval(part, deadScript, []string{s.keys.meta[part], s.keys.feed[part]}, string(e), end, strconv.FormatInt(end, 36), string(cause))
}

// causeOf tells why an epoch is dead.
func (t *table) causeOf(e Epoch) feed.Cause {
	r, ok := t.records[e]
	switch {
	case !ok:
		return feed.CauseLost
	case r.renewable:
		return feed.CauseExpired
	case r.Draining:
		return feed.CauseLeft
	}
	return feed.CauseFenced
}

// markLost tells of epochs that only partitions know, in these: a settled table does not know them, and so they are dead.
func (s *Store) markLost(ctx context.Context, t *table, metas []*meta, sure func(Epoch) bool) error {
	var reqs []*request
	for p, m := range metas {
		for _, e := range m.known {
			_, dead := m.dead[e]
			if _, ok := t.deadlines[e]; ok || dead || !sure(e) {
				continue
			}
			reqs = append(reqs, s.deadRequest(p, e, t.ended(e).UnixMilli(), feed.CauseLost))
		}
	}
	if len(reqs) == 0 {
		return nil
	}
	if err := s.exchange(ctx, reqs...); err != nil {
		return fmt.Errorf("mark lost epochs as dead: %w", err)
	}
	return nil
}

// readMetas reads what all partitions say about themselves.
func (s *Store) readMetas(ctx context.Context) ([]*meta, error) {
	reqs := make([]*request, Partitions)
	for p := range reqs {
		reqs[p] = read(p, "hgetall", s.keys.meta[p])
	}
	if err := s.exchange(ctx, reqs...); err != nil {
		return nil, fmt.Errorf("read partitions: %w", err)
	}
	metas := make([]*meta, len(reqs))
	for p, r := range reqs {
		metas[p] = parseMeta(r.list())
	}
	return metas, nil
}
