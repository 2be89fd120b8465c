package hooks_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/imcluster/imcluster/internal/testredis"
	"github.com/imcluster/imcluster/presence/hooks"
	"github.com/imcluster/imcluster/presence/store"
)

const online, offline = hooks.ClientOnline, hooks.ClientOffline

func TestEachChangeIsToldOnceAndInOrder(t *testing.T) {
	world, r := newPeople(), newReceiver(t)
	pod(t, r.url, world, openStore(t, testredis.Start(t)))
	for range 3 {
		world.set(true, "alice")
		r.until("alice is online", func() bool { return r.state["alice"] })
		world.set(true, "alice") // a second device
		world.set(false, "alice")
		r.until("alice is offline", func() bool { return !r.state["alice"] })
	}
	equal(t, "alice", r.told("alice"), online, offline, online, offline, online, offline)
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, e := range r.events {
		if i > 0 && e.Seq <= r.events[i-1].Seq {
			t.Errorf("seq %d follows %d", e.Seq, r.events[i-1].Seq)
		}
		if time.Since(time.UnixMilli(e.Timestamp)).Abs() > time.Minute || e.SourceIP != "192.0.2.7" || (e.Reason != "") != (e.Hook == offline) {
			t.Errorf("event %+v", e)
		}
	}
}

func TestWhoWasOnlineBeforeIsToldOnce(t *testing.T) {
	world, r, redis := newPeople(), newReceiver(t), testredis.Start(t)
	var users []string
	for i := range 500 {
		users = append(users, fmt.Sprintf("user%d", i))
	}
	world.set(true, users...)
	_, stop := pod(t, r.url, world, openStore(t, redis))
	r.until("500 users are online", func() bool { return len(r.state) == 500 })
	if len(r.events) != 500 {
		t.Errorf("%d events for 500 users", len(r.events))
	}
	stop()
	r.forget()
	// Whoever takes over knows what the receiver was told.
	d, _ := pod(t, r.url, world, openStore(t, redis))
	world.set(false, users[0])
	r.until("one left", func() bool { return !r.state[users[0]] })
	if len(r.events) != 1 {
		t.Errorf("after a change of pods the receiver was told %v", r.events)
	}
	soon(t, "the pod has all partitions", func() bool { return d.Status().Partitions == store.Partitions })
}

func TestWhatTheReceiverMissedCollapsesIntoTheLastState(t *testing.T) {
	world, r := newPeople(), newReceiver(t)
	d, _ := pod(t, r.url, world, openStore(t, testredis.Start(t)))
	var refusals atomic.Int32
	r.answering(func(w http.ResponseWriter) bool {
		refusals.Add(1)
		w.WriteHeader(http.StatusBadGateway)
		return false
	})
	world.set(true, "flapping", "staying")
	r.until("there are events", func() bool { return refusals.Load() > 0 })
	for range 20 {
		world.set(false, "flapping")
		world.set(true, "flapping")
	}
	world.set(false, "flapping")
	soon(t, "the status says that the receiver is down", func() bool {
		s := d.Status()
		return s.Pending == 2 && s.LastError == "the receiver answered 502" && !s.OldestPending.IsZero()
	})
	r.answering(nil)
	r.until("both", func() bool { return r.state["staying"] && r.seq["flapping"] > 0 })
	equal(t, "flapping", r.told("flapping"), offline)
	equal(t, "staying", r.told("staying"), online)
}

func TestNothingIsToldWhileTheStateIsNotKnown(t *testing.T) {
	world, r := newPeople(), newReceiver(t)
	pod(t, r.url, world, openStore(t, testredis.Start(t)))
	world.set(true, "alice", "bob")
	r.until("both are online", func() bool { return r.state["alice"] && r.state["bob"] })
	world.darken(true, "alice")
	world.set(false, "alice")
	world.set(false, "bob")
	r.until("bob left", func() bool { return !r.state["bob"] })
	equal(t, "alice, meanwhile", r.told("alice"), online)
	world.darken(false, "alice")
	r.until("alice left", func() bool { return !r.state["alice"] })
}

func TestRetryAfterIsObeyed(t *testing.T) {
	world, r := newPeople(), newReceiver(t)
	pod(t, r.url, world, openStore(t, testredis.Start(t)))
	var first, second time.Time
	r.answering(func(w http.ResponseWriter) bool {
		if first.IsZero() {
			first = time.Now()
			w.Header().Set("Retry-After", "3")
			w.WriteHeader(http.StatusTooManyRequests)
			return false
		}
		second = time.Now()
		return true
	})
	world.set(true, "alice")
	r.until("alice is online", func() bool { return r.state["alice"] })
	if second.Sub(first) < 3*time.Second-50*time.Millisecond {
		t.Errorf("came again after %s, not the 3 s that were asked for", second.Sub(first))
	}
}

