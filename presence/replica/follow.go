package replica

import (
	"context"
	"time"

	"github.com/imcluster/imcluster/presence/feed"
	"github.com/imcluster/imcluster/presence/store"
)

const (
	// pollPause is the time between two polls. A poll costs Redis 0.1 ms.
	pollPause = 50 * time.Millisecond
	// pollTimeout bounds a poll. It is short because one node that does not answer holds up what the others have to tell.
	pollTimeout = 300 * time.Millisecond
	// loadAtOnce is how many partitions are loaded at a time, so that the reads of others get their turn in between.
	loadAtOnce = 16
	// loadPause is the least time between two loads of a partition whose gateways have not all registered yet.
	loadPause = 200 * time.Millisecond
)

// follower keeps the fold: it is the goroutine of Run, the only one to change partitions and names.
type follower struct {
	*Replica
	feed  Feed
	heads *store.Heads

	// staged are partitions that were loaded and do not have all facts yet; nobody else sees them.
	staged [store.Partitions]*partition
	// loadAt is when a partition may be loaded, zero: at once.
	loadAt  [store.Partitions]time.Duration
	loading bool
	wanted  chan []int
	loaded  chan []store.Loaded
}

func newFollower(r *Replica, of Feed) *follower {
	return &follower{Replica: r, feed: of, wanted: make(chan []int, 1), loaded: make(chan []store.Loaded, 1)}
}

func (f *follower) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case list := <-f.loaded:
			f.stage(list)
			continue
		case <-timer.C:
		}
		f.poll(ctx)
		timer.Reset(pollPause)
	}
}

// loadLoop loads what is wanted, one request at a time: meanwhile the follower goes on with the other partitions.
func (f *follower) loadLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case parts := <-f.wanted:
			list, err := f.feed.Load(ctx, parts)
			if len(list) != len(parts) { // nothing could be asked
				list = make([]store.Loaded, len(parts))
				for i, p := range parts {
					list[i].Part, list[i].Err = p, err
				}
			}
			f.loaded <- list // has room: there is one request at a time
		}
	}
}

// poll asks how far the feed has come, reads what is new, and publishes it.
func (f *follower) poll(ctx context.Context) {
	began := f.now()
	asking, cancel := context.WithTimeout(ctx, pollTimeout)
	heads, err := f.feed.Poll(asking)
	cancel()
	if err != nil {
		f.metrics.polled(false)
		return // what is there is too old to be answered soon
	}
	f.metrics.polled(true)
	f.heads = heads
	f.adopt(&heads.Table, heads.AsOf, began)
	behind := f.behind()
	for len(behind) > 0 && ctx.Err() == nil {
		behind = f.catchUp(ctx, behind)
	}
	f.judge(began)
	f.want()
	f.hub.polled()
}

// adopt takes over the lease table: which gateways there are, and what Redis' clock says.
func (f *follower) adopt(t *store.TableView, asOf time.Time, at time.Duration) {
	if t.Err != nil {
		return
	}
	byEpoch := make(map[feed.Epoch]string, len(t.Live))
	for e, peer := range t.Live {
		byEpoch[e] = peer.PodName
	}
	renamed := f.pods.set(byEpoch)
	f.mu.Lock()
	f.asOf, f.asOfRead, f.live = asOf, at, t.Live
	f.mu.Unlock()
	if renamed {
		f.hub.renamed()
	}
}

// current returns the partition that follows the feed: a staged one, or the one that is published.
func (f *follower) current(p int) *partition {
	if f.staged[p] != nil {
		return f.staged[p]
	}
	return f.parts[p]
}

// behind says which facts are missing.
func (f *follower) behind() (from []store.FactsAfter) {
	for p := range f.heads.Parts {
		head, part := &f.heads.Parts[p], f.current(p)
		if part == nil || head.Err != nil || head.Generation != part.generation {
			continue
		}
		switch {
		case head.Revision > part.revision:
			from = append(from, store.FactsAfter{Part: p, Generation: part.generation, Revision: part.revision})
		case head.Revision < part.revision:
			f.distrust(p)
		}
	}
	return from
}

// distrust gives a partition up: it has to be loaded again.
func (f *follower) distrust(p int) {
	f.metrics.gaps.Add(1)
	f.staged[p] = nil
	if part := f.parts[p]; part != nil {
		f.mu.Lock()
		part.generation, part.usable, part.complete = "", false, false
		f.mu.Unlock()
	}
}

