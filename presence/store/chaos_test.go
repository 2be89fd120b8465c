package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/imcluster/imcluster/internal/testredis"
)

// chaosTime is how long a schedule lasts.
const chaosTime = 6 * time.Second

// chaos is a random schedule of everything that can happen to gateways, clients and Redis.
type chaos struct {
	t     *testing.T
	rng   *rand.Rand
	redis *testredis.Server
	cfg   Config
	log   []string // what happened, for a failure

	started  int
	gateways []*chaosGateway // alive
	ghosts   []string        // were connected to a gateway that was killed, and never come back
}

type chaosGateway struct {
	*gateway
	paused bool
}

// TestChaos runs random schedules: after quiet the store answers what is really connected, somebody who is connected all
// the time is never said to be offline, and nobody who died comes back. IMC_CHAOS_SEED repeats a schedule,
// IMC_CHAOS_RUNS runs more of them.
func TestChaos(t *testing.T) {
	runs, err := strconv.Atoi(os.Getenv("IMC_CHAOS_RUNS"))
	if err != nil {
		runs = 1
	}
	for range runs {
		seed, err := strconv.ParseUint(os.Getenv("IMC_CHAOS_SEED"), 10, 64)
		if err != nil {
			seed = rand.Uint64N(1e6)
		}
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { runChaos(t, seed) })
	}
}

func runChaos(t *testing.T, seed uint64) {
	c := &chaos{
		t: t, rng: rand.New(rand.NewPCG(seed, 0)), redis: startRedis(t),
		cfg: Config{LeaseTTL: testTTL, Grace: testTTL / 5, OpTimeout: time.Second},
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, line := range c.log {
				t.Log(line)
			}
		}
	})
	// The stable gateway and its users see only what happens to Redis.
	stable := startGateway(t, c.cfg, "gw-stable", c.redis.Addr)
	s := openStore(t, c.cfg, c.redis.Addr)
	keep(t, s)
	keep(t, openStore(t, c.cfg, c.redis.Addr))
	anchors := userIDs(20)
	stable.loginMany(anchors)
	stopAnchors := neverOffline(t, s, anchors)
	for range 3 {
		c.start()
	}
	stopGhosts := c.watchGhosts(s)

	for end := time.Now().Add(chaosTime); time.Now().Before(end); {
		c.step()
		sleep(t, time.Duration(c.rng.IntN(60))*time.Millisecond)
	}
	for _, g := range c.gateways {
		c.resume(g)
	}
	c.converges(s, stable)
	stopAnchors()
	stopGhosts()
}

func (c *chaos) note(format string, args ...any) {
	c.log = append(c.log, time.Now().Format("05.000 ")+fmt.Sprintf(format, args...))
}

func (c *chaos) start() {
	c.started++
	g := joinGateway(c.t, openOld(c.t, c.cfg, c.redis.Addr), fmt.Sprintf("gw-%d", c.started))
	g.stop = background(c.t, g.member.Run)
	c.gateways = append(c.gateways, &chaosGateway{gateway: g})
	c.note("start %s as %s", g.pod, g.member.Epoch())
}

func (c *chaos) step() {
	g := c.gateways[c.rng.IntN(len(c.gateways))]
	user, device := fmt.Sprintf("roamer-%d", c.rng.IntN(30)), fmt.Sprintf("d%d", c.rng.IntN(2))
	switch n := c.rng.IntN(100); {
	case n < 45:
		c.login(g, user, device)
	case n < 65:
		c.logout(g)
	case n < 73:
		c.note("pause %s", g.pod)
		g.stop()
		g.paused = true
	case n < 83:
		c.resume(g)
	case n < 87:
		c.note("fence %s", g.pod)
		_, _, err := g.store.Fence(context.Background(), []Epoch{g.member.Epoch()}, nil)
		if err != nil && !errors.Is(err, ErrUnavailable) {
			c.t.Errorf("fence: %v", err)
		}
	case n < 90:
		c.kill(g)
	case n < 94:
		c.note("flush all")
		c.redis.MustDo("FLUSHALL")
	case n < 96:
		c.note("redis pauses")
		c.redis.Pause()
		sleep(c.t, time.Duration(c.rng.IntN(2000))*time.Millisecond)
		c.redis.Resume()
	case n < 98:
		c.note("kill connections, forget scripts")
		_, _ = c.redis.Do("CLIENT", "KILL", "TYPE", "normal") // kills itself
		c.redis.MustDo("SCRIPT", "FLUSH")
	default:
		c.note("redis restarts empty")
		c.redis.Restart()
	}
}

