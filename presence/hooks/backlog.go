package hooks

import "time"

// backlog is a queue of users, each in it once, with when each came into it.
type backlog struct {
	since map[string]time.Time
	queue []string // those that are not in since any more are passed over
}

// add puts a user at the end, unless it is there.
func (b *backlog) add(user string, since time.Time) {
	if _, ok := b.since[user]; ok {
		return
	}
	if b.since == nil {
		b.since = map[string]time.Time{}
	}
	b.since[user] = since
	b.queue = append(b.queue, user)
}

// take removes up to n users from the front.
func (b *backlog) take(n int) (users []string, since []time.Time) {
	i := 0
	for ; i < len(b.queue) && len(users) < n; i++ {
		if at, ok := b.since[b.queue[i]]; ok {
			users, since = append(users, b.queue[i]), append(since, at)
			delete(b.since, b.queue[i])
		}
	}
	b.queue = b.queue[i:]
	if len(b.queue) == 0 {
		b.queue = nil
	}
	return users, since
}

// oldest is when the first one came; zero if there is none.
func (b *backlog) oldest() time.Time {
	var first time.Time
	for _, at := range b.since {
		if first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}
