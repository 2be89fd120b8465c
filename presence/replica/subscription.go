package replica

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/imcluster/imcluster/presence/store"
)

// coalesce is the least time between two events of a subscription, bookmarkIdle the longest.
const (
	coalesce     = 100 * time.Millisecond
	bookmarkIdle = 15 * time.Second
)

// Subscription tells of changes. Its methods may be called concurrently, Next by one goroutine at a time.
type Subscription struct {
	r      *Replica
	all    bool
	ended  chan struct{}
	end    func()
	change chan struct{}

	mu    sync.Mutex
	told  map[string]store.User // nil state: not yet
	fresh bool
}

// Watch begins a subscription to users, who may repeat, or to everybody. Without a token it begins with a snapshot: of all
// users asked for, or of everybody who is online. With one it goes on after it: with what has changed since. The errors are
// ErrRelist, ErrBehind, after at most a second, and ErrTooMany.
func (r *Replica) Watch(users []string, all bool, token string) (*Subscription, error) {
	s := &Subscription{r: r, all: all, ended: make(chan struct{}), change: make(chan struct{}, 1), told: map[string]store.User{}, fresh: true}
	s.end = sync.OnceFunc(func() { close(s.ended) })
	if token != "" {
		return nil, ErrRelist
	}
	for _, u := range users {
		s.told[u] = store.User{}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.subs) >= r.cfg.MaxSubscriptions {
		return nil, ErrTooMany
	}
	r.subs[s] = struct{}{}
	return s, nil
}

// Update adds users to the subscription, and removes others. The next event is a snapshot of those who were added.
func (s *Subscription) Update(add, remove []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range remove {
		delete(s.told, u)
	}
	for _, u := range add {
		if _, ok := s.told[u]; !ok {
			s.told[u] = store.User{}
		}
	}
	s.fresh = true
	select {
	case s.change <- struct{}{}:
	default:
	}
}

// Replace has the subscription be to users from now on. The next event is a snapshot of those to whom it was not.
func (s *Subscription) Replace(users []string) {
	keep := map[string]bool{}
	for _, u := range users {
		keep[u] = true
	}
	s.mu.Lock()
	var gone []string
	for u := range s.told {
		if !keep[u] {
			gone = append(gone, u)
		}
	}
	s.mu.Unlock()
	s.Update(users, gone)
}

// Close ends the subscription; Next returns ErrClosed.
func (s *Subscription) Close() {
	s.r.mu.Lock()
	delete(s.r.subs, s)
	s.r.mu.Unlock()
	s.end()
}

// Next waits for the next event: a snapshot at once, changes at most every 100 ms, a bookmark after 15 s without. It tells
// how users are when it is called, so a slow reader gets fewer events, and newer states. The error is that of ctx, or
// ErrClosed.
func (s *Subscription) Next(ctx context.Context) (Event, error) {
	began := time.Now()
	for {
		if e, ok := s.look(ctx); ok {
			return e, nil
		}
		if time.Since(began) > bookmarkIdle {
			return Event{Bookmark: true, Token: s.token(), AsOf: time.Now()}, nil
		}
		select {
		case <-ctx.Done():
			return Event{}, ctx.Err()
		case <-s.ended:
			return Event{}, ErrClosed
		case <-s.change:
		case <-time.After(coalesce):
		}
	}
}

// look asks for all users and compares. It is to be replaced by the fold.
func (s *Subscription) look(ctx context.Context) (Event, bool) {
	s.mu.Lock()
	ids := slices.Collect(maps.Keys(s.told))
	s.mu.Unlock()
	if s.all {
		page, err := s.r.Online(ctx, "", 1<<30)
		if err != nil || page.Degraded {
			return Event{}, false
		}
		ids = append(ids, page.Users...)
		slices.Sort(ids)
		ids = slices.Compact(ids)
	}
	users, asOf, degraded := s.r.Users(ctx, ids)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := Event{Degraded: degraded, AsOf: asOf, Snapshot: s.fresh}
	for _, u := range users {
		was, ok := s.told[u.ID]
		if !ok && !s.all || u.Reason == store.Unavailable && was.State != "" || reflect.DeepEqual(was, u) {
			continue
		}
		s.told[u.ID] = u
		e.Users = append(e.Users, u)
	}
	s.fresh = false
	e.Token = s.token()
	return e, e.Snapshot || len(e.Users) > 0
}

func (s *Subscription) token() string {
	return base64.RawURLEncoding.EncodeToString(fmt.Append(nil, xxhash.Sum64String(fmt.Sprintf("%p", s))))
}
