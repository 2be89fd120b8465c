package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/client"
	"github.com/imcluster/imcluster/gateway"
	"github.com/imcluster/imcluster/internal/secretdir"
	"github.com/imcluster/imcluster/internal/testredis"
	"github.com/imcluster/imcluster/presence"
	"github.com/imcluster/imcluster/presence/store"
)

// startPresence runs a presence pod until the test ends, and has gateways ask it.
func startPresence(t *testing.T, redis *testredis.Server) func(*gateway.Config) {
	t.Helper()
	p, err := presence.New(presence.Config{Listen: "127.0.0.1:0", GRPCListen: "127.0.0.1:0", Cluster: "cluster",
		Store:  store.Config{Addresses: []string{redis.Addr}, Fresh: true},
		APIKey: secretdir.Static([]byte("api key")), PeerKey: secretdir.Static([]byte("peer key"))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("presence: %v", err)
		}
	})
	eventually(t, "presence is ready", p.Ready)
	return func(c *gateway.Config) { c.PresenceAddress = p.GRPCAddr().String() }
}

// briefly is what matters of contacts.
func briefly(contacts []client.Contact) (list []string) {
	for _, c := range contacts {
		list = append(list, strings.TrimSpace(fmt.Sprintf("%s %s %s", c.User, c.State, c.Status)))
	}
	return list
}

// watcher is a client that writes down what it is told of others.
type watcher struct {
	*person
	mu   sync.Mutex
	told []string
}

func connectWatcher(t *testing.T, user string, cfg client.Config) *watcher {
	w := &watcher{}
	cfg.OnPresence = func(changes []client.Contact) {
		w.mu.Lock()
		w.told = append(w.told, briefly(changes)...)
		w.mu.Unlock()
	}
	w.person = connect(t, user, cfg)
	return w
}

// expect waits until exactly this was told, since it was asked last.
func (w *watcher) expect(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	eventually(t, fmt.Sprintf("%q are told", want), func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		got = slices.Clone(w.told)
		return len(got) >= len(want)
	})
	if !slices.Equal(got, want) {
		t.Fatalf("told %q, want %q", got, want)
	}
	w.mu.Lock()
	w.told = w.told[len(want):]
	w.mu.Unlock()
}

func TestContactsAreAskedForWatchedAndToldWhenTheyChange(t *testing.T) {
	for _, protobuf := range []bool{false, true} {
		t.Run(fmt.Sprintf("protobuf=%t", protobuf), func(t *testing.T) {
			redis := testredis.Start(t)
			addr, _ := startGateway(t, redis, "a", startPresence(t, redis))
			cfg := client.Config{URLs: []string{urlOf(addr)}, Protobuf: protobuf}
			away := cfg
			away.Status, away.StatusText, away.Platform, away.TokenInHandshake = client.StatusAway, "lunch", "ios", protobuf
			bob := connect(t, "bob", away)
			if status, text := bob.Status(); status != client.StatusAway || text != "lunch" {
				t.Errorf("logged in as %s, %q", status, text)
			}
			alice := connectWatcher(t, "alice", cfg)
			ctx := t.Context()
			got, fresh, err := alice.Query(ctx, "carol", "bob", "carol")
			if want := []string{"carol unknown", "bob online away", "carol unknown"}; err != nil || !slices.Equal(briefly(got), want) || fresh.AsOf.IsZero() {
				t.Fatalf("%q, %v, %v", briefly(got), fresh, err)
			}
			if got[0].Reason != client.NeverSeen || got[1].Text != "lunch" || !slices.Equal(got[1].Platforms, []string{"ios"}) {
				t.Errorf("%+v", got)
			}
			got, err = alice.Subscribe(ctx, "carol", "bob", "bob")
			if want := []string{"bob online away", "carol unknown"}; err != nil || !slices.Equal(briefly(got), want) {
				t.Fatalf("%q, %v", briefly(got), err)
			}
			if err := bob.SetStatus(ctx, client.StatusInvisible, ""); err != nil {
				t.Fatal(err)
			}
			alice.expect(t, "bob offline")
			connect(t, "carol", cfg)
			alice.expect(t, "carol online online")
			if got := alice.Contacts(); !slices.Equal(briefly(got), []string{"bob offline", "carol online online"}) || time.Since(got[0].LastSeen) > time.Minute {
				t.Errorf("%+v", got)
			}
			if got, err = alice.Replace(ctx, "dave"); err != nil || !slices.Equal(briefly(got), []string{"dave unknown"}) {
				t.Fatalf("%q, %v", briefly(got), err)
			}
			if err := bob.SetStatus(ctx, client.StatusBusy, "x"); err != nil {
				t.Fatal(err)
			}
			connect(t, "dave", cfg)
			alice.expect(t, "dave online online")
			if err := alice.Unsubscribe(ctx, "dave", "nobody"); err != nil || len(alice.Contacts()) != 0 {
				t.Errorf("%v, left are %v", err, alice.Contacts())
			}
		})
	}
}

