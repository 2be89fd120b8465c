package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// refreshPause is the least time between two looks at who serves what.
const refreshPause = 100 * time.Millisecond

// routes says which node serves each partition, and the lease table under the index gateways.
type routes struct {
	node [Partitions + 1]*node
}

// nodes are those that serve anything, each once.
func (r *routes) nodes() []*node {
	var list []*node
	for _, n := range r.node {
		if !slices.Contains(list, n) {
			list = append(list, n)
		}
	}
	return list
}

// servers knows the nodes: those of a Redis Cluster, the primary that the sentinels name, or the one server.
//
// Sentinels are asked like cluster nodes, when something fails and once a second, and not listened to: a notification can
// be lost, and a primary that was cut off would be written to until then. A new primary is a new node, whose clock is read
// before it is written to.
type servers struct {
	store  *Store
	routes atomic.Pointer[routes]
	slots  [Partitions + 1]int

	asking    sync.Mutex // held while the routes are asked for
	refreshed time.Time  // guarded by asking

	mu     sync.Mutex
	byAddr map[string]*node // guarded by mu
}

func newServers(s *Store) *servers {
	v := &servers{store: s, byAddr: map[string]*node{}}
	for p := range v.slots {
		v.slots[p] = clusterSlot(tag(p))
	}
	if s.cfg.Mode == Standalone {
		v.routes.Store(single(v.nodeAt(s.cfg.Addresses[0])))
	}
	return v
}

// single routes everything to one node.
func single(n *node) *routes {
	r := &routes{}
	for p := range r.node {
		r.node[p] = n
	}
	return r
}

// nodeAt returns the node at an address. Nodes live as long as the store: one that left may be asked for the routes still.
func (v *servers) nodeAt(addr string) *node {
	v.mu.Lock()
	defer v.mu.Unlock()
	n, ok := v.byAddr[addr]
	if !ok {
		n = v.store.newNode(addr)
		v.byAddr[addr] = n
	}
	return n
}

func (v *servers) close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, n := range v.byAddr {
		n.close()
	}
}

// refresh asks the cluster or the sentinels who serves what, unless that was done a moment ago or is being done.
func (v *servers) refresh(ctx context.Context) error {
	if v.store.cfg.Mode == Standalone {
		return nil
	}
	if !v.asking.TryLock() {
		return nil
	}
	defer v.asking.Unlock()
	if time.Since(v.refreshed) < refreshPause {
		return nil
	}
	v.refreshed = time.Now()
	ask, addrs := v.askSentinel, slices.Clone(v.store.cfg.Addresses)
	if v.store.cfg.Mode == Cluster {
		ask = v.askCluster
		addrs = append(addrs, v.others(addrs)...)
	}
	failure := ErrUnavailable
	for _, addr := range addrs {
		r, err := ask(ctx, addr)
		if err == nil {
			v.routes.Store(r)
			return nil
		}
		failure = fmt.Errorf("%w; ask %s: %w", failure, addr, err)
	}
	return failure
}

// others are the addresses of nodes that are not in the list.
func (v *servers) others(addrs []string) (list []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for addr := range v.byAddr {
		if !slices.Contains(addrs, addr) {
			list = append(list, addr)
		}
	}
	return list
}

// redirected returns the node that a MOVED or ASK answer of from names; nil if it cannot be understood. A cluster that does
// not know its own addresses names the port only.
func (v *servers) redirected(answer error, from *node) *node {
	fields := strings.Fields(answer.Error())
	if len(fields) != 3 {
		return nil
	}
	host, port, err := net.SplitHostPort(fields[2])
	if err != nil {
		return nil
	}
	if host == "" {
		host, _, _ = net.SplitHostPort(from.addr) // it was dialled
	}
	return v.nodeAt(net.JoinHostPort(host, port))
}

// follow refreshes once a second where the servers can change without an error: a primary that was cut off from its
// sentinels accepts writes, and nobody else sees them.
func (v *servers) follow(ctx context.Context) {
	if v.store.cfg.Mode == Sentinel {
		_ = v.refresh(ctx) // whoever uses the routes sees the error
	}
}

// askSentinel asks one sentinel for the primary.
func (v *servers) askSentinel(ctx context.Context, addr string) (*routes, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	c := redis.NewSentinelClient(&redis.Options{Addr: addr, Protocol: 2, MaxRetries: -1, DialerRetries: 1, PoolSize: 1,
		ContextTimeoutEnabled: true, DisableIdentity: true, TLSConfig: v.store.cfg.TLS,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}})
	defer c.Close()
	primary, err := c.GetMasterAddrByName(ctx, v.store.cfg.MasterName).Result()
	if err != nil {
		return nil, err
	}
	if len(primary) != 2 {
		return nil, fmt.Errorf("it does not know %q", v.store.cfg.MasterName)
	}
	return single(v.nodeAt(net.JoinHostPort(primary[0], primary[1]))), nil
}

// askCluster reads the routes from one node. Slots that nobody serves keep the node that served them last.
func (v *servers) askCluster(ctx context.Context, addr string) (*routes, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	// Unlike CLUSTER SHARDS it names one primary for each range, by the address that clients are to use.
	ranges, err := v.nodeAt(addr).reads.ClusterSlots(ctx).Result() //nolint:staticcheck // see above
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	r := &routes{}
	if old := v.routes.Load(); old != nil {
		*r = *old
	}
	for p, slot := range v.slots {
		for _, part := range ranges {
			if slot < part.Start || slot > part.End || len(part.Nodes) == 0 {
				continue
			}
			// A node that does not know its own address says "", which means the one that was asked.
			h, port, err := net.SplitHostPort(part.Nodes[0].Addr)
			if err != nil {
				return nil, err
			}
			r.node[p] = v.nodeAt(net.JoinHostPort(cmp.Or(h, host), port))
		}
		if r.node[p] == nil {
			return nil, errors.New("nobody serves slot " + strconv.Itoa(slot))
		}
	}
	return r, nil
}
