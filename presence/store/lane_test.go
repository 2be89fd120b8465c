package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/imcluster/imcluster/internal/testredis"
)

// Each user logs in and out without waiting for anything, so that many ops of a user are in the lane at once. Whatever
// happens to connections and scripts, the last op decides.
func TestOrderHoldsUnderBrokenConnectionsAndForgottenScripts(t *testing.T) {
	for name, harm := range map[string][]string{
		"CLIENT KILL":  {"CLIENT", "KILL", "TYPE", "normal"},
		"SCRIPT FLUSH": {"SCRIPT", "FLUSH"},
	} {
		t.Run(name, func(t *testing.T) {
			r := startRedis(t)
			g := startGateway(t, Config{LeaseTTL: 15 * time.Second}, "gw-1", r.Addr)
			// On a busy machine nothing would ever come through if harm did not wait for something to.
			var through atomic.Int64
			stopHarm := background(t, func(ctx context.Context) error {
				for last := int64(-1); pause(ctx, 3*time.Millisecond) == nil; {
					n := through.Load()
					if n == last {
						continue
					}
					last = n
					if _, err := r.Do(harm...); err != nil && !strings.Contains(err.Error(), "EOF") {
						return err
					}
				}
				return nil
			})
			ids := userIDs(64)
			online := make([]bool, len(ids))
			var wg sync.WaitGroup
			for i, id := range ids {
				wg.Go(func() {
					rng := rand.New(rand.NewPCG(uint64(i), 1))
					var last Session
					for range 100 {
						if rng.IntN(2) == 0 && last.Conn != 0 {
							g.logout(last)
							last = Session{}
							continue
						}
						s, _, err := g.tryLogin(context.Background(), id, "d")
						if err != nil {
							t.Errorf("log in: %v", err)
							return
						}
						through.Add(1)
						if last.Conn != 0 {
							g.logout(last) // was replaced
						}
						last = s
					}
					online[i] = last.Conn != 0
				})
			}
			wg.Wait()
			stopHarm()
			g.flush()
			want := 0
			for i, id := range ids {
				state := Offline
				if online[i] {
					state = Online
					want++
				}
				eventually(t, func() error {
					if u := user(t, g.store, id); u.State != state {
						return fmt.Errorf("%s is %s, want %s", id, u.State, state)
					}
					return nil
				})
			}
			if c, err := g.store.count(t.Context()); err != nil || c.Sessions != want {
				t.Fatalf("counts %+v %v, want %d", c, err, want)
			}
		})
	}
}

func TestGivenUpLoginIsUndone(t *testing.T) {
	r := startRedis(t)
	g := startGateway(t, Config{LeaseTTL: 15 * time.Second}, "gw-1", r.Addr)
	g.login("alice", "d") // opens the connection
	r.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, _, err := g.tryLogin(ctx, "bob", "d"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a login while Redis is paused: %v", err)
	}
	r.Resume()
	g.flush()
	if u := user(t, g.store, "bob"); u.State == Online {
		t.Fatalf("a login that was given up: %+v", u)
	}
	is(t, g.store, "alice", Online)
}

// While a slot moves, a call is refused if some of its keys have moved: of two calls of one batch perhaps only the first, and
// what was tried again would be behind what was stored.
func TestAppendsKeepTheirOrderWhileASlotMoves(t *testing.T) {
	c := testredis.StartCluster(t, 3)
	g := startGateway(t, Config{Mode: Cluster, LeaseTTL: 15 * time.Second}, "gw-1", c.Addrs()...)
	stays, part := "alice", Partition("alice")
	var moves string // of the same partition
	for i := 0; moves == ""; i++ {
		if id := fmt.Sprint("bob-", i); Partition(id) == part {
			moves = id
		}
	}
	g.signIn(stays, "d")
	g.signIn(moves, "d")
	g.send(stays, "zero")
	g.send(moves, "zero")
	g.flush()

	k := g.store.keys
	finish := c.BeginMove(k.meta[part], (c.NodeOf(k.meta[part])+1)%3, k.userKey(part, moves), k.mailKey(part, moves), k.ringKey(part, moves))
	l := g.member.lanes
	l.mu.Lock()
	l.hold(part) // so that all that follows is one batch
	l.mu.Unlock()
	results := make(chan appendResult, 3)
	done := func(a Appended, err error) { results <- appendResult{a, err} }
	g.member.Append(stays, letter("sender", "one"), done)
	g.member.Append(moves, letter("sender", "one"), done)
	g.member.Locate(stays, func([]Holder, error) {})
	g.member.Append(stays, letter("sender", "two"), done)
	tried := func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if head := l.parts[part].head; head == nil || !head.sent {
			return errNotYet
		}
		return nil
	}
	eventually(t, tried)
	finish()
	for range 3 {
		if r := <-results; r.err != nil || r.Duplicate {
			t.Fatalf("append: %+v, %v", r.Appended, r.err)
		}
	}
	g.flush()
	wantTexts(t, g.read(stays, 0), "zero", "one", "two")
	wantTexts(t, g.read(moves, 0), "zero", "one")
}

func TestLoginIsRefusedAfterOpTimeout(t *testing.T) {
	r := startRedis(t)
	g := startGateway(t, Config{LeaseTTL: 15 * time.Second, OpTimeout: 400 * time.Millisecond}, "gw-1", r.Addr)
	r.Kill()
	if _, _, err := g.tryLogin(t.Context(), "bob", "d"); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("a login without Redis: %v", err)
	}
	located := make(chan error, 1)
	g.member.Locate("alice", func(_ []Holder, err error) { located <- err })
	if err := <-located; !errors.Is(err, ErrUnavailable) {
		t.Fatalf("a locate without Redis: %v", err)
	}
}

func TestClosedStoreRefuses(t *testing.T) {
	r := startRedis(t)
	s := openStore(t, Config{}, r.Addr)
	g := joinGateway(t, s, "gw-1")
	r.Pause()
	refused := make(chan error, 1)
	go func() {
		_, _, err := g.tryLogin(context.Background(), "bob", "d")
		refused <- err
	}()
	eventually(t, func() error {
		if g.member.lanes.waiting() == 0 {
			return errNotYet
		}
		return nil
	})
	g.member.lanes.close()
	if err := <-refused; !errors.Is(err, ErrUnavailable) {
		t.Fatalf("a login that waits at close: %v", err)
	}
	if _, _, err := g.tryLogin(context.Background(), "bob", "d"); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("a login after close: %v", err)
	}
	r.Resume()
}

// roundTrips counts the pipelines and commands that a node's readers send.
type roundTrips struct {
	mu        sync.Mutex
	pipelines int
}

func (h *roundTrips) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *roundTrips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.add()
		return next(ctx, cmd)
	}
}

func (h *roundTrips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h.add()
		return next(ctx, cmds)
	}
}

func (h *roundTrips) add() {
	h.mu.Lock()
	h.pipelines++
	h.mu.Unlock()
}

func (h *roundTrips) take() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.pipelines
	h.pipelines = 0
	return n
}
