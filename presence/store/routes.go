package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
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

// servers knows the nodes of a Redis Cluster; outside of one there is a single node.
type servers struct {
	store  *Store
	routes atomic.Pointer[routes]
	slots  [Partitions + 1]int

	mu        sync.Mutex
	byAddr    map[string]*node
	refreshed time.Time
}

func newServers(s *Store) *servers {
	v := &servers{store: s, byAddr: map[string]*node{}}
	for p := range v.slots {
		v.slots[p] = clusterSlot(tag(p))
	}
	if s.cfg.Mode != Cluster {
		n := v.nodeAt(s.cfg.Addresses[0])
		r := &routes{}
		for p := range r.node {
			r.node[p] = n
		}
		v.routes.Store(r)
	}
	return v
}

// nodeAt returns the node at an address. Nodes live as long as the store: one that left may be asked for the routes still.
func (v *servers) nodeAt(addr string) *node {
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

// refresh asks the cluster who serves what. It does nothing outside of a cluster, and soon after it was done.
func (v *servers) refresh(ctx context.Context) error {
	if v.store.cfg.Mode != Cluster {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if time.Since(v.refreshed) < refreshPause {
		return nil
	}
	addrs := slices.Clone(v.store.cfg.Addresses)
	for addr := range v.byAddr {
		if !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}
	var failures []error
	for _, addr := range addrs {
		r, err := v.ask(ctx, addr)
		if err == nil {
			v.routes.Store(r)
			v.refreshed = time.Now()
			return nil
		}
		failures = append(failures, fmt.Errorf("ask %s: %w", addr, err))
	}
	return errors.Join(append([]error{ErrUnavailable}, failures...)...)
}

// ask reads the routes from one node. Slots that nobody serves keep the node that served them last.
func (v *servers) ask(ctx context.Context, addr string) (*routes, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	ranges, err := v.nodeAt(addr).reads.ClusterSlots(ctx).Result()
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
