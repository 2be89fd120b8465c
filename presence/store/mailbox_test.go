package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// letter makes a record whose id follows from its text, as a resend's does.
func letter(sender, text string) *Record {
	sum := sha256.Sum256([]byte(sender + "\x00" + text))
	return &Record{ID: [16]byte(sum[:16]), Sender: sender, Data: []byte(text)}
}

type appendResult struct {
	Appended
	err error
}

// tryAppend appends and waits for the outcome.
func (g *gateway) tryAppend(user string, msg *Record) (Appended, error) {
	c := make(chan appendResult, 1)
	g.member.Append(user, msg, func(a Appended, err error) { c <- appendResult{a, err} })
	r := <-c
	return r.Appended, r.err
}

// send appends a message; the test fails if that fails.
func (g *gateway) send(user, text string) Appended {
	g.t.Helper()
	a, err := g.tryAppend(user, letter("sender", text))
	if err != nil {
		g.t.Fatalf("append %q: %v", text, err)
	}
	return a
}

func (g *gateway) ack(s Session, seq uint64) {
	g.t.Helper()
	c := make(chan error, 1)
	g.member.Ack(s, seq, func(err error) { c <- err })
	if err := <-c; err != nil {
		g.t.Fatalf("ack: %v", err)
	}
}

// read reads what waits from a number on.
func (g *gateway) read(user string, from uint64) Mail {
	g.t.Helper()
	m, err := g.member.Read(context.Background(), user, "nobody", from, 1000, 1<<20)
	if err != nil {
		g.t.Fatalf("read: %v", err)
	}
	return m
}

func textsOf(m Mail) []string {
	list := []string{}
	for _, r := range m.Records {
		list = append(list, string(r.Data))
	}
	return list
}

// signIn logs a device in and returns all of the outcome.
func (g *gateway) signIn(user, device string) (Session, Login) {
	g.t.Helper()
	g.mu.Lock()
	g.conns++
	s := Session{User: user, Device: device, Platform: "web", Conn: g.conns}
	g.mu.Unlock()
	login, err := g.member.Register(context.Background(), s)
	if err != nil {
		g.t.Fatalf("log in: %v", err)
	}
	s.Since = login.Since
	g.mu.Lock()
	g.sessions[s.Conn] = s
	g.mu.Unlock()
	return s, login
}

func wantTexts(t testing.TB, m Mail, want ...string) {
	t.Helper()
	if got := textsOf(m); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("the mailbox holds %q, want %q", got, want)
	}
}

func TestMessageWaitsForAUserWhoIsOffline(t *testing.T) {
	r := startRedis(t)
	g := startGateway(t, Config{}, "gw-1", r.Addr)
	one := g.send("alice", "one")
	two := g.send("alice", "two")
	if one.Seq == 0 || two.Seq != one.Seq+1 || two.Tail != two.Seq || len(two.Holders) != 0 {
		t.Fatalf("appended %+v, then %+v", one, two)
	}
	s, login := g.signIn("alice", "phone")
	if login.Next != one.Seq || login.Tail != two.Seq || login.Missed != 0 {
		t.Fatalf("login %+v", login)
	}
	m := g.read("alice", login.Next)
	wantTexts(t, m, "one", "two")
	if m.First != one.Seq || m.Tail != two.Seq || m.Records[0].ID != letter("sender", "one").ID {
		t.Fatalf("mail %+v", m)
	}
	if age := time.Since(m.Records[0].Time); age < -time.Minute || age > time.Minute {
		t.Fatalf("stored at %v", m.Records[0].Time)
	}
	g.ack(s, two.Seq)
	wantTexts(t, g.read("alice", login.Next))
	three := g.send("alice", "three")
	if three.Seq != two.Seq+1 || len(three.Holders) != 1 || three.Holders[0].Device != "phone" || three.Holders[0].Conn != s.Conn {
		t.Fatalf("appended %+v", three)
	}
}

