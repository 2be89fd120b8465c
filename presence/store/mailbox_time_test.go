package store

import (
	"fmt"
	"testing"
	"time"
)

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

// The ring is in the order of the appends, not of a clock.
func TestFullRingKnowsItsNewestIDsWhileTheClockIsSetBack(t *testing.T) {
	r := startRedis(t)
	g := joinGateway(t, openStore(t, Config{LeaseTTL: time.Hour}, r.Addr), "gw-1")
	s, _ := g.signIn("alice", "phone")
	for i := range 200 {
		g.ack(s, g.send("alice", fmt.Sprint(i)).Seq)
	}
	g.tellTime(-30 * time.Hour)
	for i := 200; i < 400; i++ {
		g.ack(s, g.send("alice", fmt.Sprint(i)).Seq)
		for _, back := range []int{0, 1, 100, 126} {
			if a := g.send("alice", fmt.Sprint(i-back)); !a.Duplicate {
				t.Fatalf("message %d is not known when %d is the newest", i-back, i)
			}
		}
	}
}
