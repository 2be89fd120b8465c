package store

import (
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/imcluster/imcluster/internal/testredis"
)

func TestPasswordIsRotated(t *testing.T) {
	r := testredis.StartWith(t, testredis.Options{Args: []string{"--user", "imc", "on", ">one", "~*", "&*", "+@all"}})
	var password atomic.Value
	password.Store("wrong")
	cfg := Config{Username: "imc", Password: func() (string, error) { return password.Load().(string), nil }}
	c := cfg
	c.Addresses = []string{r.Addr}
	if _, err := Open(t.Context(), c); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("open with a wrong password: %v", err)
	}
	password.Store("one")
	g := startGateway(t, cfg, "gw-1", r.Addr)
	g.login("alice", "d")

	// Connections made with the old password are closed, and it is not accepted any more.
	password.Store("two")
	r.MustDo("ACL", "SETUSER", "imc", ">two", "<one")
	r.MustDo("CLIENT", "KILL", "USER", "imc")
	g.login("bob", "d")
	becomes(t, g.store, "alice", Online, Offline)
}

// lines collects log lines.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestEvictingServerIsWarnedOf(t *testing.T) {
	r := testredis.StartWith(t, testredis.Options{Args: []string{"--maxmemory-policy", "volatile-ttl"}})
	var log lines
	openStore(t, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}, r.Addr)
	if !strings.Contains(log.String(), "maxmemory-policy=volatile-ttl") {
		t.Fatalf("log: %s", &log)
	}
}

// A server whose memory is full refuses logins and renewals. Since it refuses the renewals of all, nobody's lease ages.
func TestFullServerTakesNobodyOffline(t *testing.T) {
	r := testredis.StartWith(t, testredis.Options{Args: []string{"--maxmemory-policy", "noeviction"}})
	g := startGateway(t, Config{OpTimeout: 500 * time.Millisecond}, "gw-1", r.Addr)
	s := openStore(t, Config{}, r.Addr)
	keep(t, s)
	g.login("alice", "d")
	bob, _ := g.login("bob", "d")
	stop := neverOffline(t, s, []string{"alice"})
	r.MustDo("CONFIG", "SET", "maxmemory", "1")
	if _, _, err := g.tryLogin(t.Context(), "carol", "d"); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("log in to a full server: %v", err)
	}
	g.logout(bob) // removes, and so is let through
	sleep(t, 2*testTTL)
	is(t, s, "alice", Online)
	r.MustDo("CONFIG", "SET", "maxmemory", "0")
	g.login("carol", "d")
	stop()
	becomes(t, s, "bob", Offline, "")
}

// The Redis that is embedded in Go stands in where none is installed.
func TestEmbeddedRedisWillDo(t *testing.T) {
	r := miniredis.RunT(t)
	g := startGateway(t, Config{}, "gw-1", r.Addr())
	h := startGateway(t, Config{}, "gw-2", r.Addr())
	keep(t, h.store)
	old, _ := g.login("alice", "d")
	if _, prev := h.login("alice", "d"); prev == nil || prev.Conn != old.Conn {
		t.Fatalf("the login replaced %+v", prev)
	}
	g.logout(old)
	bob, _ := g.login("bob", "d")
	g.logout(bob)
	g.flush()
	is(t, g.store, "alice", Online)
	is(t, g.store, "bob", Offline)
	g.login("carol", "d")
	g.stop()
	becomes(t, h.store, "carol", Offline, Unknown)
	if _, _, err := h.store.Fence(t.Context(), []Epoch{h.member.Epoch()}, []string{"gone"}); err != nil {
		t.Fatal(err)
	}
	r.FlushAll()
	becomes(t, h.store, "alice", Online, Offline)
}
