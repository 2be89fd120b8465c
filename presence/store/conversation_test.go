package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imcluster/imcluster/internal/testredis"
)

// roomy is a mailbox that no test fills.
var roomy = MailboxConfig{MaxMessages: 1 << 20, MaxBytes: 1 << 30}

// sent is a message and what became of it.
type sent struct {
	text string
	err  error
	seq  uint64
}

// conversation appends messages of one gateway to one user without waiting for one before the next.
type conversation struct {
	g    *gateway
	user string
	name string

	wg   sync.WaitGroup
	mu   sync.Mutex
	sent []*sent
}

func (c *conversation) send(n int) {
	for range n {
		c.mu.Lock()
		m := &sent{text: fmt.Sprint(c.name, " ", len(c.sent))}
		c.sent = append(c.sent, m)
		c.mu.Unlock()
		c.wg.Add(1)
		c.g.member.Append(c.user, letter(c.name, m.text), func(a Appended, err error) {
			m.seq, m.err = a.Seq, err
			c.wg.Done()
		})
	}
}

// check compares the mailbox with what was sent: what was acknowledged is there, once, in the order of the appends; what was
// not may be there, once.
func (c *conversation) check(t *testing.T, m Mail) (acknowledged int) {
	t.Helper()
	at := map[string]int{}
	for i, r := range m.Records {
		text := string(r.Data)
		if !strings.HasPrefix(text, c.name+" ") {
			continue
		}
		if _, ok := at[text]; ok {
			t.Fatalf("%q is stored twice", text)
		}
		at[text] = i
	}
	last := -1
	for _, s := range c.sent {
		i, ok := at[s.text]
		delete(at, s.text)
		if s.err != nil {
			if !errors.Is(s.err, ErrUnavailable) {
				t.Fatalf("append %q: %v", s.text, s.err)
			}
			continue
		}
		acknowledged++
		if !ok {
			t.Fatalf("%q was acknowledged and is lost", s.text)
		}
		if i < last {
			t.Fatalf("%q is before one that was appended earlier", s.text)
		}
		last = i
	}
	if len(at) > 0 {
		t.Fatalf("nobody sent %v", at)
	}
	return acknowledged
}

// converse runs conversations of two gateways with the same users while harm is done, and checks the mailboxes.
func converse(t *testing.T, gateways []*gateway, rounds int, harm func(ctx context.Context) error) {
	t.Helper()
	var list []*conversation
	for _, id := range userIDs(12) {
		for _, g := range gateways {
			list = append(list, &conversation{g: g, user: id, name: g.pod + "→" + id})
		}
	}
	stop := background(t, func(ctx context.Context) error {
		for ctx.Err() == nil {
			if err := harm(ctx); err != nil && ctx.Err() == nil {
				return err
			}
		}
		return nil
	})
	rng := rand.New(rand.NewPCG(1, 2))
	for range rounds {
		for _, c := range list {
			c.send(1 + rng.IntN(12))
		}
		for _, c := range list {
			c.wg.Wait()
		}
	}
	stop()
	for _, g := range gateways {
		g.flush()
	}
	total, acknowledged := 0, 0
	for _, c := range list {
		var m Mail
		eventually(t, func() (err error) {
			m, err = c.g.member.Read(context.Background(), c.user, "d", 0, 1<<20, 1<<30)
			return err
		})
		if m.Missed != 0 || m.Tail+1 != m.First+uint64(len(m.Records)) {
			t.Fatalf("first %d, %d records, tail %d, %d missed", m.First, len(m.Records), m.Tail, m.Missed)
		}
		total += len(c.sent)
		acknowledged += c.check(t, m)
	}
	if acknowledged == 0 {
		t.Fatal("nothing was acknowledged")
	}
	t.Logf("%d of %d acknowledged", acknowledged, total)
}

