package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/imcluster/imcluster/presence/feed"
)

// Loaded is a partition as [Store.Load] read it.
type Loaded struct {
	Part       int
	Generation string
	// Revision is as of before the users were read: they may contain later facts, which are absolute and can be applied
	// again.
	Revision uint64
	// Done are the epochs that have registered all their sessions in this generation.
	Done []Epoch
	// Users are those who have sessions, in no order. Their LastSeen is not known.
	Users []LoadedUser
	Err   error
}

// LoadedUser is a user with sessions, none of them on an epoch that the partition knows to be dead.
type LoadedUser struct {
	ID    string
	State feed.State
}

var errChanged = fmt.Errorf("%w: the partition changed while it was read", ErrUnavailable)

// Load reads everybody with sessions in some partitions, in three pipelines for each node: 1.5 µs of Redis a user, so that a
// caller asks for a few partitions at a time. Each answer has its own error; the other error is the first of them.
func (s *Store) Load(ctx context.Context, parts []int) ([]Loaded, error) {
	l := &load{Store: s, list: make([]Loaded, len(parts)), metas: make([]*meta, len(parts))}
	err := l.heads(ctx, parts)
	err = errors.Join(err, l.sessions(ctx))
	err = errors.Join(err, l.confirm(ctx))
	if err != nil {
		return l.list, fmt.Errorf("load partitions: %w", err)
	}
	return l.list, nil
}

// load is one call of Load.
type load struct {
	*Store
	list  []Loaded
	metas []*meta
}

// heads reads generations, revisions and marks.
func (l *load) heads(ctx context.Context, parts []int) error {
	reqs := make([]*request, len(parts))
	for i, p := range parts {
		reqs[i] = read(p, "hgetall", l.keys.meta[p])
	}
	err := l.exchange(ctx, reqs...)
	for i, r := range reqs {
		of := &l.list[i]
		of.Part, of.Err = parts[i], wrap(r.err)
		m := parseMeta(r.list())
		l.metas[i] = m
		of.Revision = m.revision
		if m.gen != "" {
			of.Generation = m.gen + "." + l.nodeOf(r).served()
		}
		for e := range m.done {
			of.Done = append(of.Done, e)
		}
	}
	return err
}

// sessions reads who has sessions, by the indexes of all epochs that are not dead, and then each of them.
func (l *load) sessions(ctx context.Context) error {
	type index struct {
		of      int // which partition
		entries *request
	}
	var indexes []index
	var reqs []*request
	for i, m := range l.metas {
		for _, e := range m.known {
			if _, dead := m.dead[e]; !dead && l.list[i].Err == nil {
				r := read(l.list[i].Part, "hkeys", l.keys.indexKey(l.list[i].Part, e))
				indexes = append(indexes, index{i, r})
				reqs = append(reqs, r)
			}
		}
	}
	if len(reqs) == 0 {
		return nil
	}
	err := l.exchange(ctx, reqs...)
	devices := make([]map[string][]string, len(l.list))
	for _, x := range indexes {
		l.fail(x.of, x.entries)
		for _, v := range x.entries.list() {
			user, device := splitEntry(textOf(v))
			if devices[x.of] == nil {
				devices[x.of] = map[string][]string{}
			}
			devices[x.of][user] = append(devices[x.of][user], device)
		}
	}
	return errors.Join(err, l.users(ctx, devices))
}

func (l *load) users(ctx context.Context, devices []map[string][]string) error {
	type user struct {
		of   int
		id   string
		read *request
	}
	var users []user
	var reqs []*request
	for i, of := range devices {
		if l.list[i].Err != nil {
			continue
		}
		part := l.list[i].Part
		for id, list := range of {
			args := make([]any, 0, 3+len(list))
			args = append(args, "hmget", l.keys.userKey(part, id), statusField)
			for _, device := range list {
				args = append(args, "s"+device)
			}
			r := read(part, args...)
			users = append(users, user{i, id, r})
			reqs = append(reqs, r)
		}
	}
	if len(reqs) == 0 {
		return nil
	}
	err := l.exchange(ctx, reqs...)
	for _, u := range users {
		l.fail(u.of, u.read)
		if state := loadedState(u.read, l.metas[u.of]); len(state.Sessions) > 0 {
			l.list[u.of].Users = append(l.list[u.of].Users, LoadedUser{ID: u.id, State: state})
		}
	}
	return err
}

// loadedState makes the state of a user from the reply to HMGET <user> st s<device>...
func loadedState(r *request, m *meta) (state feed.State) {
	fields := r.list()
	for i, v := range fields {
		if i == 0 {
			state.Status, _ = feed.ParseStanding(textOf(v)) // none other is written
			continue
		}
		device, _ := strings.CutPrefix(textOf(r.args[2+i]), "s")
		session, err := feed.ParseSession(device, textOf(v))
		if _, dead := m.dead[session.Epoch]; err != nil || dead {
			continue // it ended meanwhile
		}
		state.Apply(&feed.Fact{Kind: feed.Put, Session: session, Status: state.Status})
	}
	return state
}

// confirm reads the generations again: what was read belongs to them only if they are the same.
func (l *load) confirm(ctx context.Context) error {
	reqs := make([]*request, len(l.list))
	for i := range l.list {
		reqs[i] = l.headRequest(l.list[i].Part)
	}
	err := l.exchange(ctx, reqs...)
	for i, r := range reqs {
		l.fail(i, r)
		if head := l.head(r); l.list[i].Err == nil && (head.Generation != l.list[i].Generation || head.Revision < l.list[i].Revision) {
			l.list[i].Err = errChanged
		}
	}
	return err
}

func (l *load) fail(i int, r *request) {
	if l.list[i].Err == nil {
		l.list[i].Err = wrap(r.err)
	}
}
