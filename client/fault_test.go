package client_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/client"
	"github.com/imcluster/imcluster/gateway"
	"github.com/imcluster/imcluster/gateway/auth"
	"github.com/imcluster/imcluster/internal/secretdir"
	"github.com/imcluster/imcluster/internal/testredis"
)

// quick are pauses for tests.
func quick(cfg client.Config) client.Config {
	cfg.MinBackoff, cfg.MaxBackoff = 5*time.Millisecond, 50*time.Millisecond
	cfg.RetryRefused = true
	return cfg
}

// unlimited lets clients send as fast as they like.
func unlimited(cfg *gateway.Config) {
	cfg.MaxFramesPerSecond, cfg.MaxBytesPerSecond, cfg.MaxGroupRecipientsPerSecond = -1, -1, -1
}

// Sockets are cut wherever it hurts, within frames too; every message is handled once, in order.
func TestNothingIsLostWhenSocketsAreCutWithinFrames(t *testing.T) {
	redis := testredis.Start(t)
	addr, _ := startGateway(t, redis, "a", unlimited)
	link := startProxy(t, addr)
	const n, step = 400, 2000
	link.cutAfter(step)
	cfg := quick(client.Config{URLs: []string{link.url()}})
	bob := connect(t, "bob", cfg)
	alice := connect(t, "alice", cfg)
	for i := range n {
		link.cutAfter(step + rand.IntN(step))
		if r, err := alice.SendText(t.Context(), "bob", fmt.Sprint(i)); err != nil || !r.Stored() {
			t.Fatalf("message %d: %+v, %v", i, r, err)
		}
	}
	link.cutAfter(0) // connections that end before an acknowledgement has passed lead nowhere
	link.cut()
	bob.expectTexts(t, numbers(n))
	for _, who := range []*person{alice, bob} {
		who.mu.Lock()
		logins := 0
		for _, s := range who.states {
			if s == "online" {
				logins++
			}
		}
		who.mu.Unlock()
		if logins < 5 {
			t.Errorf("%s connected %d times only: nothing was tried", who.UserID(), logins)
		}
	}
}

// A network that swallows everything is noticed by both who sends and who only listens.
func TestBlackHoleIsLeft(t *testing.T) {
	redis := testredis.Start(t)
	addr, _ := startGateway(t, redis, "a", func(c *gateway.Config) { c.IdleTimeout = 3 * time.Second }) // heartbeats every second
	link := startProxy(t, addr)
	cfg := quick(client.Config{URLs: []string{link.url()}})
	bob, alice := connect(t, "bob", cfg), connect(t, "alice", cfg)
	link.swallow()
	r, err := alice.SendText(t.Context(), "bob", "0")
	if err != nil || !r.Stored() {
		t.Fatalf("%+v, %v", r, err)
	}
	bob.expectTexts(t, numbers(1))
	if bob.path() != "online offline online" {
		t.Errorf("bob was %s", bob.path())
	}
}

// A gateway that is told to stop hands its clients over without a gap and without a loss.
func TestClientsMoveWhileTheyChat(t *testing.T) {
	redis := testredis.Start(t)
	a, stop := startGateway(t, redis, "a", unlimited)
	b, _ := startGateway(t, redis, "b", unlimited)
	cfg := quick(client.Config{URLs: []string{urlOf(a), urlOf(b)}})
	bob, alice := connect(t, "bob", cfg), connect(t, "alice", cfg)
	var moved atomic.Bool
	go func() { stop(); moved.Store(true) }()
	n := 0
	for ; !moved.Load() || n < 300; n++ {
		if r, err := alice.SendText(t.Context(), "bob", fmt.Sprint(n)); err != nil || !r.Stored() {
			t.Fatalf("message %d: %+v, %v", n, r, err)
		}
	}
	bob.expectTexts(t, numbers(n))
	for _, who := range []*person{alice, bob} {
		if who.path() != "online moving online" || who.State().URL != urlOf(b) {
			t.Errorf("%s was %s, and is on %s", who.UserID(), who.path(), who.State().URL)
		}
	}
}

