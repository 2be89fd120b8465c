package store

import (
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/imcluster/imcluster/internal/testredis"
)

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