// catchUp reads and applies facts; it returns those that are still missing.
func (f *follower) catchUp(ctx context.Context, from []store.FactsAfter) (more []store.FactsAfter) {
	list, _ := f.feed.Facts(ctx, from) // each answer has its own error
	for i := range list {
		of := &list[i]
		part := f.current(of.Part)
		switch {
		case of.Err != nil:
			f.heads.Parts[of.Part].Err = of.Err // not to be believed
			continue
		case of.Gap:
			f.distrust(of.Part)
			continue
		case len(of.Facts) == 0:
			continue
		}
		f.apply(part, of.Facts)
		if len(of.Facts) >= store.FactsAtOnce {
			more = append(more, store.FactsAfter{Part: of.Part, Generation: part.generation, Revision: part.revision})
		}
	}
	return more
}

// apply folds facts, and tells of what they change unless nobody sees the partition yet.
func (f *follower) apply(part *partition, facts []feed.Fact) {
	f.metrics.facts.Add(int64(len(facts)))
	if f.parts[part.number] != part {
		part.apply(f.names, facts)
		return
	}
	f.mu.Lock()
	changes := part.apply(f.names, facts)
	f.mu.Unlock()
	f.hub.tell(part, changes)
}

// judge says of each partition how far it can be believed, and publishes those that were staged and are complete. What could
// not be read gets old.
func (f *follower) judge(began time.Duration) {
	table := &f.heads.Table
	if table.Err != nil {
		return
	}
	usable := table.Present && table.Settled
	for p := range f.heads.Parts {
		head := &f.heads.Parts[p]
		if part := f.staged[p]; part != nil {
			f.staged[p] = nil // to be loaded again, unless
			if head.Err == nil && head.Generation == part.generation && f.ripe(part) {
				f.publish(part)
			}
		}
		part := f.parts[p]
		switch {
		case part == nil:
		case head.Err != nil && usable:
		case head.Err != nil:
			f.mark(part, false, false, part.polled)
		default:
			same := head.Generation == part.generation
			f.mark(part, usable && same, usable && same && table.Complete(part.isDone), began)
		}
	}
}

// ripe tells whether a partition may be published: in the place of what was known before only if it is complete, since who is
// missing would be told to be offline.
func (f *follower) ripe(part *partition) bool {
	return f.parts[part.number] == nil || f.heads.Table.Complete(part.isDone)
}

func (p *partition) isDone(e feed.Epoch) bool {
	_, ok := p.done[e]
	return ok
}

// mark notes how far a partition can be believed, as of a moment.
func (f *follower) mark(part *partition, usable, complete bool, polled time.Duration) {
	f.mu.Lock()
	healed := complete && (!part.complete || polled-part.polled >= maxAge)
	part.usable, part.complete, part.polled = usable, complete, polled
	part.whole = part.whole || complete
	f.mu.Unlock()
	if healed {
		f.hub.healed(part.number)
	}
}

// publish puts a partition in the place of what was known before, and tells of the differences.
func (f *follower) publish(part *partition) {
	p := part.number
	old := f.parts[p]
	f.mu.Lock()
	f.parts[p] = part
	f.mu.Unlock()
	f.hub.reloaded(old, part)
}

// want has partitions loaded that were never loaded, whose data is another, or whose facts are missing.
func (f *follower) want() {
	if f.loading {
		return
	}
	now := f.now()
	var parts []int
	for p := range f.heads.Parts {
		head, part := &f.heads.Parts[p], f.current(p)
		if head.Err != nil || head.Generation == "" || part != nil && part.generation == head.Generation || now < f.loadAt[p] {
			continue
		}
		if parts = append(parts, p); len(parts) == loadAtOnce {
			break
		}
	}
	if len(parts) > 0 {
		f.loading = true
		f.wanted <- parts // has room
	}
}

// stage takes over partitions that were loaded.
func (f *follower) stage(list []store.Loaded) {
	f.loading = false
	for i := range list {
		l := &list[i]
		f.loadAt[l.Part] = f.now() + loadPause
		if l.Err != nil || l.Generation == "" {
			continue
		}
		if part := f.names.fold(l, f.cfg.MaxRemembered/store.Partitions); f.ripe(part) {
			f.metrics.loads.Add(1)
			f.staged[l.Part] = part
		}
	}
	if len(list) == loadAtOnce {
		f.want() // the next ones at once
	}
}
