package testredis

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// failoverTimeout bounds how long a replica may take to become the primary; without load it takes about a second.
const failoverTimeout = 30 * time.Second

// ReplicatedOf is a Redis Cluster whose primaries have a replica each, which takes over about a second after its primary
// died.
type ReplicatedOf struct {
	// Nodes are the primaries and then, in the same order, their replicas, as they were at the start.
	Nodes []*Server

	tb      testing.TB
	primary []int // of each share of the slots: the index in Nodes
}

// StartReplicated runs a Redis Cluster of n primaries and n replicas, and waits until every node serves and follows.
func StartReplicated(tb testing.TB, n int) *ReplicatedOf {
	tb.Helper()
	c := &ReplicatedOf{tb: tb}
	for i := range 2 * n {
		_, bus, err := net.SplitHostPort(freeAddr(tb))
		if err != nil {
			tb.Fatal(err)
		}
		node := StartWith(tb, Options{Args: []string{
			"--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-config-file", "nodes.conf",
			"--cluster-node-timeout", "1000", "--cluster-require-full-coverage", "no",
			"--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0", "--cluster-allow-replica-migration", "no",
		}})
		c.Nodes = append(c.Nodes, node)
		node.MustDo("CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
		if i > 0 {
			host, port, err := net.SplitHostPort(node.Addr)
			if err != nil {
				tb.Fatal(err)
			}
			c.Nodes[0].MustDo("CLUSTER", "MEET", host, port, bus)
		}
	}
	for i, node := range c.Nodes[:n] {
		c.primary = append(c.primary, i)
		node.MustDo("CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(i*Slots/n), strconv.Itoa((i+1)*Slots/n-1))
	}
	for _, node := range c.Nodes {
		c.waitInfo(node, "cluster_known_nodes:"+strconv.Itoa(2*n))
	}
	for i, node := range c.Nodes[n:] {
		id, _ := c.Nodes[i].MustDo("CLUSTER", "MYID").(string)
		node.MustDo("CLUSTER", "REPLICATE", id)
	}
	c.waitWhole()
	return c
}

func (c *ReplicatedOf) waitInfo(node *Server, fields ...string) {
	c.tb.Helper()
	c.wait(func() error {
		info, err := node.Do("CLUSTER", "INFO")
		if err != nil {
			return err
		}
		text, _ := info.(string)
		for _, f := range fields {
			if !slices.Contains(strings.Fields(text), f) {
				return fmt.Errorf("%s does not say %s: %s", node.Addr, f, text)
			}
		}
		return nil
	})
}

// waitWhole waits until every node serves or follows.
func (c *ReplicatedOf) waitWhole() {
	c.tb.Helper()
	for _, node := range c.Nodes {
		c.waitInfo(node, "cluster_state:ok", "cluster_slots_ok:16384")
	}
	for i, node := range c.Nodes {
		if slices.Contains(c.primary, i) {
			c.wait(func() error { return has(node, "connected_slaves:1", "state=online") })
		} else {
			c.wait(func() error { return has(node, "role:slave", "master_link_status:up") })
		}
	}
}

// has tells whether a node says all of something about its replication.
func has(node *Server, fields ...string) error {
	info, err := node.Do("INFO", "replication")
	if err != nil {
		return err
	}
	text, _ := info.(string)
	for _, f := range fields {
		if !strings.Contains(text, f) {
			return fmt.Errorf("%s does not say %s: %s", node.Addr, f, text)
		}
	}
	return nil
}

func (c *ReplicatedOf) wait(done func() error) {
	c.tb.Helper()
	deadline := time.Now().Add(failoverTimeout)
	for {
		err := done()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			c.tb.Errorf("the cluster did not get there in time: %v", err)
			return
		}
		<-time.After(20 * time.Millisecond)
	}
}

// Addrs are the addresses of all nodes.
func (c *ReplicatedOf) Addrs() []string {
	addrs := make([]string, len(c.Nodes))
	for i, n := range c.Nodes {
		addrs[i] = n.Addr
	}
	return addrs
}

// Primary returns the node that serves the given share of the slots.
func (c *ReplicatedOf) Primary(share int) *Server { return c.Nodes[c.primary[share]] }

// FailOver kills the primary of a share of the slots, waits until its replica has taken over, and starts the killed node
// again, empty: it follows the new primary. It must not be called while another failover is under way.
func (c *ReplicatedOf) FailOver(share int) {
	c.tb.Helper()
	n := len(c.Nodes) / 2
	old := c.primary[share]
	heir := (old + n) % len(c.Nodes)
	c.Nodes[old].Kill()
	c.wait(func() error { return has(c.Nodes[heir], "role:master") })
	c.primary[share] = heir
	c.Nodes[old].Restart()
	c.waitWhole()
}

// Settle waits until every node serves or follows again, whichever of a pair now is the primary: one that was paused for
// longer than a second may have been replaced.
func (c *ReplicatedOf) Settle() {
	c.tb.Helper()
	n := len(c.Nodes) / 2
	for share := range c.primary {
		c.wait(func() error {
			err := has(c.Nodes[share], "role:master", "connected_slaves:1")
			if err == nil {
				c.primary[share] = share
				return nil
			}
			if err = has(c.Nodes[share+n], "role:master", "connected_slaves:1"); err == nil {
				c.primary[share] = share + n
			}
			return err
		})
	}
	c.waitWhole()
}
