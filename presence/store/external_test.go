package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imcluster/imcluster/internal/testredis"
)

// externalOnline registers a device on an external server.
func externalOnline(t *testing.T, s *Store, server, user, device string) {
	t.Helper()
	if err := s.RegisterExternal(t.Context(), server, user, device); err != nil {
		t.Fatal(err)
	}
}

func externalOffline(t *testing.T, s *Store, server, user, device string) {
	t.Helper()
	if err := s.UnregisterExternal(t.Context(), server, user, device); err != nil {
		t.Fatal(err)
	}
}

func keepExternal(t *testing.T, s *Store, server string, started bool) External {
	t.Helper()
	kept, err := s.KeepExternal(t.Context(), server, started)
	if err != nil {
		t.Fatal(err)
	}
	return kept
}

// where says on which servers the devices of a user are, and the state if there are none.
func where(t *testing.T, s *Store, user string) string {
	t.Helper()
	users, _, _ := s.Users(t.Context(), []string{user})
	if u := users[0]; u.State != Online {
		return string(u.State) + "/" + string(u.Reason)
	}
	var list []string
	for _, d := range users[0].Devices {
		list = append(list, d.ID+"@"+d.Gateway)
	}
	return fmt.Sprint(list)
}

func wantWhere(t *testing.T, s *Store, user, want string) {
	t.Helper()
	if got := where(t, s, user); got != want {
		t.Errorf("%s is %s, want %s", user, got, want)
	}
}

func TestUsersOfExternalServersAreLikeOthers(t *testing.T) {
	t.Parallel()
	r := testredis.Start(t)
	s := openStore(t, Config{}, r.Addr)
	g := startGateway(t, Config{}, "gateway-1", r.Addr)
	g.login("alice", "phone")
	externalOnline(t, s, "10.0.0.7:5000", "alice", "web")
	externalOnline(t, s, "10.0.0.7:5000", "bob", "web")

	wantWhere(t, s, "alice", "[phone@gateway-1 web@10.0.0.7:5000]")
	wantWhere(t, s, "bob", "[web@10.0.0.7:5000]")
	page, err := s.Online(t.Context(), "", 10)
	if slices.Sort(page.Users); err != nil || !cmp.Equal(page.Users, []string{"alice", "bob"}) {
		t.Errorf("online: %v, %v", page.Users, err)
	}
	counts, err := s.Counts(t.Context())
	if want := []GatewayCount{{"10.0.0.7:5000", 2}, {"gateway-1", 1}}; err != nil || counts.Users != 2 || counts.Sessions != 3 || !cmp.Equal(counts.Gateways, want) {
		t.Errorf("counts: %+v, %v", counts, err)
	}

	externalOffline(t, s, "", "bob", "web")
	externalOffline(t, s, "10.0.0.7:5000", "alice", "web")
	wantWhere(t, s, "alice", "[phone@gateway-1]")
	wantWhere(t, s, "bob", "offline/")
	wantWhere(t, s, "carol", "unknown/never_seen")
}

// A server that is not one of ours is nobody to push to, to count as a gateway, or to wait for.
func TestExternalServersAreNoGateways(t *testing.T) {
	t.Parallel()
	r := testredis.Start(t)
	s := openStore(t, Config{}, r.Addr)
	g := startGateway(t, Config{}, "gateway-1", r.Addr)
	externalOnline(t, s, "chat-7", "alice", "web")
	if _, err := s.readTable(t.Context()); err != nil {
		t.Fatal(err)
	}
	list, _, err := s.Incarnations(t.Context())
	if err != nil || len(list) != 1 || list[0].PodName != "gateway-1" {
		t.Errorf("incarnations: %+v, %v", list, err)
	}
	if peers := s.Gateways(); len(peers) != 1 || peers[0].PodName != "gateway-1" {
		t.Errorf("gateways: %+v", peers)
	}
	located := make(chan []Holder, 1)
	g.member.Locate("alice", func(h []Holder, err error) {
		if err != nil {
			t.Errorf("locate: %v", err)
		}
		located <- h
	})
	if h := <-located; len(h) != 0 {
		t.Errorf("located at %+v", h)
	}
	// The partition is complete without a mark of the external epoch.
	wantWhere(t, s, "nobody", "unknown/never_seen")
}