// What a device missed while it was away waits for it; with the limits that gateways have unless set otherwise, reading a
// whole mailbox is not a flood.
func TestFullMailboxIsReadOnOneConnection(t *testing.T) {
	redis := testredis.Start(t)
	addr, _ := startGateway(t, redis, "a")
	fast, _ := startGateway(t, redis, "b", unlimited)
	const n = 500
	cfg := quick(client.Config{URLs: []string{urlOf(addr)}})
	if err := connect(t, "bob", cfg).Logout(t.Context()); err != nil {
		t.Fatal(err)
	}
	alice := connect(t, "alice", client.Config{URLs: []string{urlOf(fast)}})
	var answers sync.WaitGroup
	for i := range n {
		answers.Add(1)
		alice.SendAsync(t.Context(), client.Outgoing{To: "bob", Content: client.Text(fmt.Sprint(i))}, func(r client.Receipt, err error) {
			if err != nil || !r.Stored() {
				t.Errorf("message %d: %+v, %v", i, r, err)
			}
			answers.Done()
		})
	}
	answers.Wait()
	bob := connect(t, "bob", cfg)
	bob.expectTexts(t, numbers(n))
	if err := bob.Shutdown(t.Context()); err != nil { // all is acknowledged
		t.Error(err)
	}
	if bob.path() != "online ended" && bob.path() != "online" {
		t.Errorf("bob was %s", bob.path())
	}
	again := connect(t, "bob", cfg)
	if _, err := alice.SendText(t.Context(), "bob", "new"); err != nil {
		t.Fatal(err)
	}
	again.expectTexts(t, []string{"new"})
}

func TestTenThousandQueuedMessages(t *testing.T) {
	redis := testredis.Start(t)
	addr, _ := startGateway(t, redis, "a", unlimited, func(c *gateway.Config) {
		c.Store.Mailbox.MaxMessages, c.Store.Mailbox.MaxBytes = 20_000, 16<<20
	})
	link := startProxy(t, addr)
	const n = 10_000
	cfg := quick(client.Config{URLs: []string{link.url()}})
	bob, alice := connect(t, "bob", cfg), connect(t, "alice", cfg)
	var answers sync.WaitGroup
	for i := range n {
		answers.Add(1)
		alice.SendAsync(t.Context(), client.Outgoing{To: "bob", Content: client.Text(fmt.Sprint(i))}, func(r client.Receipt, err error) {
			if err != nil || !r.Stored() {
				t.Errorf("message %d: %+v, %v", i, r, err)
			}
			answers.Done()
		})
		if i%2500 == 2499 {
			link.cut()
		}
	}
	answers.Wait()
	bob.expectTexts(t, numbers(n))
}

// A message whose handler fails comes again, marked.
func TestFailedMessageComesAgain(t *testing.T) {
	redis := testredis.Start(t)
	addr, _ := startGateway(t, redis, "a", func(c *gateway.Config) { c.RedeliveryDelay = 50 * time.Millisecond })
	failed := false
	cfg := client.Config{URLs: []string{urlOf(addr)}}
	alice := connect(t, "alice", cfg)
	cfg.OnMessage = func(context.Context, client.Message) error {
		if !failed {
			failed = true
			return errors.New("disk full")
		}
		return nil
	}
	bob := connect(t, "bob", cfg)
	if _, err := alice.SendText(t.Context(), "bob", "0"); err != nil {
		t.Fatal(err)
	}
	bob.expectTexts(t, numbers(1))
	bob.mu.Lock()
	defer bob.mu.Unlock()
	if !bob.got[0].Redelivered {
		t.Error("the message is not marked")
	}
}

// A session outlives its token as long as there are fresh ones, on the same connection.
func TestSessionOutlivesItsTokens(t *testing.T) {
	redis := testredis.Start(t)
	key := []byte("0123456789abcdef0123456789abcdef")
	const lifetime, leeway = 3 * time.Second, 5 * time.Second
	addr, _ := startGateway(t, redis, "a", func(c *gateway.Config) { c.Auth = auth.NewJWT(secretdir.Static(key), "", "") })
	issued := 0
	alice := connect(t, "alice", client.Config{URLs: []string{urlOf(addr)}, Token: func(context.Context, bool) (string, error) {
		issued++
		return jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.RegisteredClaims{Subject: "alice", ExpiresAt: jwt.NewNumericDate(time.Now().Add(lifetime))}).SignedString(key)
	}})
	session := alice.SessionID()
	<-time.After(lifetime + leeway + 2*time.Second)
	if alice.path() != "online" || alice.SessionID() != session {
		t.Errorf("alice was %s", alice.path())
	}
	alice.Close()
	<-alice.Done()
	if issued < 2 {
		t.Errorf("%d tokens were used", issued)
	}
}

