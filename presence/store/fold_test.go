package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/imcluster/imcluster/presence/feed"
)

// history is a random life of a few users on gateways that move, hide and die.
type history struct {
	t        *testing.T
	rng      *rand.Rand
	cfg      Config
	addrs    []string
	store    *Store
	flush    func()
	gateways []*gateway
	started  int
	log      []string
}

// TestFoldSaysWhatRedisSays follows the feed of random histories, in which gateways die, take new epochs and lose their data
// and two presence pods tend the model: when it is quiet the fold says of everybody what the users, the list and the counts say.
// IMC_FOLD_SEED repeats a history, IMC_FOLD_RUNS runs more of them.
func TestFoldSaysWhatRedisSays(t *testing.T) {
	runs, err := strconv.Atoi(os.Getenv("IMC_FOLD_RUNS"))
	if err != nil {
		runs = 2
	}
	for range runs {
		seed, err := strconv.ParseUint(os.Getenv("IMC_FOLD_SEED"), 10, 64)
		if err != nil {
			seed = rand.Uint64N(1e6)
		}
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			runHistory(t, seed)
		})
	}
}

func runHistory(t *testing.T, seed uint64) {
	r := startRedis(t)
	h := &history{t: t, rng: rand.New(rand.NewPCG(seed, 1)), addrs: []string{r.Addr}, flush: func() { r.MustDo("FLUSHALL") },
		cfg: Config{LeaseTTL: testTTL, Grace: testTTL / 5, OpTimeout: 5 * time.Second}}
	t.Cleanup(func() {
		if t.Failed() {
			for _, line := range h.log {
				t.Log(line)
			}
		}
	})
	h.store = openStore(t, h.cfg, h.addrs...)
	keep(t, h.store)
	keep(t, openStore(t, h.cfg, h.addrs...))
	for range 3 {
		h.start()
	}
	var ids []string
	for i := range 12 {
		ids = append(ids, fmt.Sprintf("u%d", i))
	}
	f := follow(t, h.store)
	for range 3 {
		for range 60 {
			h.step(ids[h.rng.IntN(len(ids))], fmt.Sprintf("d%d", h.rng.IntN(2)))
			if h.rng.IntN(4) == 0 {
				f.catchUp()
			}
		}
		for _, g := range h.gateways {
			g.flush()
		}
		eventually(t, func() error { return f.agrees(ids) })
	}
	if f.facts == 0 {
		t.Error("no fact was folded")
	}
}

func (h *history) note(format string, args ...any) {
	h.log = append(h.log, time.Now().Format("05.000 ")+fmt.Sprintf(format, args...))
}

func (h *history) start() {
	h.started++
	g := joinGateway(h.t, openOld(h.t, h.cfg, h.addrs...), fmt.Sprintf("gw-%d", h.started))
	g.stop = background(h.t, g.member.Run)
	h.gateways = append(h.gateways, g)
	h.note("start %s as %s", g.pod, g.member.Epoch())
}

func (h *history) step(user, device string) {
	i := h.rng.IntN(len(h.gateways))
	g := h.gateways[i]
	switch n := h.rng.IntN(100); {
	case n < 40:
		h.login(g, user, device)
	case n < 65:
		if list := g.all(); len(list) > 0 {
			slices.SortFunc(list, func(a, b Session) int { return int(a.Conn) - int(b.Conn) })
			s := list[h.rng.IntN(len(list))]
			h.note("logout %s %s at %s", s.User, s.Device, g.pod)
			g.logout(s)
		}
	case n < 80:
		status := h.status()
		h.note("status of %s: %+v", user, *status)
		if _, err := h.store.SetStatus(context.Background(), user, *status); err != nil {
			h.t.Errorf("set status: %v", err)
		}
	case n < 90:
		if list := g.all(); len(list) > 0 {
			status := h.status()
			h.note("status of %s by %s: %+v", list[0].User, g.pod, *status)
			if _, err := g.member.SetStatus(context.Background(), list[0], *status); err != nil && !errors.Is(err, ErrNoSession) {
				h.t.Errorf("set status: %v", err)
			}
		}
	case n < 95:
		h.note("fence %s", g.pod)
		if _, _, err := h.store.Fence(context.Background(), []Epoch{g.member.Epoch()}, nil); err != nil {
			h.t.Errorf("fence: %v", err)
		}
	case n < 99:
		h.note("kill %s", g.pod)
		g.stop()
		g.member.lanes.close()
		h.gateways = slices.Delete(h.gateways, i, i+1)
		h.start()
	default:
		h.note("flush all")
		h.flush()
	}
}

func (h *history) status() *Status {
	return []*Status{{Show: feed.ShowOnline}, {Show: feed.ShowOnline, Text: "hello"}, {Show: feed.ShowAway},
		{Show: feed.ShowBusy, Text: "2.5 h"}, {Show: feed.ShowInvisible}, {Show: feed.ShowInvisible, Text: "x"}}[h.rng.IntN(6)]
}

// login connects a device. The gateway that loses it is told, if it lives.
func (h *history) login(g *gateway, user, device string) {
	g.mu.Lock()
	g.conns++
	s := Session{User: user, Device: device, Platform: "web", Conn: g.conns, Addr: "192.0.2.1"}
	g.mu.Unlock()
	if h.rng.IntN(4) == 0 {
		s.Status = h.status()
	}
	login, err := g.member.Register(context.Background(), s)
	h.note("login %s %s at %s with %+v: %v", user, device, g.pod, s.Status, err)
	if err != nil {
		return
	}
	s.Since, s.Status, s.StatusSet = login.Since, &login.Status, login.StatusSet
	g.mu.Lock()
	g.sessions[s.Conn] = s
	g.mu.Unlock()
	if prev := login.Previous; prev != nil {
		for _, other := range h.gateways {
			other.mu.Lock()
			old, ok := other.sessions[prev.Conn]
			other.mu.Unlock()
			if ok && old.User == user && old.Device == device && !old.Since.After(prev.Since) && old.Since.Equal(prev.Since) {
				other.logout(old)
			}
		}
	}
}
