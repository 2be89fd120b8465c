package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imcluster/imcluster/internal/testredis"
	"github.com/imcluster/imcluster/presence/store"
)

// witness watches and asks for users who are connected, and fails the test if one of them is ever said not to be.
type witness struct {
	t     testing.TB
	pod   *pod
	users []string

	mu      sync.Mutex
	known   map[string]store.User
	changes int
	token   string
	unknown int // answers that said so
}

// startWitness begins to watch users who are connected, of whom the pod knows.
func startWitness(t testing.TB, p *pod, users ...string) *witness {
	t.Helper()
	w := &witness{t: t, pod: p, users: users, known: map[string]store.User{}}
	sub, err := p.Watch(users, false, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sub.Close)
	background(t, func(ctx context.Context) {
		for {
			e, err := sub.Next(ctx)
			if err != nil {
				return
			}
			w.take(&e)
		}
	})
	background(t, func(ctx context.Context) {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			answers, _, _ := p.Users(ctx, users)
			w.mu.Lock()
			for i := range answers {
				w.never(&answers[i], "answered")
				if answers[i].State == store.Unknown {
					w.unknown++
				}
			}
			w.mu.Unlock()
		}
	})
	w.become(func() error { return w.allOnline() })
	return w
}

func (w *witness) take(e *Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.token = e.Token
	for _, u := range e.Users {
		w.never(&u, "told")
		w.known[u.ID] = u
		w.changes++
	}
}

func (w *witness) never(u *store.User, how string) {
	if u.State == store.Offline || u.Reason == store.NeverSeen {
		w.t.Errorf("%s, who is connected, is %s to be %s %s", u.ID, how, u.State, u.Reason)
	}
}

func (w *witness) allOnline() error {
	for _, u := range w.users {
		if w.known[u].State != store.Online {
			return fmt.Errorf("%s is known as %+v", u, w.known[u])
		}
	}
	return nil
}

func (w *witness) become(check func() error) {
	w.t.Helper()
	eventually(w.t, func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		return check()
	})
}

// reset forgets what was counted, and returns the newest token.
func (w *witness) reset() (token string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changes, w.unknown = 0, 0
	return w.token
}

// counted returns how many changes were told, and how many answers were unknown.
func (w *witness) counted() (changes, unknown int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changes, w.unknown
}

// platform is a gateway with users who are connected, and two pods, of which the first is watched.
func platform(t *testing.T, cfg store.Config, users int) (*gateway, []*pod, *witness) {
	t.Helper()
	g := startGateway(t, cfg, "gw-1")
	ids := userIDs(users)
	g.login(ids...)
	pods := []*pod{startPod(t, cfg), startPod(t, cfg)}
	pods[0].knows(ids...)
	pods[1].knows(ids...)
	return g, pods, startWitness(t, pods[0], ids...)
}

// keysOf lists keys of a server.
func keysOf(redis *testredis.Server, pattern string) (keys []string) {
	list, _ := redis.MustDo("KEYS", pattern).([]any)
	for _, key := range list {
		keys = append(keys, fmt.Sprint(key))
	}
	return keys
}

// whole waits until a pod answers for everybody from memory, as Redis does.
func (p *pod) whole(users []string) {
	p.t.Helper()
	p.knows(users...)
}

func TestStoppedRedisTellsNothing(t *testing.T) {
	redis := startRedis(t)
	g, pods, w := platform(t, storeConfig(redis.Addr), 200)
	token := w.reset()
	redis.Pause()
	eventually(t, func() error { // for longer than a lease
		if _, unknown := w.counted(); unknown < 400 {
			return fmt.Errorf("%d answers were unknown", unknown)
		}
		return nil
	})
	<-time.After(2 * leaseTTL)
	redis.Resume()
	pods[0].whole(w.users)
	if changes, _ := w.counted(); changes > 0 {
		t.Errorf("%d changes were told", changes)
	}
	g.login("late")
	if users := pods[0].knows("late"); users[0].State != store.Online {
		t.Errorf("who logs in afterwards is %+v", users[0])
	}
	sub, err := pods[1].Watch(w.users, false, token)
	if err != nil {
		t.Fatalf("resume with a token of before: %v", err)
	}
	sub.Close()
}

func TestRedisKilledAndStartedEmptyTellsNothing(t *testing.T) {
	redis := startRedis(t)
	_, pods, w := platform(t, storeConfig(redis.Addr), 200)
	token := w.reset()
	redis.Kill()
	eventually(t, func() error {
		if _, unknown := w.counted(); unknown == 0 {
			return fmt.Errorf("nothing is unknown yet")
		}
		return nil
	})
	redis.Restart()
	for _, p := range pods {
		p.whole(w.users)
	}
	w.become(w.allOnline)
	for _, p := range pods {
		if _, err := p.Watch(w.users, false, token); !errors.Is(err, ErrRelist) {
			t.Errorf("a token of before the loss: %v", err)
		}
	}
}

