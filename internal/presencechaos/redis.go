package presencechaos

import (
	"strings"
	"testing"
	"time"

	"github.com/imcluster/imcluster/internal/testredis"
	"github.com/imcluster/imcluster/presence/store"
)

// Redis is one server, or a cluster of some; it keeps nothing over a restart.
type Redis struct {
	servers []*testredis.Server
	cluster bool
}

// StartRedis runs one server until the test ends.
func StartRedis(tb testing.TB) Redis {
	tb.Helper()
	return Redis{servers: []*testredis.Server{testredis.Start(tb)}}
}

// StartCluster runs a Redis Cluster of three until the test ends.
func StartCluster(tb testing.TB) Redis {
	tb.Helper()
	return Redis{servers: testredis.StartCluster(tb, 3).Nodes, cluster: true}
}

// Config is how a store is told of it.
func (r Redis) Config() store.Config {
	cfg := store.Config{}
	for _, s := range r.servers {
		cfg.Addresses = append(cfg.Addresses, s.Addr)
	}
	if r.cluster {
		cfg.Mode = store.Cluster
	}
	return cfg
}

// Flags are how programs are told of it.
func (r Redis) Flags() []string {
	cfg := r.Config()
	flags := []string{"--redis-addresses", strings.Join(cfg.Addresses, ",")}
	if r.cluster {
		flags = append(flags, "--redis-mode", "cluster")
	}
	return flags
}

// pause stops a server for a while, or all of them if n is negative.
func (r Redis) pause(n int, d time.Duration) {
	list := r.servers
	if n >= 0 {
		list = list[n%len(list):][:1]
	}
	for _, s := range list {
		s.Pause()
	}
	wait(d)
	for _, s := range list {
		s.Resume()
	}
}

// restart ends a server, and starts it again, empty, after a while.
func (r Redis) restart(n int, d time.Duration) {
	s := r.servers[n%len(r.servers)]
	s.Kill()
	wait(d)
	s.Restart()
}

// flush empties a server, or all of them if n is negative.
func (r Redis) flush(n int) {
	for i, s := range r.servers {
		if n < 0 || i == n%len(r.servers) {
			_, _ = s.Do("FLUSHALL")
		}
	}
}

// forget drops the scripts and the connections of a server.
func (r Redis) forget(n int) {
	s := r.servers[n%len(r.servers)]
	_, _ = s.Do("SCRIPT", "FLUSH")
	_, _ = s.Do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no")
}

// wait lets time pass that a schedule asks for.
func wait(d time.Duration) { <-time.After(d) }
