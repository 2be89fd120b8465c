package chaos

import (
	"strings"
	"testing"
	"time"

	"github.com/imcluster/imcluster/internal/testredis"
)

// Durable is one Redis server that writes and syncs everything before it answers, so that not even its death loses
// anything.
type Durable struct{ *testredis.Server }

// StartDurable runs one until the test ends.
func StartDurable(tb testing.TB) Durable {
	tb.Helper()
	return Durable{testredis.StartWith(tb, testredis.Options{AOF: true, Args: []string{"--appendfsync", "always"}})}
}

// Flags implements [Redis].
func (d Durable) Flags() []string { return []string{"--redis-addresses", d.Addr} }

// Pause implements [Redis].
func (d Durable) Pause(_ int, t time.Duration) {
	d.Server.Pause()
	pause(t)
	d.Resume()
}

// Kill implements [Redis].
func (d Durable) Kill(_ int, t time.Duration) {
	d.Server.Kill()
	pause(t)
	d.Restart()
}

// Forget implements [Redis].
func (d Durable) Forget() { forget(d.Server) }

func forget(s *testredis.Server) {
	// They fail while the server is away, and the first one kills its own connection too.
	_, _ = s.Do("SCRIPT", "FLUSH")
	_, _ = s.Do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no")
}

// Replicated is a Redis Cluster of three pairs, without persistence: what is not on the replica is lost with the primary.
type Replicated struct{ *testredis.ReplicatedOf }

// StartReplicated runs one until the test ends.
func StartReplicated(tb testing.TB) Replicated {
	tb.Helper()
	return Replicated{testredis.StartReplicated(tb, 3)}
}

// Flags implements [Redis].
func (r Replicated) Flags() []string {
	return []string{"--redis-mode", "cluster", "--redis-addresses", strings.Join(r.Addrs(), ","), "--durability", "replicated"}
}

// Pause implements [Redis]. A pause of more than a second makes the replica take over.
func (r Replicated) Pause(node int, t time.Duration) {
	p := r.Primary(node % 3)
	p.Pause()
	pause(t)
	p.Resume()
	r.Settle()
}

// Kill implements [Redis].
func (r Replicated) Kill(node int, _ time.Duration) { r.FailOver(node % 3) }

// Forget implements [Redis].
func (r Replicated) Forget() {
	for share := range 3 {
		forget(r.Primary(share))
	}
}