func TestResendIsADuplicate(t *testing.T) {
	r := startRedis(t)
	g := startGateway(t, Config{}, "gw-1", r.Addr)
	h := startGateway(t, Config{}, "gw-2", r.Addr)
	one := g.send("alice", "one")
	if again := h.send("alice", "one"); !again.Duplicate || again.Seq != 0 || again.Tail != one.Seq {
		t.Fatalf("the resend is %+v", again)
	}
	s, _ := h.signIn("alice", "phone")
	h.ack(s, one.Seq)
	h.logout(s)
	h.flush()
	if again := g.send("alice", "one"); !again.Duplicate {
		t.Fatalf("after it was acknowledged the resend is %+v", again)
	}
	_, login := h.signIn("alice", "phone")
	if login.Next <= login.Tail {
		t.Fatalf("it waits again: %+v", login)
	}
}

// Every device gets what comes after the newest message that any device had acknowledged when it first logged in.
func TestEveryKnownDeviceGetsItsMessages(t *testing.T) {
	r := startRedis(t)
	g := startGateway(t, Config{}, "gw-1", r.Addr)
	phone, _ := g.signIn("alice", "phone")
	laptop, _ := g.signIn("alice", "laptop")
	one, two := g.send("alice", "one"), g.send("alice", "two")
	g.ack(phone, two.Seq)
	wantTexts(t, g.read("alice", 0), "one", "two")
	g.ack(laptop, one.Seq)
	wantTexts(t, g.read("alice", 0), "two")
	g.logout(laptop)
	g.logout(phone)
	three := g.send("alice", "three")
	if _, login := g.signIn("alice", "tablet"); login.Next != three.Seq || login.Tail != three.Seq {
		t.Fatalf("a new device: %+v", login)
	}
	if _, login := g.signIn("alice", "laptop"); login.Next != two.Seq || login.Tail != three.Seq || login.Missed != 0 {
		t.Fatalf("a device that was away: %+v", login)
	}
}

