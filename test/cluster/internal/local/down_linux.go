package local

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// Down removes the cluster and whatever a killed Up left of one: processes, containers, cgroups, network, files.
func (c *Cluster) Down(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("removing a local cluster needs root")
	}
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	existed := c.exists()
	if err := c.killAll(ctx); err != nil {
		return err
	}
	if err := c.removeFiles(); err != nil {
		return err
	}
	machine, err := c.lockMachine()
	if err != nil {
		return err
	}
	defer machine()
	if err := restoreHost(c.shared); err != nil {
		return err
	}
	if existed {
		c.log.Step("cluster %s is removed", c.name)
	} else {
		c.log.Step("there is no cluster %s", c.name)
	}
	return nil
}

// exists reports whether there is anything of the cluster.
func (c *Cluster) exists() bool {
	for _, dir := range []string{c.state, c.run} {
		if _, err := os.Stat(dir); err == nil {
			return true
		}
	}
	return false
}

// killAll ends the cluster's processes and containers, and takes its network and cgroups away. No grace: the data goes
// too, and it is over in a second.
func (c *Cluster) killAll(ctx context.Context) error {
	// Again until none is left: one that is killed may have been about to start another.
	err := poll(ctx, 20*time.Second, 20*time.Millisecond, func() (bool, error) {
		all, err := processes(c.name)
		if err != nil || len(all) == 0 {
			return err == nil, err
		}
		return false, stop(ctx, 0, all...)
	})
	if err != nil {
		return fmt.Errorf("end the cluster's processes: %w", err)
	}
	if err := removeCgroups(ctx, c.name); err != nil {
		return err
	}
	return c.deleteLink(ctx)
}

// removeFiles removes the cluster's directories and its kubeconfig in the checkout.
func (c *Cluster) removeFiles() error {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	for _, dir := range []string{c.state, c.run} {
		// The cluster's own mounts went with its namespace. Any other is someone's, with files that must not be deleted.
		if at := mountBelow(string(mounts), dir); at != "" {
			return fmt.Errorf("something is mounted at %s, which is to be removed: umount it, then try again", at)
		}
	}
	if err := os.RemoveAll(c.run); err != nil {
		return err
	}
	return c.space.Forget(c.name)
}

func mountBelow(mounts, dir string) string {
	for line := range strings.Lines(mounts) {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(fields[1], dir+"/") {
			return fields[1]
		}
	}
	return ""
}

// Restart stops the components, all but the pods, and starts them again.
func (c *Cluster) Restart(ctx context.Context) error {
	if err := c.requireUp(); err != nil {
		return err
	}
	if err := c.findPrograms(ctx); err != nil {
		return err
	}
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	running, err := processes(c.name)
	if err == nil {
		names := c.componentNames()
		running = slices.DeleteFunc(running, func(p process) bool { return !p.daemon || !slices.Contains(names, p.name()) })
		err = stop(ctx, stopGrace, running...)
	}
	unlock()
	if err != nil {
		return err
	}
	c.log.Step("stopped %d components of cluster %s; its pods run on", len(running), c.name)
	return c.Up(ctx)
}

func (c *Cluster) componentNames() []string {
	var names []string
	for _, comp := range c.components() {
		names = append(names, comp.name)
	}
	return names
}

func (c *Cluster) requireUp() error {
	if !c.exists() {
		return fmt.Errorf("there is no cluster %s; make it with: cluster --name %[1]s up", c.name)
	}
	return nil
}
