package store

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// online is who is online in one partition: devices by user and epoch, without those who are invisible.
type online struct {
	sessions map[Epoch][]string // index entries
	complete bool
}

// readOnline reads partitions with the lease table. What a partition lacks makes the whole read fail.
func (s *Store) readOnline(ctx context.Context, parts []int) ([]online, *table, error) {
	t, err := s.readTable(ctx)
	if err != nil {
		return nil, nil, err
	}
	epochs := slices.Sorted(maps.Keys(t.deadlines))
	epochs = slices.DeleteFunc(epochs, func(e Epoch) bool { return !t.live(e) })
	var reqs []*request
	for _, p := range parts {
		reqs = append(reqs, read(p, "hgetall", s.keys.meta[p]), read(p, "hkeys", s.keys.hidden[p]))
		for _, e := range epochs {
			reqs = append(reqs, read(p, "hkeys", s.keys.indexKey(p, e)))
		}
		// Read before the indexes and after: who hides may log in or out meanwhile.
		reqs = append(reqs, read(p, "hkeys", s.keys.hidden[p]))
		reqs = append(reqs, read(p, "hget", s.keys.meta[p], generationField))
	}
	if err := s.exchange(ctx, reqs...); err != nil {
		return nil, nil, err
	}
	list := make([]online, len(parts))
	for i := range parts {
		group := reqs[i*(len(epochs)+4):][:len(epochs)+4]
		m := parseMeta(group[0].list())
		list[i].complete = m.complete(t) && m.gen == group[len(epochs)+3].text()
		hidden := map[string]struct{}{}
		for _, v := range slices.Concat(group[1].list(), group[len(epochs)+2].list()) {
			hidden[textOf(v)] = struct{}{}
		}
		list[i].sessions = make(map[Epoch][]string, len(epochs))
		for j, e := range epochs {
			for _, v := range group[2+j].list() {
				entry := textOf(v)
				user, _ := splitEntry(entry)
				if _, ok := hidden[user]; !ok {
					list[i].sessions[e] = append(list[i].sessions[e], entry)
				}
			}
		}
	}
	return list, t, nil
}

// users returns each user once, sorted.
func (o *online) users() []string {
	set := map[string]struct{}{}
	for _, entries := range o.sessions {
		for _, e := range entries {
			user, _ := splitEntry(e)
			set[user] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// listStep is how many partitions Online reads at first; twice as many each time it needs more.
const listStep = 4

// Online lists who is online, in an order that stays the same: up to limit users from cursor on, which is empty for the
// first page. Somebody who is online all the time is on exactly one page. ErrInvalidCursor, or ErrUnavailable.
func (s *Store) Online(ctx context.Context, cursor string, limit int) (Page, error) {
	part, after, err := ParseCursor(cursor)
	if err != nil {
		return Page{}, err
	}
	limit = max(1, limit)
	page := Page{Users: []string{}}
	for step := listStep; part < Partitions; step *= 2 {
		var parts []int
		for p := part; p < min(part+step, Partitions); p++ {
			parts = append(parts, p)
		}
		list, t, err := s.readOnline(ctx, parts)
		if err != nil {
			return Page{}, fmt.Errorf("list online users: %w", err)
		}
		page.AsOf = time.UnixMilli(t.wall)
		for i := range list {
			page.Degraded = page.Degraded || !list[i].complete
			users := list[i].users()
			from, found := slices.BinarySearch(users, after)
			if found {
				from++
			}
			users = users[from:]
			if room := limit - len(page.Users); len(users) > room {
				last := after // when the page was full before this partition
				if room > 0 {
					last = users[room-1]
				}
				page.Users = append(page.Users, users[:room]...)
				page.Next = FormatCursor(part, last)
				return page, nil
			}
			page.Users = append(page.Users, users...)
			part, after = part+1, ""
		}
	}
	return page, nil
}

// FormatCursor makes a cursor of the list of online users: a partition, and the last user listed of it.
func FormatCursor(part int, user string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.Itoa(part) + ":" + user))
}

// ParseCursor reads a cursor; the empty one is the beginning. ErrInvalidCursor.
func ParseCursor(cursor string) (part int, user string, err error) {
	if cursor == "" {
		return 0, "", nil
	}
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return 0, "", ErrInvalidCursor
	}
	number, user, ok := strings.Cut(string(b), ":")
	part, err = strconv.Atoi(number)
	if err != nil || !ok || part < 0 || part >= Partitions {
		return 0, "", ErrInvalidCursor
	}
	return part, user, nil
}

// countsAge is how old counts may be: they read the index of every session.
const countsAge = time.Second

// countsCache has one caller at a time count; who waits meanwhile gets the same answer, an error too.
type countsCache struct {
	mu    sync.Mutex
	value Counts
	err   error
	at    time.Time
}

// Counts tells how many users and sessions are online, as of the last second.
func (s *Store) Counts(ctx context.Context) (Counts, error) {
	c := &s.counts
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.at) >= countsAge {
		// The caller may go away; the answer is for others too.
		c.value, c.err = s.count(context.WithoutCancel(ctx))
		c.at = time.Now()
	}
	return c.value, c.err
}

func (s *Store) count(ctx context.Context) (Counts, error) {
	list, t, err := s.readOnline(ctx, everyPartition())
	if err != nil {
		return Counts{}, fmt.Errorf("count online users: %w", err)
	}
	c := Counts{AsOf: time.UnixMilli(t.wall)}
	perEpoch := map[Epoch]int{}
	for i := range list {
		c.Degraded = c.Degraded || !list[i].complete
		set := map[string]struct{}{}
		for e, entries := range list[i].sessions {
			perEpoch[e] += len(entries)
			c.Sessions += len(entries)
			for _, entry := range entries {
				user, _ := splitEntry(entry)
				set[user] = struct{}{}
			}
		}
		c.Users += len(set)
	}
	perPod := map[string]int{}
	for e := range t.deadlines {
		if t.live(e) {
			perPod[t.records[e].PodName] += perEpoch[e]
		}
	}
	for pod, n := range perPod {
		c.Gateways = append(c.Gateways, GatewayCount{Pod: pod, Sessions: n})
	}
	slices.SortFunc(c.Gateways, func(a, b GatewayCount) int { return cmp.Compare(a.Pod, b.Pod) })
	return c, nil
}
