package replica

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/imcluster/imcluster/presence/feed"
	"github.com/imcluster/imcluster/presence/store"
)

// Whatever happens, in the end every watcher's folded events, the list and every answer are what Redis says; and meanwhile
// nobody who is connected all the time is told to be offline.
func TestWhateverHappensAllAgreeAtQuiet(t *testing.T) {
	for seed := range uint64(150) {
		inBubble(t, func(t *testing.T) {
			w := newWorld(t, seed)
			for range 120 {
				w.step()
			}
			w.quiet()
			if t.Failed() {
				t.Logf("seed %d", seed)
			}
		})
		if t.Failed() {
			return
		}
	}
}

// world is a fake Redis with gateways, two pods and watchers.
type world struct {
	t      *testing.T
	rand   *rand.Rand
	redis  *fakeRedis
	pods   []*Replica
	users  []string // those whom anything may happen to
	steady []string // those who are connected all the time, on gateway "s"
	epochs []feed.Epoch
	born   int
	losses int
	clients,
	everybody []*client
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, rand: rand.New(rand.NewPCG(seed, 1)), redis: newFakeRedis(t)}
	for i := range 25 {
		w.users = append(w.users, fmt.Sprint("user", i))
	}
	for i := range 5 {
		w.steady = append(w.steady, fmt.Sprint("steady", i))
	}
	w.redis.join("s", "e0", "e1")
	w.epochs = []feed.Epoch{"e0", "e1"}
	w.redis.login("s", w.steady...)
	for range 2 {
		w.pods = append(w.pods, startFake(t, w.redis, func(c *Config) { c.MaxRemembered = 4 * store.Partitions }))
	}
	return w
}

func pick[T any](w *world, of []T) T { return of[w.rand.IntN(len(of))] }

// some returns a few users, steady ones among them.
func (w *world) some() []string {
	all := slices.Concat(w.users, w.steady)
	w.rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:1+w.rand.IntN(len(all))]
}

func (w *world) step() {
	switch u := pick(w, w.users); w.rand.IntN(17) {
	case 0, 1, 2:
		w.redis.loginDevice(pick(w, w.epochs), u, pick(w, []string{"phone", "web"}))
	case 3, 4, 5:
		w.redis.logoutDevice(u, pick(w, []string{"phone", "web"}))
	case 6, 7:
		w.redis.setStatus(u, pick(w, []string{feed.ShowOnline, feed.ShowAway, feed.ShowInvisible}), pick(w, []string{"", "text"}))
	case 8:
		w.born++
		w.redis.kill(w.epochs[0])
		w.epochs = append(w.epochs[1:], feed.Epoch(fmt.Sprint("n", w.born)))
		w.redis.join(w.epochs[len(w.epochs)-1])
	case 9:
		w.lose()
	case 10:
		w.redis.trim()
	case 11:
		w.redis.setDown(true)
		w.wait(2 * time.Second)
		w.redis.setDown(false)
	case 12, 13:
		w.watch()
	case 14:
		w.resume()
	case 15:
		w.change()
	}
	w.wait(time.Duration(w.rand.IntN(80)) * time.Millisecond)
	if w.rand.IntN(4) == 0 {
		w.collect()
	}
	w.check(pick(w, w.pods))
}

// wait lets the bubble's time pass.
func (w *world) wait(d time.Duration) { time.Sleep(d) } //nolint:forbidigo // see above

// lose empties a few partitions, and has the gateways register again after a while.
func (w *world) lose() {
	w.losses++
	lost := map[int]bool{}
	for range 1 + w.rand.IntN(40) {
		lost[w.rand.IntN(store.Partitions)] = true
	}
	parts := slices.Collect(maps.Keys(lost))
	sessions := map[feed.Epoch][]string{}
	statuses := map[string]feed.Standing{}
	w.redis.mu.Lock()
	for _, p := range parts {
		for user, s := range w.redis.parts[p].states {
			for _, o := range s.Sessions {
				if o.Device == "phone" { // others left meanwhile
					sessions[o.Epoch] = append(sessions[o.Epoch], user)
					statuses[user] = s.Status
				}
			}
		}
	}
	w.redis.mu.Unlock()
	w.redis.lose(parts...)
	w.wait(time.Duration(w.rand.IntN(1500)) * time.Millisecond)
	w.redis.mu.Lock()
	for user, s := range statuses {
		w.redis.state(user).Status = s // put back with the session
	}
	w.redis.mu.Unlock()
	for _, e := range append([]feed.Epoch{"s"}, w.epochs...) {
		w.redis.restore(fmt.Sprint("loss", w.losses), e, parts, sessions[e]...)
	}
}

func (w *world) watch() {
	if w.rand.IntN(5) == 0 {
		w.add(pick(w, w.pods), nil, true, "")
		return
	}
	w.add(pick(w, w.pods), w.some(), false, "")
}

func (w *world) add(r *Replica, users []string, all bool, token string) {
	sub, err := r.Watch(users, all, token)
	if err != nil {
		w.t.Errorf("watch: %v", err)
		return
	}
	c := &client{sub: sub, known: map[string]store.User{}}
	if all {
		w.everybody = append(w.everybody, c)
	} else {
		w.clients = append(w.clients, c)
	}
	w.t.Cleanup(sub.Close)
}

