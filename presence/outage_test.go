package presence_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imcluster/imcluster/client"
	"github.com/imcluster/imcluster/internal/testredis"
	"github.com/imcluster/imcluster/presence"
	"github.com/imcluster/imcluster/presence/store"
)

// A Redis that does not answer makes nobody offline, and every answer comes in bounded time. What was known may be told for a
// second.
func TestPausedRedisMakesUsersUnknown(t *testing.T) {
	redis := testredis.Start(t)
	s := startService(t, redis.Addr)
	g := startGateway(t, redis.Addr, "gw-1", "alice", "bob")
	g.logOut("bob")
	s.become(t, []string{"online", "offline", "unknown/never_seen"}, "alice", "bob", "carol")

	redis.Pause()
	known := []string{"online", "offline", "unknown/never_seen"}
	paused := time.Now()
	// For longer than a lease nothing else may be told.
	for end := paused.Add(time.Second + 3*leaseTTL); time.Now().Before(end); {
		start := time.Now()
		states, degraded := s.states(t, "alice", "bob", "carol")
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("the answer took %s", took)
		}
		if cmp.Equal(states, known) && start.Sub(paused) < time.Second+50*time.Millisecond {
			continue
		}
		if !degraded || !cmp.Equal(states, []string{"unknown/unavailable", "unknown/unavailable", "unknown/unavailable"}) {
			t.Errorf("with Redis paused: %v, degraded %v", states, degraded)
		}
	}
	var unavailable *client.APIError
	if _, err := s.OnlinePage(t.Context(), "", 10); !errors.As(err, &unavailable) || unavailable.Status != 503 || unavailable.RetryAfter <= 0 {
		t.Errorf("list with Redis paused: %v", err)
	}
	if code, _ := get(t, "http://"+s.OpsAddr().String()+"/livez"); code != 200 {
		t.Errorf("/livez answered %d", code)
	}
	if err := ready(s); err != nil {
		t.Error(err)
	}
	redis.Resume()
	for {
		states, _ := s.states(t, "alice", "bob", "carol")
		if slices.Contains(states[:1], "offline") {
			t.Fatalf("after the pause: %v", states)
		}
		if cmp.Equal(states, []string{"online", "offline", "unknown/never_seen"}) {
			break
		}
		<-time.After(10 * time.Millisecond)
	}
}

func TestEmptiedRedisMakesNobodyOffline(t *testing.T) {
	redis := testredis.Start(t)
	s := startService(t, redis.Addr)
	var users []string
	for i := range 300 {
		users = append(users, fmt.Sprint("user", i))
	}
	startGateway(t, redis.Addr, "gw-1", users...)
	s.become(t, slices.Repeat([]string{"online"}, len(users)), users...)
	redis.MustDo("FLUSHALL")
	back := slices.Repeat([]string{"online"}, len(users))
	eventually(t, func() error {
		states, degraded := s.states(t, users...)
		for i, state := range states {
			if state != "online" && (state != "unknown/unavailable" || !degraded) {
				t.Fatalf("%s is %s (degraded: %v) while gateways register again", users[i], state, degraded)
			}
		}
		if !cmp.Equal(states, back) {
			return errors.New("not all are back")
		}
		return nil
	})
}

// One shard of a Redis Cluster that does not answer leaves the users of the others alone.
func TestPausedShardMakesItsUsersUnknown(t *testing.T) {
	cluster := testredis.StartCluster(t, 3)
	cfg := storeConfig("")
	cfg.Mode, cfg.Addresses = store.Cluster, cluster.Addrs()
	s := startService(t, "", func(c *presence.Config) { c.Store = cfg })
	var users []string
	for i := range 100 {
		users = append(users, fmt.Sprint("user", i))
	}
	joinGateway(t, cfg, "gw-1", users...)
	s.become(t, slices.Repeat([]string{"online"}, len(users)), users...)

	leases := cluster.NodeOf("{gw}")
	cluster.Nodes[(leases+1)%3].Pause()
	count := map[string]int{}
	states, degraded := s.states(t, users...)
	for _, state := range states {
		count[state]++
	}
	if online, unknown := count["online"], count["unknown/unavailable"]; !degraded || online < 40 || unknown < 10 || online+unknown != 100 {
		t.Errorf("with a shard paused: %v, degraded %v", count, degraded)
	}
	cluster.Nodes[(leases+1)%3].Resume()
	s.become(t, slices.Repeat([]string{"online"}, len(users)), users...)
}

// Readiness comes with the first answer of Redis, and goes only when the server stops.
func TestReadiness(t *testing.T) {
	redis := testredis.Start(t)
	redis.Kill()
	s := startService(t, redis.Addr, func(c *presence.Config) { c.ShutdownDelay = time.Second })
	ops := "http://" + s.OpsAddr().String()
	if code, body := get(t, ops+"/readyz"); code != 503 || !strings.Contains(body, "Redis") {
		t.Errorf("without Redis: %d %s", code, body)
	}
	if code, _ := get(t, ops+"/livez"); code != 200 {
		t.Errorf("/livez answered %d", code)
	}
	if states, degraded := s.states(t, "alice"); !degraded || states[0] != "unknown/unavailable" {
		t.Errorf("without Redis: %v", states)
	}
	redis.Restart()
	eventually(t, func() error {
		if code, body := get(t, ops+"/readyz"); code != 200 {
			return errors.New(body)
		}
		return nil
	})
	redis.Kill()
	if code, _ := get(t, ops+"/readyz"); code != 200 {
		t.Errorf("readiness went away with Redis: %d", code)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()
	eventually(t, func() error {
		if code, _ := get(t, ops+"/readyz"); code != 503 {
			return errors.New("still ready while stopping")
		}
		return nil
	})
	if states, _ := s.states(t, "alice"); states[0] != "unknown/unavailable" { // it serves on during the delay
		t.Errorf("while stopping: %v", states)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// TestSlowCallerIsAnswered: the time that a body takes to arrive is not Redis'.
func TestSlowCallerIsAnswered(t *testing.T) {
	redis := testredis.Start(t)
	s := startService(t, redis.Addr, func(c *presence.Config) { c.QueryTimeout = 200 * time.Millisecond })
	startGateway(t, redis.Addr, "gw-1", "alice")
	s.become(t, []string{"online"}, "alice")
	body, send := io.Pipe()
	go func() {
		_, _ = io.WriteString(send, `{"users":[`)
		<-time.After(400 * time.Millisecond) // more than Redis may take
		_, _ = io.WriteString(send, `"alice"]}`)
		send.Close()
	}()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/v1/presence:batchGet", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer api")
	resp, err := s.HTTP.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if answer, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(answer), `"online"`) {
		t.Errorf("answered %s, %v", answer, err)
	}
}
