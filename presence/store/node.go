package store

import (
	"context"
	"strings"
	"sync"
	"time"

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

	mu sync.Mutex
	// lane identifies the lane's connection to the server: what CLIENT INFO said of it.
	lane struct{ id, addr string }
}

func (s *Store) newNode(addr string) *node {
	n := &node{addr: addr}
	n.reads = s.newClient(addr, 10, nil)
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
	return loadScripts(ctx, cn)
}

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
