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

// A Redis that comes back without its newest writes must not give their numbers to other messages: sessions would take
// those for what they have, and cursors would acknowledge them.
func TestNumbersAreNotUsedAgainAfterALoss(t *testing.T) {
	r := testredis.StartWith(t, testredis.Options{Args: []string{"--appendonly", "yes", "--appendfsync", "always"}})
	g := startGateway(t, Config{LeaseTTL: 15 * time.Second}, "gw-1", r.Addr)
	s, _ := g.signIn("alice", "phone")
	g.signIn("alice", "laptop")
	one := g.send("alice", "one")
	g.send("alice", "two")
	g.ack(s, one.Seq)
	keys, part := g.store.keys, Partition("alice")
	kept := map[string]string{}
	for _, key := range []string{keys.userKey(part, "alice"), keys.mailKey(part, "alice"), keys.ringKey(part, "alice")} {
		kept[key] = textOf(r.MustDo("DUMP", key))
	}
	g.send("alice", "three")
	four := g.send("alice", "four")
	g.ack(s, four.Seq)

	r.Kill()
	r.Restart()
	for key, dump := range kept {
		r.MustDo("RESTORE", key, "0", dump, "REPLACE")
	}
	g.ack(s, four.Seq) // of a client that had it
	five := g.send("alice", "five")
	if five.Seq <= four.Seq {
		t.Fatalf("number %d was given again: %d", four.Seq, five.Seq)
	}
	m, err := g.member.Read(t.Context(), "alice", "laptop", one.Seq, 100, 1<<20)
	if err != nil || m.First <= four.Seq {
		t.Fatalf("mail %+v, %v", m, err)
	}
	wantTexts(t, m, "one", "two", "five")
	g.ack(s, four.Seq) // late, and of numbers that are no more
	m, err = g.member.Read(t.Context(), "alice", "phone", four.Seq+1, 100, 1<<20)
	if err != nil || m.Missed != 0 {
		t.Fatalf("mail %+v, %v", m, err)
	}
	wantTexts(t, m, "five") // the late acknowledgement covered all that was left of what it meant
	if _, login := g.signIn("alice", "phone"); login.Next != five.Seq || login.Missed != 0 {
		t.Fatalf("login %+v after %+v", login, five)
	}
}

// tellTime makes a gateway, which must not run, believe that the servers' clocks are ahead by so much more.
func (g *gateway) tellTime(ahead time.Duration) {
	for _, n := range g.store.servers.routes.Load().nodes() {
		n.ahead.Add(ahead.Milliseconds())
	}
}

func TestOldMessagesAreMissed(t *testing.T) {
	r := startRedis(t)
	g := joinGateway(t, openStore(t, Config{LeaseTTL: time.Hour}, r.Addr), "gw-1")
	g.signIn("alice", "phone")
	one := g.send("alice", "one")
	g.tellTime(4 * 24 * time.Hour)
	g.send("alice", "two")
	g.tellTime(4 * 24 * time.Hour)
	m := g.read("alice", one.Seq)
	if m.First != one.Seq+1 || m.Missed != 1 {
		t.Fatalf("mail %+v", m)
	}
	wantTexts(t, m, "two")
	g.send("alice", "three")
	if m = g.read("alice", one.Seq); m.First != one.Seq+1 || m.Missed != 1 {
		t.Fatalf("mail %+v", m)
	}
	wantTexts(t, m, "two", "three")
	if n := r.MustDo("LLEN", g.store.keys.mailKey(Partition("alice"), "alice")); n != int64(2) {
		t.Fatalf("%v messages are kept", n)
	}
}

func TestClockThatStepsBackChangesNothing(t *testing.T) {
	r := startRedis(t)
	g := joinGateway(t, openStore(t, Config{LeaseTTL: time.Hour}, r.Addr), "gw-1")
	g.signIn("alice", "phone")
	one := g.send("alice", "one")
	g.tellTime(-30 * time.Hour)
	two, again := g.send("alice", "two"), g.send("alice", "one")
	if two.Seq != one.Seq+1 || !again.Duplicate {
		t.Fatalf("appended %+v, %+v", two, again)
	}
	wantTexts(t, g.read("alice", one.Seq), "one", "two")
}

func TestFullServerRefusesMessagesAndTakesLogins(t *testing.T) {
	r := testredis.StartWith(t, testredis.Options{Args: []string{"--maxmemory-policy", "noeviction"}})
	g := startGateway(t, Config{}, "gw-1", r.Addr)
	g.send("alice", "one")
	used := intOf(r.Info("used_memory"))
	r.MustDo("CONFIG", "SET", "maxmemory", fmt.Sprint(used+used/10))
	n := 0
	eventually(t, func() error {
		n++
		if _, err := g.tryAppend(fmt.Sprint("user-", n%100), letter("sender", fmt.Sprint("more ", n))); !errors.Is(err, ErrStoreFull) {
			return fmt.Errorf("append to a server whose memory is 90 %% full: %w", err)
		}
		return nil
	})
	g.login("alice", "phone")
	r.MustDo("CONFIG", "SET", "maxmemory", "0")
	eventually(t, func() error {
		_, err := g.tryAppend("alice", letter("sender", "last"))
		return err
	})
	// A server that is full all at once says so itself.
	r.MustDo("CONFIG", "SET", "maxmemory", "1")
	if _, err := g.tryAppend("alice", letter("sender", "too much")); !errors.Is(err, ErrStoreFull) {
		t.Fatalf("append to a full server: %v", err)
	}
	r.MustDo("CONFIG", "SET", "maxmemory", "0")
	if m := g.read("alice", 0); string(m.Records[len(m.Records)-1].Data) != "last" {
		t.Fatalf("the mailbox ends with %q", m.Records[len(m.Records)-1].Data)
	}
}

