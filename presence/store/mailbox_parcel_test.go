package store

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/imcluster/imcluster/internal/testredis"
)

// kinds tells the types of the keys of a user's hash, mailbox and ring.
func (g *gateway) kinds(r *testredis.Server, user string) string {
	k, p := g.store.keys, Partition(user)
	var kinds []string
	for _, key := range []string{k.userKey(p, user), k.mailKey(p, user), k.ringKey(p, user)} {
		kinds = append(kinds, textOf(r.MustDo("TYPE", key)))
	}
	return strings.Join(kinds, " ")
}

func (g *gateway) wantKinds(r *testredis.Server, user, want string) {
	g.t.Helper()
	if got := g.kinds(r, user); got != want {
		g.t.Fatalf("hash, mailbox and ring are %q, want %q", got, want)
	}
}

func TestParcelBecomesAListWhenItIsLarge(t *testing.T) {
	r := startRedis(t)
	g := startGateway(t, Config{}, "gw-1", r.Addr)
	texts := make([]string, 30)
	for i := range texts {
		texts[i] = fmt.Sprintf("%0200d", i)
	}
	var first Appended
	for i, text := range texts {
		a := g.send("alice", text)
		if i == 0 {
			first = a
		}
		if a.Seq != first.Seq+uint64(i) || a.Tail != a.Seq {
			t.Fatalf("message %d after %d: %+v", i, first.Seq, a)
		}
		if i == 9 {
			g.wantKinds(r, "alice", "none string none")
		}
	}
	g.wantKinds(r, "alice", "hash list string")
	k, p := g.store.keys, Partition("alice")
	for _, key := range []string{k.userKey(p, "alice"), k.mailKey(p, "alice")} {
		if ttl := intOf(r.MustDo("PTTL", key)); ttl < g.store.cfg.Mailbox.Retention.Milliseconds() {
			t.Fatalf("%s ends in %d ms", key, ttl)
		}
	}
	for _, text := range texts {
		if a := g.send("alice", text); !a.Duplicate || a.Tail != first.Seq+29 {
			t.Fatalf("resend: %+v", a)
		}
	}
	wantTexts(t, g.read("alice", 0), texts...)
}

// Whoever repeats a message to a parcel, or after it was opened and read, is told that it was there.
func TestParcelIsOpenedByALogin(t *testing.T) {
	r := startRedis(t)
	g := startGateway(t, Config{}, "gw-1", r.Addr)
	one, two := g.send("alice", "one"), g.send("alice", "two")
	if a := g.send("alice", "one"); !a.Duplicate || a.Tail != two.Seq {
		t.Fatalf("resend: %+v", a)
	}
	g.wantKinds(r, "alice", "none string none")
	if m := g.read("alice", two.Seq); m.First != two.Seq || m.Tail != two.Seq || len(m.Records) != 1 {
		t.Fatalf("mail %+v", m)
	}
	if tails, err := g.member.Tails(t.Context(), []string{"alice"}); err != nil || tails[0] != two.Seq {
		t.Fatalf("tails %v, %v", tails, err)
	}
	s, login := g.signIn("alice", "phone")
	if login.Next != one.Seq || login.Tail != two.Seq {
		t.Fatalf("login %+v after %+v", login, one)
	}
	g.wantKinds(r, "alice", "hash list string")
	k, p := g.store.keys, Partition("alice")
	for _, key := range []string{k.userKey(p, "alice"), k.mailKey(p, "alice")} {
		if ttl := intOf(r.MustDo("PTTL", key)); ttl != -1 {
			t.Fatalf("%s of a user with a session ends in %d ms", key, ttl)
		}
	}
	g.ack(s, two.Seq)
	g.logout(s)
	g.flush()
	three := g.send("alice", "three")
	if three.Seq <= two.Seq {
		t.Fatalf("number %d after %d", three.Seq, two.Seq)
	}
	g.wantKinds(r, "alice", "none string string")
	for _, text := range []string{"one", "two", "three"} {
		if a := g.send("alice", text); !a.Duplicate {
			t.Fatalf("resend of %q: %+v", text, a)
		}
	}
	_, login = g.signIn("alice", "phone")
	wantTexts(t, g.read("alice", login.Next), "three")
}

// A server that restarted may have lost the newest of a parcel, too.
func TestParcelIsRenumberedByARestart(t *testing.T) {
	r := testredis.StartWith(t, testredis.Options{Args: []string{"--appendonly", "yes", "--appendfsync", "always"}})
	g := startGateway(t, Config{LeaseTTL: 15 * time.Second}, "gw-1", r.Addr)
	g.send("alice", "one")
	key := g.store.keys.mailKey(Partition("alice"), "alice")
	kept := textOf(r.MustDo("DUMP", key))
	two := g.send("alice", "two")
	r.Kill()
	r.Restart()
	r.MustDo("RESTORE", key, "0", kept, "REPLACE")
	three := g.send("alice", "three")
	if three.Seq <= two.Seq {
		t.Fatalf("number %d was given again: %d", two.Seq, three.Seq)
	}
	m := g.read("alice", 0)
	if m.First != three.Seq-1 || m.Missed != 0 {
		t.Fatalf("mail %+v", m)
	}
	wantTexts(t, m, "one", "three")
}

// Whoever opens a parcel and then does nothing leaves it with an end.
func TestOpenedParcelEndsWhenItWouldHave(t *testing.T) {
	r := startRedis(t)
	g := startGateway(t, Config{}, "gw-1", r.Addr)
	g.send("alice", "one")
	k, p := g.store.keys, Partition("alice")
	user, mail := k.userKey(p, "alice"), k.mailKey(p, "alice")
	before := intOf(r.MustDo("PEXPIRETIME", mail))
	r.MustDo("EVAL", mailboxLua+"open(KEYS[1], KEYS[2], KEYS[3])", "3", user, mail, k.ringKey(p, "alice"))
	g.wantKinds(r, "alice", "hash list string")
	for _, key := range []string{user, mail} {
		if ends := intOf(r.MustDo("PEXPIRETIME", key)); ends < before || ends > before+1000 {
			t.Fatalf("%s ends at %d, and the parcel at %d", key, ends, before)
		}
	}
	wantTexts(t, g.read("alice", 0), "one")
}