// Groups, broadcasts and lists, in both encodings at once.
func TestGroupsAndBroadcast(t *testing.T) {
	redis := testredis.Start(t)
	a, _ := startGateway(t, redis, "a")
	b, _ := startGateway(t, redis, "b")
	alice := connect(t, "alice", client.Config{URLs: []string{urlOf(a)}, Protobuf: true})
	bob := connect(t, "bob", client.Config{URLs: []string{urlOf(b)}})
	carol := connect(t, "carol", client.Config{URLs: []string{urlOf(b)}, Protobuf: true, TokenInHandshake: true})
	ctx := t.Context()

	page, err := alice.CreateGroup(ctx, "team", "bob")
	if err != nil || page.Owner != "alice" || page.Count != 2 {
		t.Fatalf("%+v, %v", page, err)
	}
	if _, err := bob.AddMembers(ctx, "team", "carol"); codeOf(err) != wire.CodeForbidden {
		t.Errorf("bob adds carol: %v", err)
	}
	if _, err := alice.CreateGroup(ctx, "team"); codeOf(err) != wire.CodeConflict {
		t.Errorf("made twice: %v", err)
	}
	if page, err = alice.AddMembers(ctx, "team", "carol"); err != nil || page.Count != 3 {
		t.Errorf("%+v, %v", page, err)
	}
	if r, err := bob.Send(ctx, client.Outgoing{Group: "team", Content: client.Text("to the team")}); err != nil || !r.Stored() {
		t.Errorf("%+v, %v", r, err)
	}
	alice.expectTexts(t, []string{"to the team"})
	carol.expectTexts(t, []string{"to the team"})
	if m := alice.got[0]; m.Group != "team" || m.From != "bob" || m.Broadcast() {
		t.Errorf("%+v", m)
	}
	if page, err = carol.GroupMembers(ctx, "team", "", 0); err != nil || !slices.Equal(page.Members, []string{"alice", "bob", "carol"}) {
		t.Errorf("%+v, %v", page, err)
	}
	if _, err = carol.RemoveMembers(ctx, "team", "carol"); err != nil {
		t.Errorf("carol leaves: %v", err)
	}
	if _, err = carol.GroupMembers(ctx, "team", "", 0); codeOf(err) != wire.CodeForbidden {
		t.Errorf("carol asks: %v", err)
	}

	eventually(t, "both gateways are reached", func() bool { // they look for each other once a second
		r, err := alice.Send(ctx, client.Outgoing{Everyone: true, Content: client.Text("to all")})
		if err != nil || r.Stored() {
			t.Fatalf("%+v, %v", r, err)
		}
		return r.Gateways == 2 && r.Reached == 2
	})
	bob.expectTexts(t, []string{"to all"})
	carol.expectTexts(t, []string{"to the team", "to all"})
	if m := bob.got[0]; !m.Broadcast() || m.From != "alice" {
		t.Errorf("%+v", m)
	}
	eventually(t, "all are listed", func() bool {
		list, err := alice.OnlineUsers(ctx, "", 0)
		slices.Sort(list.Users)
		return err == nil && slices.Equal(list.Users, []string{"alice", "bob", "carol"}) && list.Count == 3
	})
	if err := alice.DeleteGroup(ctx, "team"); err != nil {
		t.Error(err)
	}
	if _, err := alice.Send(ctx, client.Outgoing{Group: "team", Content: client.Text("x")}); codeOf(err) != wire.CodeNotFound {
		t.Errorf("to a group that was deleted: %v", err)
	}
}

func codeOf(err error) wire.Code {
	if refused, ok := errors.AsType[*client.Error](err); ok {
		return refused.Code
	}
	return 0
}
