package testredis

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Slots is the number of slots of a Redis Cluster.
const Slots = 16384

// ClusterOf is a Redis Cluster of primaries without replicas.
type ClusterOf struct {
	Nodes []*Server

	tb  testing.TB
	ids []string // node ids, by index in Nodes
}

// StartCluster runs a Redis Cluster of n primaries with even, contiguous shares of the slots, and waits until every node
// serves all of them. A node that is down takes only its own slots with it.
func StartCluster(tb testing.TB, n int) *ClusterOf {
	tb.Helper()
	c := &ClusterOf{tb: tb}
	for range n {
		_, bus, err := net.SplitHostPort(freeAddr(tb))
		if err != nil {
			tb.Fatal(err)
		}
		c.Nodes = append(c.Nodes, StartWith(tb, Options{Args: []string{
			"--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-config-file", "nodes.conf",
			"--cluster-node-timeout", "5000", "--cluster-require-full-coverage", "no",
		}}))
		node := c.Nodes[len(c.Nodes)-1]
		id, _ := node.MustDo("CLUSTER", "MYID").(string)
		c.ids = append(c.ids, id)
		node.MustDo("CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(len(c.Nodes)))
		c.meet(node, bus)
	}
	for i, node := range c.Nodes {
		node.MustDo("CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(i*Slots/n), strconv.Itoa((i+1)*Slots/n-1))
	}
	c.waitWhole()
	return c
}

// meet introduces a new node to the first one.
func (c *ClusterOf) meet(node *Server, bus string) {
	c.tb.Helper()
	if node == c.Nodes[0] {
		return
	}
	host, port, err := net.SplitHostPort(node.Addr)
	if err != nil {
		c.tb.Fatal(err)
	}
	c.Nodes[0].MustDo("CLUSTER", "MEET", host, port, bus)
}

// waitWhole waits until every node knows all nodes and who serves every slot.
func (c *ClusterOf) waitWhole() {
	c.tb.Helper()
	deadline := time.Now().Add(startTimeout)
	for _, node := range c.Nodes {
		for {
			info, _ := node.MustDo("CLUSTER", "INFO").(string)
			if strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_slots_assigned:16384") &&
				strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d", len(c.Nodes))) {
				break
			}
			if time.Now().After(deadline) {
				c.tb.Fatalf("the cluster did not form: %s", info)
			}
			<-time.After(10 * time.Millisecond)
		}
	}
}

// Addrs are the addresses of all nodes.
func (c *ClusterOf) Addrs() []string {
	addrs := make([]string, len(c.Nodes))
	for i, n := range c.Nodes {
		addrs[i] = n.Addr
	}
	return addrs
}

// NodeOf returns the index of the node that serves a key.
func (c *ClusterOf) NodeOf(key string) int {
	c.tb.Helper()
	slot, _ := c.Nodes[0].MustDo("CLUSTER", "KEYSLOT", key).(int64)
	ranges, _ := c.Nodes[0].MustDo("CLUSTER", "SLOTS").([]any)
	for _, r := range ranges {
		r, _ := r.([]any)
		if r[0].(int64) > slot || r[1].(int64) < slot {
			continue
		}
		id := r[2].([]any)[2].(string)
		for i := range c.ids {
			if c.ids[i] == id {
				return i
			}
		}
	}
	c.tb.Fatalf("nobody serves slot %d", slot)
	return 0
}

// MoveSlot moves the slot of a key with all its keys to another node, as a resharding does.
func (c *ClusterOf) MoveSlot(key string, to int) {
	c.tb.Helper()
	c.BeginMove(key, to)()
}

// BeginMove begins to move the slot of a key to another node: only some of its keys go. The rest follows with finish, after
// which the other node serves the slot.
func (c *ClusterOf) BeginMove(key string, to int, first ...string) (finish func()) {
	c.tb.Helper()
	from := c.NodeOf(key)
	n, _ := c.Nodes[0].MustDo("CLUSTER", "KEYSLOT", key).(int64)
	slot := strconv.FormatInt(n, 10)
	source, target := c.Nodes[from], c.Nodes[to]
	target.MustDo("CLUSTER", "SETSLOT", slot, "IMPORTING", c.ids[from])
	source.MustDo("CLUSTER", "SETSLOT", slot, "MIGRATING", c.ids[to])
	host, port, err := net.SplitHostPort(target.Addr)
	if err != nil {
		c.tb.Fatal(err)
	}
	migrate := func(keys []string) {
		c.tb.Helper()
		source.MustDo(append([]string{"MIGRATE", host, port, "", "0", "5000", "KEYS"}, keys...)...)
	}
	if len(first) > 0 {
		migrate(first)
	}
	return func() {
		c.tb.Helper()
		for {
			found, _ := source.MustDo("CLUSTER", "GETKEYSINSLOT", slot, "10").([]any)
			if len(found) == 0 {
				break
			}
			keys := make([]string, len(found))
			for i := range found {
				keys[i] = found[i].(string)
			}
			migrate(keys)
		}
		target.MustDo("CLUSTER", "SETSLOT", slot, "NODE", c.ids[to])
		for _, node := range c.Nodes {
			node.MustDo("CLUSTER", "SETSLOT", slot, "NODE", c.ids[to])
		}
	}
}

// SentinelOf is a primary with a replica, watched by one sentinel under the name "mymaster".
type SentinelOf struct {
	Primary, Replica, Sentinel *Server

	tb testing.TB
}

// StartSentinel runs them and waits until the sentinel knows the replica.
func StartSentinel(tb testing.TB) *SentinelOf {
	tb.Helper()
	s := &SentinelOf{tb: tb, Primary: Start(tb)}
	host, port, err := net.SplitHostPort(s.Primary.Addr)
	if err != nil {
		tb.Fatal(err)
	}
	s.Replica = StartWith(tb, Options{Args: []string{"--replicaof", host, port, "--repl-diskless-sync-delay", "0"}})
	s.Sentinel = startSentinel(tb, host, port)
	s.wait(func() bool {
		replicas, _ := s.Sentinel.MustDo("SENTINEL", "REPLICAS", "mymaster").([]any)
		return len(replicas) == 1 && s.Replica.Info("master_link_status") == "up"
	})
	return s
}

func startSentinel(tb testing.TB, host, port string) *Server {
	tb.Helper()
	s := &Server{tb: tb, binary: lookPath(tb), dir: tb.TempDir(), Addr: freeAddr(tb)}
	_, own, err := net.SplitHostPort(s.Addr)
	if err != nil {
		tb.Fatal(err)
	}
	conf := filepath.Join(s.dir, "sentinel.conf")
	text := fmt.Sprintf("port %s\nbind 127.0.0.1\ndir %s\nlogfile %s\nsentinel monitor mymaster %s %s 1\n"+
		"sentinel down-after-milliseconds mymaster 1000\nsentinel failover-timeout mymaster 5000\n",
		own, s.dir, filepath.Join(s.dir, "log"), host, port)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	s.args = []string{conf, "--sentinel"}
	if err := s.start(); err != nil {
		tb.Fatalf("start the sentinel: %v", err)
	}
	tb.Cleanup(s.Kill)
	return s
}

// Failover makes the replica the primary, when it has caught up, and waits until the sentinel says so. What is written
// meanwhile may be lost.
func (s *SentinelOf) Failover() {
	s.tb.Helper()
	written := offset(s.tb, s.Primary, "master_repl_offset")
	s.wait(func() bool { return offset(s.tb, s.Replica, "slave_repl_offset") >= written })
	s.wait(func() bool {
		_, err := s.Sentinel.Do("SENTINEL", "FAILOVER", "mymaster")
		return err == nil
	})
	_, want, err := net.SplitHostPort(s.Replica.Addr)
	if err != nil {
		s.tb.Fatal(err)
	}
	s.wait(func() bool {
		addr, _ := s.Sentinel.MustDo("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster").([]any)
		return len(addr) == 2 && addr[1] == want
	})
	s.Primary, s.Replica = s.Replica, s.Primary
}

func offset(tb testing.TB, s *Server, field string) int64 {
	tb.Helper()
	n, err := strconv.ParseInt(s.Info(field), 10, 64)
	if err != nil {
		tb.Fatalf("read %s: %v", field, err)
	}
	return n
}

func (s *SentinelOf) wait(done func() bool) {
	s.tb.Helper()
	deadline := time.Now().Add(startTimeout)
	for !done() {
		if time.Now().After(deadline) {
			s.tb.Fatal("the sentinel did not get there in time")
		}
		<-time.After(20 * time.Millisecond)
	}
}
