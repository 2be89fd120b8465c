package replica

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/imcluster/imcluster/presence/feed"
	"github.com/imcluster/imcluster/presence/store"
)

// inBubble runs a test in a bubble whose clock shows 2026, not 2000, which is before the times that are packed.
func inBubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))) //nolint:forbidigo // sets the bubble's clock
		test(t)
	})
}

// fakeRedis is a store in memory, with a clock of its own, that can fail in all ways that matter.
type fakeRedis struct {
	t testing.TB

	mu      sync.Mutex
	parts   [store.Partitions]*fakePart
	live    map[feed.Epoch]store.Peer
	settled bool
	down    bool   // nothing can be read
	answer  func() // called when Users has its answer, before it returns
	conns   uint64
	deaf    *Replica // hears nothing from the feed
}

// ear is the feed as a replica hears it.
type ear struct {
	*fakeRedis
	of *Replica
}

func (e ear) Poll(ctx context.Context) (*store.Heads, error) {
	e.mu.Lock()
	deaf := e.deaf == e.of
	e.mu.Unlock()
	if deaf {
		return nil, store.ErrUnavailable
	}
	return e.fakeRedis.Poll(ctx)
}

// setDeaf has a replica hear nothing; nil has all hear again.
func (r *fakeRedis) setDeaf(deaf *Replica) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deaf = deaf
}

// fakePart is a partition. States are those of all users whom Redis remembers.
type fakePart struct {
	generation string
	states     map[string]*feed.State
	facts      []feed.Fact
	revision   uint64
	done       map[feed.Epoch]bool
}

func newFakeRedis(t testing.TB) *fakeRedis {
	r := &fakeRedis{t: t, live: map[feed.Epoch]store.Peer{}, settled: true}
	for p := range r.parts {
		r.parts[p] = &fakePart{generation: "g1", states: map[string]*feed.State{}, done: map[feed.Epoch]bool{}}
	}
	return r
}

// join adds gateways that have registered everything.
func (r *fakeRedis) join(epochs ...feed.Epoch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range epochs {
		r.live[e] = store.Peer{Epoch: e, PodName: "pod-" + string(e)}
		for i, p := range r.parts {
			p.done[e] = true
			r.write(i, feed.Fact{Kind: feed.EpochDone, Epoch: e})
		}
	}
}

// write applies facts to one partition.
func (r *fakeRedis) write(part int, facts ...feed.Fact) {
	p := r.parts[part]
	for _, f := range facts {
		p.revision++
		f.Revision = p.revision
		p.facts = append(p.facts, f)
		for user, s := range p.states {
			if f.User == user || f.Kind == feed.EpochDead {
				s.Apply(&f)
			}
		}
	}
}

func (r *fakeRedis) state(user string) *feed.State {
	p := r.parts[store.Partition(user)]
	if p.states[user] == nil {
		p.states[user] = &feed.State{}
	}
	return p.states[user]
}

func (r *fakeRedis) login(e feed.Epoch, users ...string) {
	for _, u := range users {
		r.loginDevice(e, u, "phone")
	}
}

func (r *fakeRedis) loginDevice(e feed.Epoch, user, device string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns++
	s := r.state(user)
	r.write(store.Partition(user), feed.Fact{Kind: feed.Put, User: user, Status: s.Status,
		Session: feed.Session{Device: device, Epoch: e, Conn: r.conns, Since: time.Now().UnixMilli(), Platform: "web", Addr: "203.0.113.7"}})
}

func (r *fakeRedis) logout(users ...string) {
	for _, u := range users {
		r.logoutDevice(u, "phone")
	}
}

func (r *fakeRedis) logoutDevice(user, device string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.ContainsFunc(r.state(user).Sessions, func(s feed.Session) bool { return s.Device == device }) {
		return
	}
	r.write(store.Partition(user), feed.Fact{Kind: feed.Ended, User: user, Session: feed.Session{Device: device},
		At: time.Now(), Cause: feed.CauseLogout})
}

func (r *fakeRedis) setStatus(user, show, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.state(user)
	to := feed.Standing{Status: feed.Status{Show: show, Text: text}, Set: time.Now().UnixMilli()}
	if show == feed.ShowInvisible {
		to.Hidden = s.LastSeen
		if s.Status.Invisible() {
			to.Hidden = s.Status.Hidden
		} else if len(s.Sessions) > 0 {
			to.Hidden = time.Now().Unix()
		}
	}
	r.write(store.Partition(user), feed.Fact{Kind: feed.StatusSet, User: user, Status: to})
}

// kill ends epochs.
func (r *fakeRedis) kill(epochs ...feed.Epoch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range epochs {
		delete(r.live, e)
		for p := range r.parts {
			r.write(p, feed.Fact{Kind: feed.EpochDead, Epoch: e, At: time.Now(), Cause: feed.CauseExpired})
		}
	}
}

// lose empties partitions.
func (r *fakeRedis) lose(parts ...int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range parts {
		r.parts[p] = &fakePart{states: map[string]*feed.State{}, done: map[feed.Epoch]bool{}}
	}
}

// restore has a gateway register sessions again in partitions that were emptied.
func (r *fakeRedis) restore(generation string, e feed.Epoch, parts []int, users ...string) {
	r.mu.Lock()
	for _, p := range parts {
		r.parts[p].generation = generation
	}
	r.mu.Unlock()
	r.login(e, users...)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range parts {
		r.parts[p].done[e] = true
		r.write(p, feed.Fact{Kind: feed.EpochDone, Epoch: e})
	}
}

// trim drops all facts from the streams.
func (r *fakeRedis) trim() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.parts {
		p.facts = nil
	}
}

