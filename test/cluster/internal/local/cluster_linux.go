package local

import (
	"context"
	"os"
	"path/filepath"

	"github.com/imcluster/imcluster/test/cluster/internal/command"
	"github.com/imcluster/imcluster/test/cluster/internal/progress"
	"github.com/imcluster/imcluster/test/cluster/internal/tools"
	"github.com/imcluster/imcluster/test/cluster/internal/workspace"
)

// sharedRun is the directory of the sockets of all clusters of the machine, and of the record of how the machine was.
// Not in the cache, whose path may be too long for a socket (108 bytes).
const sharedRun = "/run/imcluster"

// nodeName is the one node's name.
const nodeName = "local"

// Cluster is a local cluster, running or not.
type Cluster struct {
	// Fixed at construction.
	name   string
	state  string // directory of everything that lasts: keys, etcd, images, volumes, logs
	run    string // directory of sockets
	shared string
	space  workspace.Workspace
	shelf  *tools.Shelf
	log    *progress.Log

	// Found out by Up and its like, in this order.
	programs programs
	net      network
	holder   int // process id of the holder of the namespaces
}

// programs are the directories of the tools that a cluster is made of.
type programs struct{ kube, containerd, etcd string }

// New returns the cluster of that name, which [workspace.CheckName] must have accepted.
func New(name string, w workspace.Workspace, shelf *tools.Shelf, log *progress.Log) *Cluster {
	return &Cluster{
		name:   name,
		state:  w.Cluster(name),
		run:    filepath.Join(sharedRun, name),
		shared: sharedRun,
		space:  w,
		shelf:  shelf,
		log:    log,
	}
}

// Kubeconfig is the path of the administrator's kubeconfig.
func (c *Cluster) Kubeconfig() string { return filepath.Join(c.state, "kubeconfig", "admin") }

func (c *Cluster) logFile(component string) string {
	return filepath.Join(c.state, "log", component+".log")
}

// lock keeps other commands off this cluster until unlock is called.
func (c *Cluster) lock() (unlock func(), err error) {
	return workspace.Lock(c.state+".lock", func() {
		c.log.Step("another command is at work on cluster %s; waiting for it", c.name)
	})
}

// lockMachine keeps commands on all clusters off what they share. It is held for moments.
func (c *Cluster) lockMachine() (unlock func(), err error) {
	return workspace.Lock(filepath.Join(filepath.Dir(c.state), ".machine.lock"), nil)
}

// ensureRecord loads the cluster's record, or chooses a network and records it.
func (c *Cluster) ensureRecord() error {
	unlock, err := c.lockMachine()
	if err != nil {
		return err
	}
	defer unlock()
	if err := os.MkdirAll(c.run, 0o755); err != nil {
		return err
	}
	r, err := c.space.ReadRecord(c.name)
	if err != nil {
		return err
	}
	if r.Network == 0 {
		if c.net, err = c.freeNetwork(); err != nil {
			return err
		}
		return c.space.WriteRecord(c.name, workspace.Record{Type: "local", Network: c.net.second})
	}
	c.net = network{second: r.Network}
	return nil
}

// freeNetwork chooses a network that neither the host nor another cluster, running or not, has.
func (c *Cluster) freeNetwork() (network, error) {
	used, err := hostPrefixes()
	if err != nil {
		return network{}, err
	}
	records, err := c.space.Records()
	if err != nil {
		return network{}, err
	}
	for _, r := range records {
		if r.Network != 0 {
			used = append(used, network{second: r.Network}.All())
		}
	}
	return chooseNetwork(c.name, used)
}

// kubectl runs kubectl as administrator and returns its output.
func (c *Cluster) kubectl(ctx context.Context, args ...string) (string, error) {
	return c.administrator().Run(ctx, args...)
}

func (c *Cluster) administrator() command.Kubectl {
	return command.Kubectl{Runner: c.runner(), Program: filepath.Join(c.programs.kube, "kubectl"), Kubeconfig: c.Kubeconfig()}
}

// runner runs programs that Down ends as well, should this process be killed before them.
func (c *Cluster) runner() command.Runner {
	return command.Runner{Env: []string{marker + "=" + c.name}}
}
