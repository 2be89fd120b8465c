package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/imcluster/imcluster/internal/testredis"
)

// reader is what a gateway knows of a session: the number of the next message, as pushes and reads told it.
type reader struct {
	Session
	g    *gateway
	next uint64
	last uint64 // the newest number it was ever told
}

func (g *gateway) newReader(user, device string) *reader {
	s, login := g.signIn(user, device)
	return &reader{Session: s, g: g, next: login.Next, last: login.Tail}
}

// fetch reads what is due, as the gateway does after a push or a sweep. Numbers never go back.
func (r *reader) fetch() (texts []string, missed int) {
	t := r.g.t
	m, err := r.g.member.Read(t.Context(), r.User, r.Device, r.next, 1000, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Records) > 0 {
		if m.First < r.next {
			t.Fatalf("%s reads number %d after %d", r.User, m.First, r.next-1)
		}
		r.next = m.First + uint64(len(m.Records))
		r.last = r.next - 1
	}
	return textsOf(m), m.Missed
}

func (r *reader) wants(want ...string) {
	r.g.t.Helper()
	if got, missed := r.fetch(); fmt.Sprint(got) != fmt.Sprint(want) || missed != 0 {
		r.g.t.Fatalf("%s reads %q and missed %d, want %q", r.User, got, missed, want)
	}
}

// withMail is a user with two messages that neither device has acknowledged; the first device has read both.
func (g *gateway) withMail(user string) (phone, laptop *reader) {
	phone, laptop = g.newReader(user, "phone"), g.newReader(user, "laptop")
	g.send(user, "one")
	g.send(user, "two")
	phone.wants("one", "two")
	return phone, laptop
}

// afterLoss is what devices see whose mailbox was lost: nothing old, and what is new once, under new numbers, whatever they
// acknowledge late.
func afterLoss(t *testing.T, phone, laptop *reader) {
	t.Helper()
	g, user, old := phone.g, phone.User, phone.last
	phone.wants()
	laptop.wants()
	g.ack(phone.Session, old) // of what was lost
	three := g.send(user, "three")
	if three.Duplicate || three.Seq <= old || three.Tail != three.Seq {
		t.Fatalf("appended %+v after %d", three, old)
	}
	g.ack(phone.Session, old)
	g.ack(laptop.Session, old)
	phone.wants("three")
	laptop.wants("three")
	if again := g.send(user, "three"); !again.Duplicate {
		t.Fatalf("the resend is %+v", again)
	}
	g.ack(phone.Session, three.Seq)
	phone.wants()
	if _, login := g.signIn(user, "phone"); login.Next <= login.Tail || login.Missed != 0 {
		t.Fatalf("%s logs in again: %+v", user, login)
	}
	if _, login := g.signIn(user, "laptop"); login.Next != three.Seq || login.Missed != 0 {
		t.Fatalf("%s logs in again: %+v after %+v", user, login, three)
	}
}

// Without persistence stored mail is lost with Redis' data. Nothing else is, and nothing comes twice.
func TestMailboxesOfAnEmptiedRedis(t *testing.T) {
	r := startRedis(t)
	g := startGateway(t, Config{LeaseTTL: 15 * time.Second}, "gw-1", r.Addr)
	phone, laptop := g.withMail("alice")
	bob, bobs := g.withMail("bob")
	g.member.leaseMu.Lock() // holds the gateway up, so that it has not registered the sessions yet
	r.MustDo("FLUSHALL")
	// Redis knows nobody: what comes now is for a user who is away.
	meanwhile := g.send("bob", "meanwhile")
	g.wantKinds(r, "bob", "none string none")
	if len(meanwhile.Holders) != 0 || meanwhile.Seq <= bob.last {
		t.Fatalf("appended %+v after %d", meanwhile, bob.last)
	}
	g.ack(bob.Session, bob.last)
	if tails, err := g.member.Tails(t.Context(), []string{"alice", "bob"}); err != nil || tails[0] != 0 || tails[1] != meanwhile.Seq {
		t.Fatalf("tails %v, %v", tails, err)
	}
	n := g.suspected()
	g.member.leaseMu.Unlock()
	eventually(t, func() error { return allOnline(g.store, []string{"alice", "bob"}) })
	eventually(t, func() error { // the gateway sweeps, with everybody there
		if g.suspected() == n {
			return errNotYet
		}
		return nil
	})
	afterLoss(t, phone, laptop)
	bob.wants("meanwhile")
	bobs.wants("meanwhile")
	g.ack(bob.Session, meanwhile.Seq)
	g.ack(bobs.Session, meanwhile.Seq)
	afterLoss(t, bob, bobs)
}

func TestMailboxesOfAnEmptiedShard(t *testing.T) {
	c := testredis.StartCluster(t, 3)
	g := startGateway(t, Config{Mode: Cluster, LeaseTTL: 15 * time.Second}, "gw-1", c.Addrs()...)
	const lost = 1
	type pair struct{ phone, laptop *reader }
	var gone, kept []pair
	for i := 0; len(gone) < 4 || len(kept) < 8; i++ {
		id := fmt.Sprint("user-", i)
		phone, laptop := g.withMail(id)
		if c.NodeOf(g.store.keys.userKey(Partition(id), id)) == lost {
			gone = append(gone, pair{phone, laptop})
		} else {
			kept = append(kept, pair{phone, laptop})
		}
	}
	c.Nodes[lost].MustDo("FLUSHALL")
	var ids []string
	for _, p := range append(gone, kept...) {
		ids = append(ids, p.phone.User)
	}
	eventually(t, func() error { return allOnline(g.store, ids) })
	for _, p := range gone {
		afterLoss(t, p.phone, p.laptop)
	}
	for _, p := range kept {
		p.phone.wants()
		p.laptop.wants("one", "two")
		three := g.send(p.phone.User, "three")
		if three.Seq != p.phone.last+1 || len(three.Holders) != 2 {
			t.Fatalf("appended %+v after %d on a shard that lost nothing", three, p.phone.last)
		}
		p.phone.wants("three")
		if _, login := g.signIn(p.phone.User, "phone"); login.Next != three.Seq-2 {
			t.Fatalf("%s logs in again: %+v", p.phone.User, login)
		}
	}
}