// lossyProxy passes connections on to a server and drops one of them now and then in place of a reply, so that what was asked
// for has happened and nobody knows.
func lossyProxy(t *testing.T, server string) (addr string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for n := uint64(0); ; n++ {
			client, err := l.Accept()
			if err != nil {
				return
			}
			rng := rand.New(rand.NewPCG(n, 7))
			wg.Go(func() {
				defer client.Close()
				up, err := net.Dial("tcp", server)
				if err != nil {
					return
				}
				defer up.Close()
				wg.Go(func() {
					_, _ = io.Copy(up, client)
					_ = up.Close()
				})
				buf := make([]byte, 64<<10)
				for {
					k, err := up.Read(buf)
					if err != nil || rng.IntN(60) == 0 {
						return
					}
					if _, err := client.Write(buf[:k]); err != nil {
						return
					}
				}
			})
		}
	})
	return l.Addr().String()
}

func TestAppendsAreStoredOnceAndInOrder(t *testing.T) {
	cfg := Config{LeaseTTL: 15 * time.Second, Mailbox: roomy}
	pair := func(t *testing.T, cfg Config, addrs ...string) []*gateway {
		return []*gateway{startGateway(t, cfg, "gw-1", addrs...), startGateway(t, cfg, "gw-2", addrs...)}
	}
	again := func(r *testredis.Server, pauseFor time.Duration, command ...string) func(context.Context) error {
		return func(ctx context.Context) error {
			if _, err := r.Do(command...); err != nil && !strings.Contains(err.Error(), "EOF") {
				return err
			}
			return pause(ctx, pauseFor)
		}
	}
	t.Run("connections are killed", func(t *testing.T) {
		r := startRedis(t)
		converse(t, pair(t, cfg, r.Addr), 40, again(r, 3*time.Millisecond, "CLIENT", "KILL", "TYPE", "normal"))
	})
	t.Run("scripts are forgotten", func(t *testing.T) {
		r := startRedis(t)
		converse(t, pair(t, cfg, r.Addr), 40, again(r, 3*time.Millisecond, "SCRIPT", "FLUSH"))
	})
	t.Run("replies are lost", func(t *testing.T) {
		r := startRedis(t)
		converse(t, pair(t, cfg, lossyProxy(t, r.Addr)), 150, func(ctx context.Context) error { return pause(ctx, time.Second) })
	})
	t.Run("redis is paused", func(t *testing.T) {
		r := startRedis(t)
		cfg := cfg
		cfg.OpTimeout = 400 * time.Millisecond // so that some are refused
		converse(t, pair(t, cfg, r.Addr), 150, func(ctx context.Context) error {
			r.Pause()
			err := pause(ctx, time.Duration(200+rand.IntN(600))*time.Millisecond)
			r.Resume()
			return errors.Join(err, pause(ctx, 100*time.Millisecond))
		})
	})
	t.Run("redis is killed", func(t *testing.T) {
		r := testredis.StartWith(t, testredis.Options{Args: []string{"--appendonly", "yes", "--appendfsync", "always"}})
		converse(t, pair(t, cfg, r.Addr), 20, func(ctx context.Context) error {
			r.Kill()
			err := pause(ctx, 100*time.Millisecond)
			r.Restart()
			return errors.Join(err, pause(ctx, 300*time.Millisecond))
		})
	})
	t.Run("slots move", func(t *testing.T) {
		c := testredis.StartCluster(t, 3)
		cfg := cfg
		cfg.Mode = Cluster
		gateways := pair(t, cfg, c.Addrs()...)
		to := 0
		converse(t, gateways, 20, func(ctx context.Context) error {
			to++
			c.MoveSlot(gateways[0].store.keys.meta[Partition(userIDs(1)[0])], to%3)
			return pause(ctx, 50*time.Millisecond)
		})
	})
	t.Run("a primary is killed", func(t *testing.T) {
		c := testredis.StartReplicated(t, 3)
		cfg := cfg
		cfg.Mode, cfg.Durability = Cluster, DurabilityReplicated
		share := 0
		converse(t, pair(t, cfg, c.Addrs()...), 12, func(ctx context.Context) error {
			if share == 3 {
				return pause(ctx, time.Second)
			}
			c.FailOver(share)
			c.Settle()
			share++
			return pause(ctx, 200*time.Millisecond)
		})
	})
}