// forgetful is a memory that loses the last word of a pod: it stops between telling and noting it.
type forgetful struct {
	*store.Store
	lose atomic.Bool
}

func (f *forgetful) ToldHooks(ctx context.Context, claimant string, tellings []store.HookTelling) error {
	if f.lose.Load() {
		return errors.New("the pod has stopped")
	}
	return f.Store.ToldHooks(ctx, claimant, tellings)
}

func TestAPodThatStopsBeforeItNotedWhatItToldIsFollowedByOneThatTellsAgain(t *testing.T) {
	world, r, redis := newPeople(), newReceiver(t), testredis.Start(t)
	memory := &forgetful{Store: openStore(t, redis)}
	_, stop := pod(t, r.url, world, memory)
	world.set(true, "alice")
	r.until("alice is online", func() bool { return r.state["alice"] })
	world.set(true, "bob")
	r.until("bob is online", func() bool { return r.state["bob"] })
	memory.lose.Store(true)
	world.set(false, "alice")
	r.until("alice left", func() bool { return !r.state["alice"] })
	stop()
	world.set(true, "alice") // what Redis remembers from before would call it told
	pod(t, r.url, world, openStore(t, redis))
	r.until("alice is back", func() bool { return r.state["alice"] })
}

// late is a receiver's front that holds requests back until they are released.
type late struct {
	http.RoundTripper
	held    chan struct{} // closed when one is held
	release chan struct{}
	once    sync.Once
	active  atomic.Bool
}

func (l *late) RoundTrip(req *http.Request) (*http.Response, error) {
	if l.active.Load() {
		l.once.Do(func() { close(l.held) })
		<-l.release
	}
	return l.RoundTripper.RoundTrip(req.WithContext(context.WithoutCancel(req.Context())))
}