// onAnswer sets what is called when an answer to Users is on its way.
func (r *fakeRedis) onAnswer(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = f
}

func (r *fakeRedis) setDown(down bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = down
}

func (r *fakeRedis) table() store.TableView {
	return store.TableView{Present: true, Settled: r.settled, Live: maps.Clone(r.live)}
}

// retention is short enough to see it pass.
const retention = 10 * time.Minute

func (r *fakeRedis) Users(_ context.Context, ids []string) (users []store.User, asOf time.Time, degraded bool) {
	r.mu.Lock()
	users = make([]store.User, len(ids))
	table := r.table()
	for i, id := range ids {
		p := r.parts[store.Partition(id)]
		users[i] = store.User{ID: id, State: store.Unknown, Reason: store.Unavailable}
		s := p.states[id]
		if s == nil {
			s = &feed.State{}
		}
		complete := table.Complete(func(e feed.Epoch) bool { return p.done[e] }) && p.generation != ""
		view := feed.Visible(len(s.Sessions) > 0, &s.Status, s.LastSeen, time.Now(), retention)
		switch {
		case r.down:
		case view.Online:
			users[i] = store.User{ID: id, State: store.Online, Status: view.Show, Text: view.Text}
			for _, o := range s.Sessions {
				users[i].Devices = append(users[i].Devices, store.Device{ID: o.Device, Platform: o.Platform,
					Gateway: "pod-" + string(o.Epoch), LoginTime: o.LoginTime()})
			}
		case !complete:
		case view.LastSeen > 0:
			users[i] = store.User{ID: id, State: store.Offline, LastSeen: time.Unix(view.LastSeen, 0)}
		default:
			users[i].Reason = store.NeverSeen
		}
		degraded = degraded || r.down || !complete
	}
	answer := r.answer
	r.mu.Unlock()
	if answer != nil {
		answer()
	}
	return users, time.Now(), degraded
}

func (r *fakeRedis) Online(context.Context, string, int) (store.Page, error) {
	return store.Page{}, store.ErrUnavailable
}

func (r *fakeRedis) Counts(context.Context) (store.Counts, error) {
	return store.Counts{}, store.ErrUnavailable
}

func (r *fakeRedis) Poll(context.Context) (*store.Heads, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down {
		return nil, store.ErrUnavailable
	}
	h := &store.Heads{Table: r.table(), AsOf: time.Now()}
	for p, part := range r.parts {
		h.Parts[p] = store.Head{Generation: part.generation, Revision: part.revision}
	}
	return h, nil
}

func (r *fakeRedis) Facts(_ context.Context, from []store.FactsAfter) ([]store.FactsOf, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]store.FactsOf, len(from))
	for i, f := range from {
		p := r.parts[f.Part]
		list[i] = store.FactsOf{Part: f.Part, Generation: p.generation}
		first := p.revision - uint64(len(p.facts))
		switch {
		case r.down:
			list[i].Err = store.ErrUnavailable
		case f.Generation != p.generation || f.Revision < first || f.Revision > p.revision:
			list[i].Gap = true
		default:
			list[i].Facts = slices.Clone(p.facts[f.Revision-first:])
		}
	}
	return list, nil
}

func (r *fakeRedis) Load(_ context.Context, parts []int) ([]store.Loaded, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]store.Loaded, len(parts))
	for i, p := range parts {
		part := r.parts[p]
		list[i] = store.Loaded{Part: p, Generation: part.generation, Revision: part.revision, Done: slices.Collect(maps.Keys(part.done))}
		if r.down {
			list[i].Err = store.ErrUnavailable
		}
		for id, s := range part.states {
			if len(s.Sessions) > 0 {
				list[i].Users = append(list[i].Users, store.LoadedUser{ID: id, State: feed.State{Sessions: s.Sessions, Status: s.Status}})
			}
		}
	}
	return list, nil
}

// startFake starts a replica of a fake, and waits until it has loaded everybody.
func startFake(t testing.TB, redis *fakeRedis, change ...func(*Config)) *Replica {
	t.Helper()
	cfg := Config{Source: redis, Retention: retention}
	for _, c := range change {
		c(&cfg)
	}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	background(t, func(ctx context.Context) { r.Run(ctx, ear{redis, r}) })
	eventually(t, func() error {
		if v := r.vitals(); v.degraded > 0 {
			return fmt.Errorf("%d partitions are degraded", v.degraded)
		}
		return nil
	})
	return r
}

// follower of a subscription: what a client that folds events knows.
type client struct {
	sub    *Subscription
	known  map[string]store.User
	token  string
	events []Event // bookmarks aside

	degraded bool
}

// drain takes the events that come until there are none for a second, bookmarks aside.
func (c *client) drain(ctx context.Context) {
	for {
		waiting, cancel := context.WithTimeout(ctx, time.Second)
		e, err := c.sub.Next(waiting)
		cancel()
		if err != nil {
			return
		}
		c.fold(e)
	}
}

func (c *client) fold(e Event) {
	for _, u := range e.Users {
		c.known[u.ID] = u
	}
	if !e.More {
		c.token = e.Token
	}
	if c.degraded = e.Degraded; !e.Bookmark {
		c.events = append(c.events, e)
	}
}

// watch begins a subscription and takes its first events.
func watch(t testing.TB, r *Replica, token string, users ...string) *client {
	t.Helper()
	sub, err := r.Watch(users, false, token)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sub.Close)
	c := &client{sub: sub, known: map[string]store.User{}}
	c.drain(t.Context())
	return c
}

// says returns what the client knows of users, in short.
func (c *client) says(users ...string) (states []string) {
	for _, id := range users {
		u := c.known[id]
		states = append(states, fmt.Sprint(u.State, u.Reason))
	}
	return states
}
