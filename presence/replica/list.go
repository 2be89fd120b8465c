package replica

import (
	"cmp"
	"context"
	"slices"

	"github.com/imcluster/imcluster/presence/store"
)

// Online lists who is online, as [store.Store.Online] does, with the same cursors.
func (r *Replica) Online(ctx context.Context, cursor string, limit int) (store.Page, error) {
	if part, after, err := store.ParseCursor(cursor); err == nil {
		if page, ok := r.page(part, after, max(1, limit)); ok {
			return page, nil
		}
	}
	return r.source.Online(ctx, cursor, limit)
}

// page lists from memory; ok is false if it does not know for certain.
func (r *Replica) page(part int, after string, limit int) (page store.Page, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	page = store.Page{Users: []string{}, AsOf: r.asOf}
	now := r.now()
	for ; part < store.Partitions; part, after = part+1, "" {
		p := r.parts[part]
		if !p.fresh(now) || !p.complete {
			return page, false
		}
		users := p.table.shownAfter(after)
		if room := limit - len(page.Users); len(users) > room {
			last := after // when the page was full before this partition
			if room > 0 {
				last = users[room-1]
			}
			page.Users = append(page.Users, users[:room]...)
			page.Next = store.FormatCursor(part, last)
			return page, true
		}
		page.Users = append(page.Users, users...)
	}
	return page, true
}

// shownAfter returns who is shown as online and comes after a user, sorted.
func (t *table) shownAfter(after string) (users []string) {
	for i := range t.slots {
		if s := &t.slots[i]; s.has(shown) && (after == "" || s.user > after) {
			users = append(users, s.user)
		}
	}
	slices.Sort(users)
	return users
}

// OnlineIn returns who is shown as online in a partition. healthy is false while the partition cannot be answered for: the
// list may be old then, or empty.
func (r *Replica) OnlineIn(part int) (users []string, healthy bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	p := r.parts[part]
	if p == nil {
		return nil, false
	}
	return p.table.shownAfter(""), p.fresh(r.now()) && p.complete
}

// Counts tells how many are online, as [store.Store.Counts] does.
func (r *Replica) Counts(ctx context.Context) (store.Counts, error) {
	if c, ok := r.counts(); ok {
		return c, nil
	}
	return r.source.Counts(ctx)
}

func (r *Replica) counts() (c store.Counts, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	now := r.now()
	c.AsOf = r.asOf
	perPod := map[string]int{}
	for _, peer := range r.live {
		perPod[peer.PodName] = 0
	}
	for _, p := range r.parts {
		if !p.fresh(now) || !p.complete {
			return c, false
		}
		c.Users += p.users
		c.Sessions += p.sessions
		for e, n := range p.perEpoch {
			perPod[r.pods.of(e)] += n
		}
	}
	for pod, n := range perPod {
		c.Gateways = append(c.Gateways, store.GatewayCount{Pod: pod, Sessions: n})
	}
	slices.SortFunc(c.Gateways, func(a, b store.GatewayCount) int { return cmp.Compare(a.Pod, b.Pod) })
	return c, true
}
