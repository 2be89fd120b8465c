package presencechaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// story is some users who are connected all the time, on two gateways and two presence pods, and what others are told of them
// while one thing happens.
type story struct {
	*run
	t     *testing.T
	begun time.Time
	stop  func()
	lines []string
}

// storyUsers is how many users are in a story; every other one is on the same gateway.
const storyUsers = 12

// newStory connects everybody and waits until everybody tells so.
func newStory(t *testing.T, cfg Config) *story {
	t.Helper()
	cfg.Gateways = 2
	w := newWorld(t, cfg)
	s := &story{run: &run{w: w, store: w.open(t)}, t: t}
	for i := range storyUsers {
		u := newUser(w, fmt.Sprintf("user%02d", i), rand.New(rand.NewPCG(1, 1)), true)
		u.turn, u.want["d0"] = i+1, true // connect adds 1: user00 is on g0
		s.users, s.names = append(s.users, u), append(s.names, u.name)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var tasks sync.WaitGroup
	s.watch(ctx, &tasks)
	s.stop = func() {
		cancel()
		tasks.Wait()
		asking.CloseIdleConnections()
	}
	t.Cleanup(func() { s.stop() })
	if err := s.settle(t.Context()); err != nil {
		t.Fatalf("before anything happens: %v\n%s", err, w.Logs())
	}
	w.rec.add(Event{Kind: Healed, Note: "the story begins"})
	return s
}

// tell does something, and tells second by second what is seen, for as long as that lasts and some more.
func (s *story) tell(during time.Duration, do func()) {
	s.begun = time.Now()
	s.w.async.Go(do)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for time.Since(s.begun) < during {
		<-tick.C
		s.lines = append(s.lines, s.second())
	}
}

// second is what is seen now, and was told in the last second.
func (s *story) second() string {
	parts := []string{fmt.Sprintf("%3.0f s", time.Since(s.begun).Seconds())}
	for n := range s.w.pods {
		ctx, cancel := context.WithTimeout(s.t.Context(), 500*time.Millisecond)
		views, fresh, err := s.w.batch(ctx, n, s.names)
		cancel()
		text := tally(func(name string) State { return views[name].State }, s.names)
		if fresh.Degraded {
			text += ", degraded"
		}
		if err != nil {
			text = "no answer"
		}
		parts = append(parts, fmt.Sprintf("batch p%d: %s", n, text))
	}
	for _, w := range s.watchers {
		if w.observer == "sse users" || w.observer == "ws a" {
			parts = append(parts, w.observer+": "+tally(func(name string) State { return w.of(name).State }, s.names))
		}
	}
	parts = append(parts, "hooks: "+tally(func(name string) State {
		if s.w.hooks.online(name) {
			return Online
		}
		return Offline
	}, s.names))
	return strings.Join(parts, " | ")
}

func tally(of func(string) State, names []string) string {
	count := map[State]int{}
	for _, name := range names {
		count[of(name)]++
	}
	var parts []string
	for _, s := range []State{Online, Offline, NeverSeen, Unavailable, ""} {
		if count[s] > 0 {
			parts = append(parts, strings.TrimSpace(fmt.Sprintf("%d %s", count[s], s)))
		}
	}
	return strings.Join(parts, ", ")
}

// end waits until everybody tells what is, and judges what was told meanwhile.
func (s *story) end() []Event {
	s.t.Helper()
	begun := time.Now()
	if err := s.w.heal(); err != nil {
		s.t.Error(err)
	}
	err := s.settle(s.t.Context())
	s.t.Logf("all tell the same %v later\n%s", time.Since(begun).Round(time.Millisecond), strings.Join(s.lines, "\n"))
	if err != nil {
		s.t.Errorf("%v\n%s", err, s.w.Logs())
	}
	s.stop()
	events := s.w.rec.take()
	events = slices.DeleteFunc(events, func(e Event) bool { return e.User != "" && !slices.Contains(s.names, e.User) })
	violations := Check(events, lag)
	for _, v := range violations[:min(shown, len(violations))] {
		s.t.Errorf("%v\n%s", v, tail(events, v.Told.User, shownEvents))
	}
	for _, u := range s.users {
		u.leave()
	}
	return events
}

// nobodyIsToldGone judges a story in which everybody is connected all the time.
func (s *story) nobodyIsToldGone(events []Event) {
	s.t.Helper()
	begun, told := false, 0
	for _, e := range events {
		begun = begun || e.Kind == Healed
		if begun && e.Kind == Told {
			if told++; e.State.gone() {
				s.t.Errorf("told of somebody who is connected all the time: %v", e)
			}
		}
	}
	s.t.Logf("%d times somebody was told how a user is", told)
}

// TestRedisStopsForTenLeases: nobody is told to be gone, because leases do not age while nobody can write.
func TestRedisStopsForTenLeases(t *testing.T) {
	t.Parallel()
	s := newStory(t, Config{Redis: StartRedis(t)})
	const outage = 30 * time.Second
	s.tell(outage+3*time.Second, func() { s.w.cfg.Redis.pause(-1, outage) })
	s.nobodyIsToldGone(s.end())
}

// TestDataIsLost: nobody is told to be gone while gateways register again who is connected.
func TestDataIsLost(t *testing.T) {
	for name, c := range map[string]struct {
		redis func(testing.TB) Redis
		lose  func(Redis)
	}{
		"FLUSHALL":                     {StartRedis, func(r Redis) { r.flush(-1) }},
		"one emptied shard of three":   {StartCluster, func(r Redis) { r.flush(1) }},
		"killed and restarted empty":   {StartRedis, func(r Redis) { r.restart(0, 3*time.Second) }},
		"one of three restarted empty": {StartCluster, func(r Redis) { r.restart(2, 3*time.Second) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStory(t, Config{Redis: c.redis(t)})
			s.tell(9*time.Second, func() { c.lose(s.w.cfg.Redis) })
			s.nobodyIsToldGone(s.end())
		})
	}
}

// TestPresencePodDies: watchers go on at the other one, which also takes over the hooks.
func TestPresencePodDies(t *testing.T) {
	t.Parallel()
	s := newStory(t, Config{Redis: StartRedis(t)})
	s.tell(6*time.Second, func() { s.w.doPod(s.w.pods[0], Step{Trouble: KillPod, For: 3 * time.Second}) })
	s.nobodyIsToldGone(s.end())
}

// TestGatewayDies: its users, who do not come back, are told to be offline when another container of the pod has fenced it; nobody
// else is, and nobody comes back.
func TestGatewayDies(t *testing.T) {
	t.Parallel()
	s := newStory(t, Config{Redis: StartRedis(t)})
	gone := s.on(0)
	for _, u := range gone {
		clear(u.want)
	}
	s.tell(7*time.Second, func() { s.w.doGateway(s.w.gateways[0], Step{Trouble: KillGateway}) })
	events := s.end()
	s.toldGone(events, gone)
}

// TestGatewayIsStoppedForLongerThanItsLease: as for 60 s with the default lease of 15 s, all five times as fast. Its users are
// told to be offline when the lease ends. Then it registers again who is still connected, but not who moved to another gateway
// and left.
func TestGatewayIsStoppedForLongerThanItsLease(t *testing.T) {
	t.Parallel()
	s := newStory(t, Config{Redis: StartRedis(t)})
	const stopped = 12 * time.Second
	stuck := s.on(0)
	mover := stuck[0]
	s.tell(stopped+4*time.Second, func() {
		var moving sync.WaitGroup
		moving.Go(func() {
			wait(stopped / 2)
			mover.turn = 0 // to g1
			if err := mover.connect(s.t.Context(), "d0"); err != nil {
				s.t.Errorf("moving to another gateway: %v", err)
			}
			wait(time.Second)
			clear(mover.want)
			mover.leave()
		})
		s.w.doGateway(s.w.gateways[0], Step{Trouble: StopGateway, For: stopped})
		moving.Wait()
	})
	s.toldGone(s.end(), stuck)
}

// on lists the users that are connected to a gateway.
func (s *story) on(n int) (list []*user) {
	for _, u := range s.users {
		if strings.HasPrefix(u.have["d0"].gateway, fmt.Sprintf("g%d.", n)) {
			list = append(list, u)
		}
	}
	return list
}

// toldGone tells whether some users, and nobody else, were told to be gone: to whoever could be told.
func (s *story) toldGone(events []Event, users []*user) {
	s.t.Helper()
	by := map[string]map[string]bool{}
	begun := false
	for _, e := range events {
		if begun = begun || e.Kind == Healed; begun && e.Kind == Told && e.State.gone() {
			if by[e.User] == nil {
				by[e.User] = map[string]bool{}
			}
			by[e.User][e.Observer] = true
		}
	}
	for _, name := range s.names {
		is := slices.ContainsFunc(users, func(u *user) bool { return u.name == name })
		for _, who := range []string{"sse users", "grpc users", "ws b", "hooks", "batch p0", "batch p1", "list p0", "getOnOffStatus p1"} {
			if by[name][who] != is {
				s.t.Errorf("%s was told that %s is gone: %v", who, name, by[name][who])
			}
		}
	}
}