func TestFlushedRedisTellsNothing(t *testing.T) {
	redis := startRedis(t)
	_, pods, w := platform(t, storeConfig(redis.Addr), 500)
	w.reset()
	redis.MustDo("FLUSHALL")
	eventually(t, func() error {
		if _, unknown := w.counted(); unknown == 0 {
			return fmt.Errorf("nothing is unknown yet")
		}
		return nil
	})
	for _, p := range pods {
		p.whole(w.users)
	}
	w.become(w.allOnline)
}

func TestEmptiedShardTellsNothing(t *testing.T) {
	cluster := testredis.StartCluster(t, 3)
	_, pods, w := platform(t, storeConfig(cluster.Addrs()...), 300)
	lost := (cluster.NodeOf("{gw}") + 1) % 3
	for _, p := range pods {
		p.whole(w.users)
	}
	there := strings.Join(keysOf(cluster.Nodes[lost], "u:*"), "\n") + "\n"
	kept := slices.DeleteFunc(slices.Clone(w.users), func(u string) bool { return strings.Contains(there, ":"+u+"\n") })
	if len(kept) == 0 || len(kept) == len(w.users) {
		t.Fatalf("%d of %d users are on the other shards", len(kept), len(w.users))
	}
	c := watch(t, pods[0].Replica, "", kept...)
	token := w.reset()
	cluster.Nodes[lost].MustDo("FLUSHALL")
	eventually(t, func() error {
		if _, unknown := w.counted(); unknown == 0 {
			return fmt.Errorf("nothing is unknown yet")
		}
		return nil
	})
	for _, p := range pods {
		p.whole(w.users)
	}
	w.become(w.allOnline)
	if _, err := pods[1].Watch(w.users, false, token); !errors.Is(err, ErrRelist) {
		t.Errorf("a token for users of the shard: %v", err)
	}
	resumed := watch(t, pods[1].Replica, c.token, kept...)
	if len(resumed.events) > 0 {
		t.Errorf("who watches users of other shards is told %+v", resumed.events)
	}
}

// A stream that was cut while a pod did not listen has the partition loaded again, and what differs told.
func TestTrimmedFeedIsReloaded(t *testing.T) {
	redis := startRedis(t)
	cfg := storeConfig(redis.Addr)
	g, pods, w := platform(t, cfg, 50)
	g.login("gone")
	c := watch(t, pods[0].Replica, "", "gone", "come")
	c.expect(t, []string{online, never}, "gone", "come")
	loads := pods[0].metrics.loads.Load()
	pods[0].gate.Lock()
	g.logout("gone")
	g.login("come")
	pods[1].knows("gone", "come")
	for _, key := range keysOf(redis, "f:*") {
		redis.MustDo("XTRIM", key, "MAXLEN", "0")
	}
	pods[0].gate.Unlock()
	pods[0].whole(append([]string{"gone", "come"}, w.users...))
	c.drain(t.Context())
	c.expect(t, []string{offline, online}, "gone", "come")
	if pods[0].metrics.loads.Load() == loads {
		t.Error("no partition was loaded again")
	}
}

func TestPodThatStartsColdAnswersAtOnceAndTakesTokens(t *testing.T) {
	redis := startRedis(t)
	cfg := storeConfig(redis.Addr)
	g, pods, _ := platform(t, cfg, 100)
	ids := append([]string{"never", "gone-1", "gone-2"}, userIDs(100)...)
	g.login("gone-1", "gone-2")
	pods[0].knows(ids...)
	c := watch(t, pods[0].Replica, "", ids...)
	g.logout(ids[1], ids[2])
	pods[0].knows(ids...)
	cold := startPod(t, cfg)
	users, _, _ := cold.Users(t.Context(), ids)
	if states := []store.State{users[1].State, users[3].State}; !cmp.Equal(states, []store.State{store.Offline, store.Online}) || users[0].Reason != store.NeverSeen {
		t.Errorf("a cold pod answers %v and %+v", states, users[0])
	}
	resumed := watch(t, cold.Replica, c.token, ids...)
	resumed.expect(t, []string{offline, offline}, ids[1], ids[2])
	for id, u := range resumed.known {
		if want := users[slices.Index(ids, id)].State; u.State != want {
			t.Errorf("%s is told as %s, want %s", id, u.State, want)
		}
	}
}