func TestWhatIsToldLateByAPausedPodIsPutRight(t *testing.T) {
	world, r, redis := newPeople(), newReceiver(t), testredis.Start(t)
	front := &late{RoundTripper: http.DefaultTransport, held: make(chan struct{}), release: make(chan struct{})}
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	// The pod that is paused: its claims do not come through any more either.
	memory := &pausing{Store: openStore(t, redis)}
	paused, err := hooks.New(hooks.Config{URL: r.url, Secret: secret, Presence: world, Memory: memory, Timeout: time.Minute,
		Client: &http.Client{Transport: front}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- paused.Run(ctx) }()
	world.set(true, "alice")
	r.until("alice is online", func() bool { return r.state["alice"] })
	front.active.Store(true)
	world.set(false, "alice")
	<-front.held // "alice is offline" is on its way
	memory.paused.Store(true)
	pod(t, r.url, world, openStore(t, redis))
	world.set(true, "alice")
	r.until("the other pod has told of alice", func() bool { return len(r.events) >= 2 })
	memory.paused.Store(false)
	close(front.release)
	// The late event has a smaller seq; a receiver that ignores seq is told the truth once more.
	r.until("alice is online at last", func() bool {
		last := ""
		lateCame := false
		for _, e := range r.events {
			lateCame = lateCame || e.Hook == offline
			last = e.Hook
		}
		return lateCame && last == online
	})
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// pausing is the memory of a pod that is paused: it claims nothing meanwhile.
type pausing struct {
	*store.Store
	paused atomic.Bool
}

func (p *pausing) ClaimHooks(ctx context.Context, claimant string, parts []int, ttl, longest time.Duration) []store.HookClaim {
	if p.paused.Load() {
		return nil
	}
	return p.Store.ClaimHooks(ctx, claimant, parts, ttl, longest)
}

func TestReceiverIsToldOfWhoLeftWhileRedisLostItsData(t *testing.T) {
	for range 5 { // the loss may be noticed by a claim or by a telling
		t.Run("", leaveWhileDataIsLost)
	}
}

func leaveWhileDataIsLost(t *testing.T) {
	world, r, redis := newPeople(), newReceiver(t), testredis.Start(t)
	s := openStore(t, redis)
	d, _ := pod(t, r.url, world, s)
	world.set(true, "alice", "bob")
	r.until("both are online", func() bool { return r.state["alice"] && r.state["bob"] })
	soon(t, "it is noted that both were told", func() bool { return d.Status().Pending == 0 })
	world.darken(true, "alice", "bob")
	redis.MustDo("FLUSHALL")
	world.set(false, "alice")
	world.darken(false, "alice", "bob")
	r.until("alice left", func() bool { return !r.state["alice"] })
	equal(t, "bob", r.told("bob"), online)
}

func TestAnotherPodTakesOverWithinTheLease(t *testing.T) {
	world, r, redis := newPeople(), newReceiver(t), testredis.Start(t)
	dying := &pausing{Store: openStore(t, redis)}
	_, stop := pod(t, "http://127.0.0.1:1/nobody-listens", world, dying)
	world.set(true, "alice")
	d, _ := pod(t, r.url, world, openStore(t, redis))
	dying.paused.Store(true) // as if it were killed: it renews nothing, and gives nothing back
	r.until("alice is online", func() bool { return r.state["alice"] })
	soon(t, "the pod that told says so", func() bool { return !d.Status().LastSuccess.IsZero() })
	stop()
}

func TestReceiverConvergesUnderRandomFaults(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a test
	var mu sync.Mutex                        // the receiver draws too
	draw := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return random.IntN(n)
	}
	world, r, redis := newPeople(), newReceiver(t), testredis.Start(t)
	users := make([]string, 60)
	for i := range users {
		users[i] = fmt.Sprintf("user%d", i)
	}
	var flaky atomic.Bool
	r.answering(func(w http.ResponseWriter) bool {
		if !flaky.Load() {
			return true
		}
		switch draw(4) {
		case 0: // taken, but the answer says otherwise
			w.WriteHeader(http.StatusInternalServerError)
			return true
		case 1:
			w.WriteHeader(http.StatusServiceUnavailable)
			return false
		}
		return true
	})
	memories := [2]*forgetful{{Store: openStore(t, redis)}, {Store: openStore(t, redis)}}
	var stops [2]func()
	for i := range stops {
		_, stops[i] = pod(t, r.url, world, memories[i])
	}
	flaky.Store(true)
	for range 12 {
		for range 30 {
			world.set(draw(2) == 0, users[draw(len(users))])
		}
		i := draw(2)
		switch draw(4) {
		case 0:
			memories[i].lose.Store(true)
			stops[i]()
			memories[i].lose.Store(false)
			_, stops[i] = pod(t, r.url, world, memories[i])
		case 1:
			redis.Pause()
			world.set(draw(2) == 0, users[draw(len(users))])
			redis.Resume()
		}
		before := -1
		r.until("another request", func() bool {
			if before < 0 {
				before = r.calls
			}
			return r.calls > before
		})
	}
	flaky.Store(false)
	for _, u := range users {
		world.mu.Lock()
		want := world.online[u]
		world.mu.Unlock()
		r.until(fmt.Sprintf("%s is online: %v", u, want), func() bool { return r.state[u] == want })
	}
}

// TestReceiverIsToldOfWhoLeftWhenThePodAndTheDataAreLost: the pod that told the receiver is killed, and Redis loses its data before
// another one takes over, so that nobody remembers what was told.
func TestReceiverIsToldOfWhoLeftWhenThePodAndTheDataAreLost(t *testing.T) {
	for name, leave := range map[string]string{"before the loss is noticed": "early", "afterwards": "late"} {
		t.Run(name, func(t *testing.T) {
			world, r, redis := newPeople(), newReceiver(t), testredis.Start(t)
			dying := &pausing{Store: openStore(t, redis)}
			dead, kill := pod(t, r.url, world, dying)
			soon(t, "the first pod has all partitions", func() bool { return dead.Status().Partitions == store.Partitions })
			world.set(true, "alice", "bob")
			r.until("both are online", func() bool { return r.state["alice"] && r.state["bob"] })
			d, _ := pod(t, r.url, world, openStore(t, redis))
			claims := &counting{Store: openStore(t, redis)}
			pod(t, r.url, world, claims) // one more that has seen what Redis remembers, and will not get the lease
			soon(t, "the third pod has seen what Redis remembers", func() bool { return claims.n.Load() >= 4 })
			dying.paused.Store(true)
			world.darken(true, "alice", "bob")
			kill()
			redis.MustDo("FLUSHALL")
			if leave == "early" {
				world.set(false, "alice")
			}
			soon(t, "others have taken over", func() bool { return d.Status().Partitions > 0 })
			world.darken(false, "bob")
			world.set(leave == "never", "alice")
			world.darken(false, "alice")
			r.until("alice left", func() bool { return !r.state["alice"] })
			r.until("bob is there", func() bool { return r.state["bob"] })
		})
	}
}

// counting counts the claims of a pod.
type counting struct {
	*store.Store
	n atomic.Int64
}

func (c *counting) ClaimHooks(ctx context.Context, claimant string, parts []int, ttl, longest time.Duration) []store.HookClaim {
	defer c.n.Add(1)
	return c.Store.ClaimHooks(ctx, claimant, parts, ttl, longest)
}