// TestContactsOverTheQuotaAreRefused, also if the list goes in parts, and change nothing.
func TestContactsOverTheQuotaAreRefused(t *testing.T) {
	redis := testredis.Start(t)
	addr, _ := startGateway(t, redis, "a", startPresence(t, redis))
	cfg := client.Config{URLs: []string{urlOf(addr)}}
	alice := connectWatcher(t, "alice", cfg)
	many := make([]string, 1001)
	for i := range many {
		many[i] = fmt.Sprintf("%04d%s", i, strings.Repeat("x", 120))
	}
	if _, err := alice.Subscribe(t.Context(), "bob"); err != nil {
		t.Fatal(err)
	}
	var refused *client.Error
	if _, err := alice.Replace(t.Context(), many...); !errors.As(err, &refused) || refused.Code != wire.CodeTooMuch {
		t.Fatalf("%v", err)
	}
	if got := briefly(alice.Contacts()); !slices.Equal(got, []string{"bob unknown"}) {
		t.Fatalf("left are %q", got)
	}
	connect(t, "bob", cfg)
	if got, err := alice.Subscribe(t.Context(), "carol"); err != nil || len(got) != 1 { // which gives the server the list as it was
		t.Fatal(got, err)
	}
	alice.expect(t, "bob online online")
	if got, err := alice.Replace(t.Context(), many[1:]...); err != nil || len(got) != 1000 {
		t.Fatalf("%d, %v", len(got), err)
	}
	if _, err := alice.Subscribe(t.Context(), "\n"); err == nil {
		t.Error("subscribed to a control character")
	}
}

// TestContactsOutliveConnections: after the connection was cut only the differences are told, and a change that was asked for
// meanwhile is made.
func TestContactsOutliveConnections(t *testing.T) {
	redis := testredis.Start(t)
	addr, _ := startGateway(t, redis, "a", startPresence(t, redis))
	network := startProxy(t, addr)
	cfg := client.Config{URLs: []string{urlOf(addr)}}
	bob, carol := connect(t, "bob", cfg), connect(t, "carol", cfg)
	alice := connectWatcher(t, "alice", client.Config{URLs: []string{network.url()}, MinBackoff: 300 * time.Millisecond})
	if _, err := alice.Subscribe(t.Context(), "bob", "carol", "dave"); err != nil {
		t.Fatal(err)
	}
	network.cut()
	if err := bob.Logout(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := alice.Subscribe(t.Context(), "erin"); err != nil || !slices.Equal(briefly(got), []string{"erin unknown"}) {
		t.Fatalf("%q, %v", briefly(got), err)
	}
	alice.expect(t, "bob offline")
	connect(t, "dave", cfg)
	connect(t, "erin", cfg)
	eventually(t, "both are told", func() bool { alice.mu.Lock(); defer alice.mu.Unlock(); return len(alice.told) == 2 })
	if got, want := briefly(alice.Contacts()), []string{"bob offline", "carol online online", "dave online online", "erin online online"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	_ = carol
}

// TestContactsMoveWithTheClient to another gateway, without a change.
func TestContactsMoveWithTheClient(t *testing.T) {
	redis := testredis.Start(t)
	ask := startPresence(t, redis)
	old, stop := startGateway(t, redis, "old", ask)
	next, _ := startGateway(t, redis, "next", ask)
	cfg := client.Config{URLs: []string{urlOf(old), urlOf(next)}}
	alice := connectWatcher(t, "alice", cfg)
	bob := connect(t, "bob", cfg)
	if _, err := alice.Subscribe(t.Context(), "bob"); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := bob.SetStatus(t.Context(), client.StatusBusy, ""); err != nil {
		t.Fatal(err)
	}
	alice.expect(t, "bob online busy")
}