func TestRepeatedRegistrationChangesNothing(t *testing.T) {
	t.Parallel()
	r := testredis.Start(t)
	one, two := openStore(t, Config{}, r.Addr), openStore(t, Config{}, r.Addr)
	externalOnline(t, one, "chat-7", "alice", "web")
	key := one.keys.userKey(Partition("alice"), "alice")
	before := fmt.Sprint(r.MustDo("hgetall", key))
	var calls sync.WaitGroup
	for _, s := range []*Store{one, two, one, two} {
		calls.Go(func() {
			if err := s.RegisterExternal(context.WithoutCancel(t.Context()), "chat-7", "alice", "web"); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	if after := fmt.Sprint(r.MustDo("hgetall", key)); after != before {
		t.Errorf("the session became %s, was %s", after, before)
	}
}

// Several presence pods that are called for a new server at once give it one lease.
func TestPodsAgreeOnTheLease(t *testing.T) {
	t.Parallel()
	r := testredis.Start(t)
	var calls sync.WaitGroup
	for i := range 4 {
		s := openStore(t, Config{}, r.Addr)
		calls.Go(func() {
			for j := range 10 {
				if err := s.RegisterExternal(context.WithoutCancel(t.Context()), "chat-7", fmt.Sprintf("user-%d-%d", i, j), "web"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	calls.Wait()
	if n := fmt.Sprint(r.MustDo("zcard", "{gw}:live")); n != "1" {
		t.Errorf("%s leases", n)
	}
}

// Revocations are about tokens of ours. They do not make anybody offline who is connected elsewhere.
func TestRevokedUsersMayBeOnExternalServers(t *testing.T) {
	t.Parallel()
	r := testredis.Start(t)
	s := openStore(t, Config{}, r.Addr)
	externalOnline(t, s, "chat-7", "alice", "web")
	if err := s.Revoke(t.Context(), Revocation{User: "alice"}, time.Hour); err != nil {
		t.Fatal(err)
	}
	externalOnline(t, s, "chat-7", "alice", "tv")
	wantWhere(t, s, "alice", "[tv@chat-7 web@chat-7]")
}

func TestLateOfflineSparesWhoMoved(t *testing.T) {
	t.Parallel()
	r := testredis.Start(t)
	s := openStore(t, Config{}, r.Addr)
	g := startGateway(t, Config{}, "gateway-1", r.Addr)

	externalOnline(t, s, "chat-7", "alice", "web")
	externalOnline(t, s, "chat-8", "alice", "web")
	externalOffline(t, s, "chat-7", "alice", "web") // it names the server: the session on the other one stays
	wantWhere(t, s, "alice", "[web@chat-8]")

	_, prev, err := g.tryLogin(t.Context(), "alice", "web")
	if err != nil || prev != nil {
		t.Fatalf("login: replaced %+v, %v", prev, err)
	}
	externalOffline(t, s, "chat-8", "alice", "web")
	externalOffline(t, s, "", "alice", "web") // nor is one on a gateway ended by the published call
	wantWhere(t, s, "alice", "[web@gateway-1]")

	externalOffline(t, s, "", "alice", "tv") // unknown: nothing to do
}

// Who comes online elsewhere with the same device is closed by the gateway that had it.
func TestGatewayLearnsThatADeviceIsOnAnExternalServer(t *testing.T) {
	t.Parallel()
	r := testredis.Start(t)
	s := openStore(t, Config{}, r.Addr)
	g := startGateway(t, Config{}, "gateway-1", r.Addr)
	g.login("alice", "web")
	externalOnline(t, s, "chat-7", "alice", "web")
	eventually(t, func() error {
		if len(g.kicked()) != 1 {
			return errors.New("the gateway keeps the session")
		}
		return nil
	})
	wantWhere(t, s, "alice", "[web@chat-7]")
}

func TestExternalLeases(t *testing.T) {
	t.Parallel()
	r := testredis.Start(t)
	s := openStore(t, Config{}, r.Addr)
	keep(t, s)
	externalOnline(t, s, "published", "alice", "web")
	if kept := keepExternal(t, s, "careful", false); kept.Lease != testTTL {
		t.Errorf("a lease of %s", kept.Lease)
	}
	externalOnline(t, s, "careful", "bob", "web") // does not make the lease longer
	eventually(t, func() error {
		if got := where(t, s, "bob"); got != "offline/" {
			return fmt.Errorf("bob is %s", got)
		}
		return nil
	})
	wantWhere(t, s, "alice", "[web@published]")
	// It comes back: what it registers counts, what it had does not.
	externalOnline(t, s, "careful", "carol", "web")
	wantWhere(t, s, "carol", "[web@careful]")
	wantWhere(t, s, "bob", "offline/")
}

func TestKeepAliveKeepsAnExternalServerAlive(t *testing.T) {
	t.Parallel()
	r := testredis.Start(t)
	s := openStore(t, Config{}, r.Addr)
	keep(t, s)
	first := keepExternal(t, s, "chat-7", true)
	externalOnline(t, s, "chat-7", "alice", "web")
	for end := time.Now().Add(2 * testTTL); time.Now().Before(end); {
		if kept := keepExternal(t, s, "chat-7", false); kept != first {
			t.Fatalf("the registry became %+v, was %+v", kept, first)
		}
		wantWhere(t, s, "alice", "[web@chat-7]")
		<-time.After(testTTL / 5)
	}
}

// A server that has crashed and started again has nobody, whichever pods it was and is registered through.
func TestStartedServerHasNoUsers(t *testing.T) {
	t.Parallel()
	r := testredis.Start(t)
	one, two := openStore(t, Config{}, r.Addr), openStore(t, Config{}, r.Addr)
	keep(t, one)
	externalOnline(t, one, "chat-7", "alice", "web")
	before := keepExternal(t, one, "chat-7", false)
	after := keepExternal(t, two, "chat-7", true)
	if after.Registry == before.Registry {
		t.Error("the registry is the same")
	}
	externalOnline(t, one, "chat-7", "bob", "web") // by the pod that knows the old lease
	eventually(t, func() error {
		if got := where(t, one, "alice"); got != "offline/" {
			return fmt.Errorf("alice is %s", got)
		}
		return nil
	})
	wantWhere(t, two, "bob", "[web@chat-7]")
}

func TestTooManyExternalServers(t *testing.T) {
	t.Parallel()
	r := testredis.Start(t)
	s := openStore(t, Config{}, r.Addr)
	for i := range maxExternals {
		if _, err := s.externals.lease(t.Context(), fmt.Sprint("chat-", i), externalCall{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.RegisterExternal(t.Context(), "another", "alice", "web"); !errors.Is(err, ErrTooManyServers) {
		t.Errorf("another server: %v", err)
	}
	externalOnline(t, s, "chat-3", "alice", "web")
}

// After a loss of all data nobody is said to be offline who is online, and the registry tells the server.
func TestExternalUsersAfterFlushall(t *testing.T) {
	t.Parallel()
	r := testredis.Start(t)
	s := openStore(t, Config{}, r.Addr)
	keep(t, s)
	externalOnline(t, s, "chat-7", "alice", "web")
	before := keepExternal(t, s, "chat-7", false)
	r.MustDo("flushall")
	for end := time.Now().Add(testTTL / 2); time.Now().Before(end); {
		wantWhere(t, s, "alice", "unknown/unavailable")
		<-time.After(testTTL / 20)
	}
	after := keepExternal(t, s, "chat-7", false)
	if after.Registry == before.Registry {
		t.Error("the registry is the same")
	}
	externalOnline(t, s, "chat-7", "alice", "web")
	wantWhere(t, s, "alice", "[web@chat-7]")
	for end := time.Now().Add(2 * testTTL); time.Now().Before(end); {
		keepExternal(t, s, "chat-7", false)
		wantWhere(t, s, "alice", "[web@chat-7]")
		<-time.After(testTTL / 5)
	}
	wantWhere(t, s, "bob", "unknown/never_seen") // and the model is whole again, without any gateway
}

// The lease table alone is lost, of which a server that calls once a day learns nothing.
func TestExternalLeaseSurvivesTheLossOfTheTable(t *testing.T) {
	t.Parallel()
	r := testredis.Start(t)
	s := openStore(t, Config{}, r.Addr)
	keep(t, s)
	externalOnline(t, s, "chat-7", "alice", "web")
	// Only the keeper reads the table here. When it reads it again, it has kept what it read before.
	var seen *table
	eventually(t, func() error {
		if now := s.latest.Load(); now != nil && len(now.deadlines) == 1 && seen == nil {
			seen = now
		}
		if seen == nil || s.latest.Load() == seen {
			return errors.New("the keeper has not seen the lease")
		}
		return nil
	})
	r.MustDo("del", "{gw}:t", "{gw}:live", "{gw}:i")
	for end := time.Now().Add(3 * testTTL); time.Now().Before(end); {
		if got := where(t, s, "alice"); got != "[web@chat-7]" && got != "unknown/unavailable" {
			t.Fatalf("alice is %s", got)
		}
		<-time.After(testTTL / 20)
	}
	wantWhere(t, s, "alice", "[web@chat-7]")
}
