package store

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	// readTimeout bounds a read. A query that takes longer answers that it does not know.
	readTimeout = time.Second
	// attemptTimeout bounds one attempt of a lane to write a batch. On the next attempt the old connection is killed, so
	// a longer one only delays the refusal of logins while Redis does not answer.
	attemptTimeout = 2 * time.Second
)

// node is one Redis server that holds data.
type node struct {
	addr string
	// reads is a pool for everything whose order does not matter.
	reads *redis.Client
	// writes is the one connection of the lane.
	writes *redis.Client

	// ahead is the node's clock minus ours, in ms, as it was read last.
	ahead   atomic.Int64
	started time.Time
	// run is a short name for this run of the server as a primary: a server that has another may have lost the newest
	// writes. Nil until the lane is connected; empty if the server does not tell. Only what the lane's own connection
	// tells counts, which is where messages are written.
	run atomic.Pointer[string]
	// serves is the same as the newest connection for reads tells.
	serves atomic.Pointer[string]
	// relearn: the run may have changed without a new connection.
	relearn atomic.Bool
	// full: no messages are stored, because memory is short.
	full atomic.Bool

	mu sync.Mutex
	// lane identifies the lane's connection to the server: what CLIENT INFO said of it.
	lane struct{ id, addr string }
}

func (s *Store) newNode(addr string) *node {
	n := &node{addr: addr, started: time.Now()}
	n.reads = s.newClient(addr, 10, n.onReadConnect)
	n.writes = s.newClient(addr, 1, n.onLaneConnect)
	return n
}

func (n *node) close() {
	_ = n.reads.Close()
	_ = n.writes.Close()
}

// newClient makes a client that does nothing on its own: no retries, which would reorder writes, and nothing sent at
// connect that old servers or ACLs refuse.
func (s *Store) newClient(addr string, pool int, onConnect func(context.Context, *redis.Conn) error) *redis.Client {
	credentials := func(context.Context) (string, string, error) {
		if s.cfg.Password == nil {
			return "", "", nil
		}
		password, err := s.cfg.Password()
		return s.cfg.Username, password, err
	}
	return redis.NewClient(&redis.Options{
		Addr: addr, CredentialsProviderContext: credentials,
		Protocol: 2, MaxRetries: -1, DialerRetries: 1, DialTimeout: attemptTimeout, ReadTimeout: attemptTimeout,
		ContextTimeoutEnabled: true, PoolSize: pool, PipelinePoolSize: -1, PoolTimeout: readTimeout,
		DisableIdentity: true, TLSConfig: s.cfg.TLS, OnConnect: onConnect,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// onLaneConnect readies a new connection of the lane. What was sent on the one before may still lie unread in the server's
// socket, and must not be executed after what is sent on this one: the server is told to drop that connection first.
// Servers that refuse such commands are left with the small risk.
func (n *node) onLaneConnect(ctx context.Context, cn *redis.Conn) error {
	n.mu.Lock()
	old := n.lane
	n.mu.Unlock()
	if old.id != "" {
		// The address as well: ids start anew when a server restarts, and belong to somebody else then.
		if err := cn.Do(ctx, "client", "kill", "id", old.id, "addr", old.addr).Err(); err != nil && isConnError(err) {
			return err
		}
	}
	info, err := cn.Do(ctx, "client", "info").Text()
	if err != nil && isConnError(err) {
		return err
	}
	n.mu.Lock()
	n.lane.id, n.lane.addr = "", ""
	for field := range strings.FieldsSeq(info) {
		if v, ok := strings.CutPrefix(field, "id="); ok {
			n.lane.id = v
		} else if v, ok := strings.CutPrefix(field, "addr="); ok {
			n.lane.addr = v
		}
	}
	n.mu.Unlock()
	if err := learnRun(ctx, cn, &n.run); err != nil {
		return err
	}
	return loadScripts(ctx, cn)
}

// onReadConnect learns which run of the server answers: another one may have lost the newest facts, and given their numbers
// to others.
func (n *node) onReadConnect(ctx context.Context, cn *redis.Conn) error {
	return learnRun(ctx, cn, &n.serves)
}

// served names the run of the server that was read from last.
func (n *node) served() string {
	if run := n.serves.Load(); run != nil {
		return *run
	}
	return ""
}

// learnRun asks on a connection which run of the server this is.
func learnRun(ctx context.Context, cn redis.Cmdable, into *atomic.Pointer[string]) error {
	cmds, err := cn.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.Info(ctx, "server")
		p.Info(ctx, "replication")
		return nil
	})
	if err != nil && isConnError(err) {
		return err
	}
	var info strings.Builder
	for _, c := range cmds {
		info.WriteString(c.(*redis.StringCmd).Val())
	}
	run := runName(info.String())
	into.Store(&run)
	return nil
}

// runName makes a short name for a run of a server from what INFO says; empty if it does not tell.
func runName(info string) string {
	id := infoField(info, "run_id") + infoField(info, "master_replid")
	if id == "" {
		return ""
	}
	return strconv.FormatUint(xxhash.Sum64String(id)%(36*36*36*36), 36)
}

// infoField returns a field of what INFO says.
func infoField(info, name string) string {
	for line := range strings.Lines(info) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), name+":"); ok {
			return v
		}
	}
	return ""
}

// setClock notes the node's clock, unix ms, as it was just now.
func (n *node) setClock(ms int64) { n.ahead.Store(ms - time.Since(n.started).Milliseconds()) }

// now is the node's clock, unix ms, as far as is known.
func (n *node) now() int64 { return n.ahead.Load() + time.Since(n.started).Milliseconds() }

// loadScripts teaches a server all scripts.
func loadScripts(ctx context.Context, on redis.Cmdable) error {
	_, err := on.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, sc := range scripts {
			p.ScriptLoad(ctx, sc.text)
		}
		return nil
	})
	return err
}