func TestFullMailboxDropsTheOldestAndSaysSo(t *testing.T) {
	r := startRedis(t)
	g := startGateway(t, Config{Mailbox: MailboxConfig{MaxMessages: 10}}, "gw-1", r.Addr)
	for i := range 5 {
		for s := range 8 {
			if _, err := g.tryAppend("alice", letter(fmt.Sprint("sender", s), fmt.Sprint(i, "-", s))); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, login := g.signIn("alice", "phone")
	if login.Tail-login.Next+1 != 10 || login.Missed != 30 {
		t.Fatalf("login %+v", login)
	}
	wantTexts(t, g.read("alice", login.Next), "3-6", "3-7", "4-0", "4-1", "4-2", "4-3", "4-4", "4-5", "4-6", "4-7")
	if m := g.read("alice", login.Next-3); m.First != login.Next || m.Missed != 3 {
		t.Fatalf("mail %+v", m)
	}
}

// Who fills a mailbox alone is refused, and drops nobody's messages.
func TestFloodingSenderIsRefused(t *testing.T) {
	r := startRedis(t)
	g := startGateway(t, Config{Mailbox: MailboxConfig{MaxMessages: 10}}, "gw-1", r.Addr)
	for i := range 10 {
		g.send("alice", fmt.Sprint(i))
	}
	if _, err := g.tryAppend("alice", letter("sender", "more")); !errors.Is(err, ErrMailboxFull) {
		t.Fatalf("append to a full mailbox: %v", err)
	}
	if _, err := g.tryAppend("alice", letter("other", "hello")); err != nil {
		t.Fatalf("append of somebody else: %v", err)
	}
	s, login := g.signIn("alice", "phone")
	if login.Missed != 1 {
		t.Fatalf("login %+v", login)
	}
	// What a device has read may go.
	laptop, _ := g.signIn("alice", "laptop")
	g.ack(s, login.Next+4)
	for i := range 5 {
		g.send("alice", fmt.Sprint("more ", i))
	}
	if _, err := g.tryAppend("alice", letter("sender", "too much")); !errors.Is(err, ErrMailboxFull) {
		t.Fatalf("append to a full mailbox: %v", err)
	}
	if m := g.read("alice", login.Next); m.Missed != 5 || len(m.Records) != 10 {
		t.Fatalf("mail %+v", m)
	}
	g.ack(laptop, g.read("alice", 0).Tail)
	g.ack(s, g.read("alice", 0).Tail)
	if _, err := g.tryAppend("alice", letter("sender", "more")); err != nil {
		t.Fatalf("append to a mailbox that was emptied: %v", err)
	}
	if m := g.read("alice", 0); m.Missed != 0 || len(m.Records) != 1 {
		t.Fatalf("mail %+v", m)
	}
}

func TestBytesOfAMailboxAreBounded(t *testing.T) {
	r := startRedis(t)
	g := startGateway(t, Config{Mailbox: MailboxConfig{MaxMessages: 100, MaxBytes: 10000}}, "gw-1", r.Addr)
	big := func(n int) *Record { return letter(fmt.Sprint("sender", n%8), fmt.Sprintf("%2000d", n)) }
	for n := range 8 {
		if _, err := g.tryAppend("alice", big(n)); err != nil {
			t.Fatal(err)
		}
	}
	s, login := g.signIn("alice", "phone")
	if m := g.read("alice", login.Next); len(m.Records) != 5 || login.Missed != 3 {
		t.Fatalf("%d records, login %+v", len(m.Records), login)
	}
	g.ack(s, login.Next+2)
	for n := range 30 {
		if _, err := g.tryAppend("alice", letter("sender0", fmt.Sprint(n))); err != nil {
			t.Fatal(err)
		}
	}
	if m := g.read("alice", 0); len(m.Records) != 32 || m.Missed != 0 {
		t.Fatalf("%d records, %d missed", len(m.Records), m.Missed)
	}
	if m, err := g.member.Read(t.Context(), "alice", "nobody", 0, 100, 2500); err != nil || len(m.Records) != 1 {
		t.Fatalf("%d records in 2500 bytes, %v", len(m.Records), err)
	}
	g.ack(s, g.read("alice", 0).Tail)
	if fields := r.MustDo("HKEYS", g.store.keys.userKey(Partition("alice"), "alice")); fmt.Sprint(fields) == "" {
		t.Fatal("no fields")
	}
}

// A device that had read everything, and was alone, is known by a hash of its name. What comes after it left is due to it,
// whatever another device reads meanwhile.
func TestDeviceThatLeftWithoutMailIsWaitedFor(t *testing.T) {
	for _, order := range []string{"other device first", "mail first"} {
		t.Run(order, func(t *testing.T) {
			r := startRedis(t)
			g := startGateway(t, Config{}, "gw-1", r.Addr)
			s, _ := g.signIn("alice", "phone")
			if order == "mail first" {
				g.ack(s, g.send("alice", "zero").Seq)
			}
			g.logout(s)
			g.flush()
			if n := r.MustDo("EXISTS", g.store.keys.userKey(Partition("alice"), "alice")); n != int64(0) {
				t.Fatal("the user was not forgotten")
			}
			var one Appended
			if order == "mail first" {
				one = g.send("alice", "one")
			}
			other, _ := g.signIn("alice", "laptop")
			if order != "mail first" {
				one = g.send("alice", "one")
			}
			g.ack(other, one.Seq)
			g.logout(other)
			g.flush()
			_, login := g.signIn("alice", "phone")
			if login.Next != one.Seq || login.Tail != one.Seq || login.Missed != 0 {
				t.Fatalf("login %+v after %+v", login, one)
			}
			if _, login = g.signIn("alice", "laptop"); login.Next <= login.Tail {
				t.Fatalf("login of the other: %+v", login)
			}
		})
	}
}

// TestForgottenDeviceIsNotWaitedFor: nothing is due to it, and those that were known before are waited for as they were.
func TestForgottenDeviceIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	for _, before := range []string{"alone", "phone known", "phone known by its hash", "phone connected"} {
		t.Run(before, func(t *testing.T) {
			t.Parallel()
			r := startRedis(t)
			g := startGateway(t, Config{}, "gw-1", r.Addr)
			var phone Session
			if before != "alone" {
				phone, _ = g.signIn("alice", "phone")
			}
			if before == "phone known" {
				g.send("alice", "zero")
			}
			if before == "phone known" || before == "phone known by its hash" {
				g.logout(phone)
				g.flush()
			}
			once, _ := g.signIn("alice", "once")
			once.Forget = true
			g.logout(once)
			g.flush()
			one := g.send("alice", "one")
			if before == "phone connected" {
				g.logout(phone)
				g.flush()
			}
			phone, login := g.signIn("alice", "phone")
			want := one.Seq
			if before == "phone known" {
				want--
			}
			if login.Next != want || login.Tail != one.Seq || login.Missed != 0 {
				t.Errorf("login of the phone %+v, want from %d to %d", login, want, one.Seq)
			}
			g.ack(phone, one.Seq)
			if n := r.MustDo("LLEN", g.store.keys.mailKey(Partition("alice"), "alice")); n != int64(0) {
				t.Errorf("%v messages are kept for a device that is not known any more", n)
			}
			if fields := r.MustDo("HKEYS", g.store.keys.userKey(Partition("alice"), "alice")); strings.Contains(fmt.Sprint(fields), "donce") {
				t.Errorf("the user has %v", fields)
			}
			if u := user(t, g.store, "alice"); u.State != Online {
				t.Errorf("alice: %+v", u)
			}
		})
	}
}

// TestUserWhoseOnlyDeviceIsForgottenIsRememberedAsSeen: as of any other logout, without the device.
func TestUserWhoseOnlyDeviceIsForgottenIsRememberedAsSeen(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	g := startGateway(t, Config{}, "gw-1", r.Addr)
	for range 2 { // also when it was the last one known
		once, _ := g.signIn("alice", "once")
		g.logout(once)
		g.flush()
		once, _ = g.signIn("alice", "once")
		once.Forget = true
		g.logout(once)
		g.flush()
		eventually(t, func() error {
			if u := user(t, g.store, "alice"); u.State != Offline || time.Since(u.LastSeen) > time.Minute {
				return fmt.Errorf("%w: %+v", errNotYet, u)
			}
			return nil
		})
		other, _ := g.signIn("alice", "other")
		if fields := r.MustDo("HKEYS", g.store.keys.userKey(Partition("alice"), "alice")); fmt.Sprint(fields) != "[sother]" {
			t.Errorf("the user has %q", fields)
		}
		other.Forget = true
		g.logout(other)
		g.flush()
	}
}

// A copy of a message that is refused must not be taken for a duplicate of one that is stored.
func TestCopyOfARefusedMessageIsRefused(t *testing.T) {
	r := startRedis(t)
	g := startGateway(t, Config{Mailbox: MailboxConfig{MaxMessages: 10}}, "gw-1", r.Addr)
	for i := range 10 {
		g.send("alice", fmt.Sprint(i))
	}
	const copies = 20 // so many that some are in one call
	errs := make(chan error, copies)
	for range copies {
		g.member.Append("alice", letter("sender", "more"), func(_ Appended, err error) { errs <- err })
	}
	for range copies {
		if err := <-errs; !errors.Is(err, ErrMailboxFull) {
			t.Fatalf("append to a full mailbox: %v", err)
		}
	}
}

// What takes the place of everything there was must end with its user.
func TestMailboxThatIsEmptiedToMakeRoomEnds(t *testing.T) {
	r := startRedis(t)
	g := startGateway(t, Config{Mailbox: MailboxConfig{MaxMessages: 2, MaxBytes: 1000}}, "gw-1", r.Addr)
	for i := range 3 {
		if _, err := g.tryAppend("alice", letter("", fmt.Sprintf("%0900d", i))); err != nil {
			t.Fatal(err)
		}
		k, p := g.store.keys, Partition("alice")
		ends := intOf(r.MustDo("PEXPIRETIME", k.mailKey(p, "alice")))
		user := intOf(r.MustDo("PEXPIRETIME", k.userKey(p, "alice")))
		if ends <= 0 || user > 0 && user != ends {
			t.Fatalf("after message %d the mailbox ends at %d, its user at %d", i, ends, user)
		}
	}
	wantTexts(t, g.read("alice", 0), fmt.Sprintf("%0900d", 2))
}