// login connects a device somewhere, as a client does that believes its old connection dead. The gateway that loses it is
// told, if it can hear.
func (c *chaos) login(g *chaosGateway, user, device string) {
	patience := 2 * time.Second
	if g.paused {
		patience /= 10
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, prev, err := g.tryLogin(ctx, user, device)
	c.note("login %s %s at %s: conn %d, %v", user, device, g.pod, s.Conn, err)
	if err != nil || prev == nil {
		return
	}
	for _, other := range c.gateways {
		if (other == g || !other.paused) && other.member.Epoch() == prev.Epoch {
			other.mu.Lock()
			old, ok := other.sessions[prev.Conn]
			other.mu.Unlock()
			if ok {
				other.logout(old)
			}
		}
	}
}

func (c *chaos) logout(g *chaosGateway) {
	list := g.all()
	if len(list) == 0 {
		return
	}
	slices.SortFunc(list, func(a, b Session) int { return int(a.Conn) - int(b.Conn) })
	s := list[c.rng.IntN(len(list))]
	c.note("logout %s %s at %s: conn %d", s.User, s.Device, g.pod, s.Conn)
	g.logout(s)
}

func (c *chaos) resume(g *chaosGateway) {
	if g.paused {
		c.note("resume %s", g.pod)
		g.paused = false
		g.stop = background(c.t, g.member.Run)
	}
}

// kill ends a gateway with its clients, some of which are ghosts.
func (c *chaos) kill(g *chaosGateway) {
	if len(c.gateways) == 1 {
		return
	}
	ghost := fmt.Sprintf("ghost-%d", len(c.ghosts))
	c.login(g, ghost, "d")
	c.note("kill %s", g.pod)
	g.stop()
	g.member.lanes.close()
	c.gateways = slices.DeleteFunc(c.gateways, func(o *chaosGateway) bool { return o == g })
	c.ghosts = append(c.ghosts, ghost)
	c.start()
}

// watchGhosts fails the test if a ghost is seen alive after it was seen dead. Ghosts are known by their numbers.
func (c *chaos) watchGhosts(s *Store) (stop func()) {
	ids := make([]string, 40)
	for i := range ids {
		ids[i] = fmt.Sprintf("ghost-%d", i)
	}
	dead := map[string]bool{}
	return background(c.t, func(ctx context.Context) error {
		for pause(ctx, 5*time.Millisecond) == nil {
			users, _, _ := s.Users(ctx, ids)
			for _, u := range users {
				if u.State == Online && dead[u.ID] {
					return fmt.Errorf("%s was resurrected: %+v", u.ID, u.Devices)
				}
				dead[u.ID] = dead[u.ID] || u.State == Offline
			}
		}
		return nil
	})
}

// converges waits until every reader sees exactly what is connected.
func (c *chaos) converges(s *Store, stable *gateway) {
	var all []*gateway
	for _, g := range c.gateways {
		all = append(all, g.gateway)
	}
	all = append(all, stable)
	eventually(c.t, func() error {
		want := map[string]string{} // user and device to pod
		for _, g := range all {
			for _, session := range g.all() {
				key := session.User + " " + session.Device
				if pod, ok := want[key]; ok {
					return fmt.Errorf("%s is connected to %s and %s", key, pod, g.pod)
				}
				want[key] = g.pod
			}
		}
		return c.compare(s, want)
	})
}

// differences lists what is in only one of two maps.
func differences(store, gateways map[string]string) []string {
	var list []string
	for k, v := range store {
		if gateways[k] != v {
			list = append(list, fmt.Sprintf("%s is at %q, the store says %q", k, gateways[k], v))
		}
	}
	for k, v := range gateways {
		if _, ok := store[k]; !ok {
			list = append(list, fmt.Sprintf("%s is at %q, the store does not say so", k, v))
		}
	}
	return list
}

func (c *chaos) compare(s *Store, want map[string]string) error {
	var ids []string
	for i := range 30 {
		ids = append(ids, fmt.Sprintf("roamer-%d", i))
	}
	ids = append(ids, userIDs(20)...)
	ids = append(ids, c.ghosts...)
	users, _, degraded := s.Users(context.Background(), ids)
	if degraded {
		return errors.New("degraded")
	}
	got := map[string]string{}
	online := map[string]bool{}
	for _, u := range users {
		for _, d := range u.Devices {
			got[u.ID+" "+d.ID] = d.Gateway
			online[u.ID] = true
		}
		if u.Reason == Unavailable || (u.State == Online) != (len(u.Devices) > 0) {
			return fmt.Errorf("%+v", u)
		}
	}
	if !maps.Equal(got, want) {
		return fmt.Errorf("the store and the gateways differ: %v", differences(got, want))
	}
	count, err := s.count(context.Background())
	if err != nil {
		return err
	}
	if count.Sessions != len(want) || count.Users != len(online) {
		return fmt.Errorf("counts %+v, want %d sessions of %d users", count, len(want), len(online))
	}
	page, err := s.Online(context.Background(), "", 1000)
	if err != nil {
		return err
	}
	slices.Sort(page.Users)
	if listed := slices.Sorted(maps.Keys(online)); !slices.Equal(page.Users, listed) {
		return fmt.Errorf("listed %v, want %v", page.Users, listed)
	}
	return nil
}