// resume ends a subscription and goes on with its token on any pod.
func (w *world) resume() {
	list, all := &w.clients, w.rand.IntN(3) == 0
	if all {
		list = &w.everybody
	}
	if len(*list) == 0 {
		return
	}
	i := w.rand.IntN(len(*list))
	c := (*list)[i]
	*list = slices.Delete(*list, i, i+1)
	c.sub.Close()
	users := slices.Collect(maps.Keys(c.sub.members))
	if len(users) == 0 {
		users = c.users()
	}
	token, r := c.token, pick(w, w.pods)
	w.wait(time.Duration(w.rand.IntN(2000)) * time.Millisecond)
	sub, err := r.Watch(users, all, token)
	switch {
	case token == "" || errors.Is(err, ErrRelist):
		if sub != nil {
			sub.Close()
		}
		w.add(r, users, all, "")
	case errors.Is(err, ErrBehind):
		w.add(r, users, all, "")
	case err != nil:
		w.t.Errorf("resume: %v", err)
	default:
		next := &client{sub: sub, known: c.known, token: token}
		*list = append(*list, next)
		w.t.Cleanup(sub.Close)
	}
}

func (c *client) users() []string { return slices.Collect(maps.Keys(c.known)) }

// change changes whom a subscription is for.
func (w *world) change() {
	if len(w.clients) == 0 {
		return
	}
	c := pick(w, w.clients)
	users := w.some()
	if w.rand.IntN(2) == 0 {
		c.sub.Replace(users)
	} else {
		c.sub.Update(users, w.some())
	}
	c.sub.mu.Lock()
	defer c.sub.mu.Unlock()
	for user := range c.known {
		if c.sub.members[user] == nil {
			delete(c.known, user)
		}
	}
}

// collect takes the events that are there.
func (w *world) collect() {
	for _, c := range slices.Concat(w.clients, w.everybody) {
		for {
			ctx, cancel := context.WithTimeout(w.t.Context(), time.Millisecond)
			e, err := c.sub.Next(ctx)
			cancel()
			if err != nil {
				break
			}
			w.take(c, e)
		}
	}
}

func (w *world) take(c *client, e Event) {
	if e.Snapshot && c.sub.all && (len(c.events) == 0 || !c.events[len(c.events)-1].More) {
		clear(c.known)
	}
	for _, u := range e.Users {
		if c.sub.all || c.watches(u.ID) {
			c.known[u.ID] = u
		}
		w.never(&u, "told")
	}
	c.events = append(c.events, e)
	if !e.More {
		c.token = e.Token
	}
}

// watches tells whether a subscription is still to a user: an event may come after the user was removed.
func (c *client) watches(user string) bool {
	c.sub.mu.Lock()
	defer c.sub.mu.Unlock()
	return c.sub.members[user] != nil
}

// never fails if somebody who is connected is said not to be.
func (w *world) never(u *store.User, how string) {
	if slices.Contains(w.steady, u.ID) && (u.State == store.Offline || u.Reason == store.NeverSeen) {
		w.t.Errorf("%s is %s to be %s %s", u.ID, how, u.State, u.Reason)
	}
}

func (w *world) check(r *Replica) {
	users, _, _ := r.Users(w.t.Context(), w.some())
	for i := range users {
		w.never(&users[i], "answered")
	}
}

// quiet waits until nothing happens any more, and compares.
func (w *world) quiet() {
	for range 10 {
		w.wait(time.Second)
		w.collect()
	}
	all := slices.Concat(w.users, w.steady)
	want, _, _ := w.redis.Users(w.t.Context(), all)
	truth := map[string]store.User{}
	count := 0
	for _, u := range want {
		truth[u.ID] = u
		if u.State == store.Online {
			count++
		}
	}
	for n, r := range w.pods {
		got, _, degraded := r.Users(w.t.Context(), all)
		for i := range got {
			if !same(&got[i], &want[i]) || degraded {
				w.t.Errorf("pod %d answers %+v (degraded %v), redis %+v", n, got[i], degraded, want[i])
			}
		}
		counts, err := r.Counts(w.t.Context())
		page, err2 := r.Online(w.t.Context(), "", 1000)
		if err != nil || err2 != nil || counts.Users != count || len(page.Users) != count {
			w.t.Errorf("pod %d counts %+v and lists %v, of %d: %v, %v", n, counts, page.Users, count, err, err2)
		}
	}
	for n, c := range w.clients {
		for user := range c.sub.members {
			got, want := c.known[user], truth[user]
			if !same(&got, &want) {
				w.t.Errorf("watcher %d knows %+v, redis %+v", n, got, want)
			}
		}
		if c.token == "" {
			w.t.Errorf("watcher %d has no token", n)
		}
	}
	for n, c := range w.everybody {
		for user, want := range truth {
			if got := c.known[user]; (got.State == store.Online || want.State == store.Online) && !same(&got, &want) {
				w.t.Errorf("watcher %d of everybody knows %+v, redis %+v", n, got, want)
			}
		}
	}
}