// What a replica did not confirm is not acknowledged, and is stored once when one does.
func TestReplicatedMessageWaitsForAReplica(t *testing.T) {
	r := startRedis(t)
	replica := startRedis(t)
	host, port, _ := net.SplitHostPort(r.Addr)
	g := startGateway(t, Config{Durability: DurabilityReplicated, OpTimeout: time.Second}, "gw-1", r.Addr)
	if _, err := g.tryAppend("alice", letter("sender", "one")); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("append without a replica: %v", err)
	}
	replica.MustDo("REPLICAOF", host, port)
	eventually(t, func() error {
		_, err := g.tryAppend("alice", letter("sender", "one"))
		return err
	})
	wantTexts(t, g.read("alice", 0), "one")
	key := g.store.keys.mailKey(Partition("alice"), "alice")
	if got, want := replica.MustDo("DUMP", key), r.MustDo("DUMP", key); got != want {
		t.Fatalf("the replica has %q, and its primary %q", got, want)
	}
}

func TestPeekAndAckWaitThroughAnOutage(t *testing.T) {
	r := startRedis(t)
	g := startGateway(t, Config{LeaseTTL: 15 * time.Second, OpTimeout: 300 * time.Millisecond}, "gw-1", r.Addr)
	s, _ := g.signIn("alice", "phone")
	one := g.send("alice", "one")
	r.Pause()
	if _, err := g.tryAppend("alice", letter("sender", "two")); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("append while Redis is paused: %v", err)
	}
	acked, peeked := make(chan error, 1), make(chan uint64, 1)
	g.member.Ack(s, one.Seq, func(err error) { acked <- err })
	g.member.Peek("alice", func(tail uint64, holders []Holder, err error) {
		if err != nil || len(holders) != 1 {
			t.Errorf("peek: %+v, %v", holders, err)
		}
		peeked <- tail
	})
	r.Resume()
	if err := <-acked; err != nil {
		t.Fatalf("ack: %v", err)
	}
	if tail := <-peeked; tail != one.Seq && tail != one.Seq+1 {
		t.Fatalf("the tail is %d after %d", tail, one.Seq)
	}
	if m := g.read("alice", 0); m.First != one.Seq+1 {
		t.Fatalf("mail %+v", m)
	}
}

// A gateway is told to compare its mailboxes when another one dies, and when Redis comes back.
func TestEvidenceOfLostPushesIsTold(t *testing.T) {
	r := startRedis(t)
	g, h := startGateway(t, Config{}, "gw-1", r.Addr), startGateway(t, Config{}, "gw-2", r.Addr)
	g.login("alice", "d")
	eventually(t, func() error {
		if len(g.member.Peers()) != 2 {
			return errNotYet
		}
		return nil
	})
	more := func(than int) func() error {
		return func() error {
			if g.suspected() <= than {
				return errNotYet
			}
			return nil
		}
	}
	n := g.suspected()
	h.stop()
	eventually(t, more(n))
	n = g.suspected()
	r.MustDo("FLUSHALL")
	eventually(t, more(n))
}

func (g *gateway) suspected() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.suspicions
}

func TestUserHasAtMostSoManyDevices(t *testing.T) {
	r := startRedis(t)
	g := startGateway(t, Config{MaxDevices: 2}, "gw-1", r.Addr)
	one, _ := g.signIn("alice", "one")
	g.signIn("alice", "two")
	if _, _, err := g.tryLogin(t.Context(), "alice", "three"); !errors.Is(err, ErrTooManyDevices) {
		t.Fatalf("a third device: %v", err)
	}
	g.signIn("alice", "two") // takes the place of itself
	g.logout(one)
	g.signIn("alice", "three")
}

func TestTailsOfMailboxes(t *testing.T) {
	r := startRedis(t)
	g := startGateway(t, Config{}, "gw-1", r.Addr)
	one, two := g.send("alice", "one"), g.send("bob", "two")
	tails, err := g.member.Tails(t.Context(), []string{"alice", "nobody", "bob"})
	if err != nil || fmt.Sprint(tails) != fmt.Sprint([]uint64{one.Seq, 0, two.Seq}) {
		t.Fatalf("tails %v, %v", tails, err)
	}
}

// TestTailsWhileAPartOfRedisIsDown: those that can be read are told.
func TestTailsWhileAPartOfRedisIsDown(t *testing.T) {
	c := testredis.StartCluster(t, 3)
	g := startGateway(t, Config{Mode: Cluster}, "gw-1", c.Addrs()...)
	lost, users := c.NodeOf(g.store.keys.mailKey(Partition("alice"), "alice")), userIDs(6)
	want := make([]uint64, len(users))
	for i, u := range users {
		seq := g.send(u, "one").Seq
		if c.NodeOf(g.store.keys.mailKey(Partition(u), u)) != lost {
			want[i] = seq
		}
	}
	c.Nodes[lost].Kill()
	tails, err := g.member.Tails(t.Context(), users)
	if !errors.Is(err, ErrUnavailable) || fmt.Sprint(tails) != fmt.Sprint(want) {
		t.Fatalf("tails %v, %v; want %v", tails, err, want)
	}
}
