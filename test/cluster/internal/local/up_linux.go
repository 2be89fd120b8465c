package local

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/imcluster/imcluster/test/cluster/internal/tools"
)

// Up brings the cluster up: what is missing is made, what stands is left alone. It may be interrupted at any point and
// called again.
func (c *Cluster) Up(ctx context.Context) error {
	if err := c.preflight(ctx); err != nil {
		return err
	}
	if err := c.findPrograms(ctx); err != nil {
		return err
	}
	images, err := c.makeImages(ctx)
	if err != nil {
		return err
	}
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()

	started, err := c.ensureProcesses(ctx, images)
	if err != nil {
		return err
	}
	if err := c.ensureReady(ctx, images); err != nil {
		return err
	}
	if err := c.space.PublishKubeconfig(c.name, c.Kubeconfig()); err != nil {
		return err
	}
	verb := "is up"
	if started == 0 {
		verb = "was up already"
	}
	c.log.Step("cluster %s %s: KUBECONFIG=%s", c.name, verb, c.space.Kubeconfig(c.name))
	return nil
}

// findPrograms builds the tools where need be.
func (c *Cluster) findPrograms(ctx context.Context) (err error) {
	if c.programs.kube, err = c.shelf.Dir(ctx, tools.Kube); err != nil {
		return err
	}
	if c.programs.containerd, err = c.shelf.Dir(ctx, tools.Containerd); err != nil {
		return err
	}
	c.programs.etcd, err = c.shelf.Etcd(ctx)
	return err
}

// ensureProcesses sets up namespaces, cgroups, network and configuration, and starts what does not run. It returns how
// many components it started.
func (c *Cluster) ensureProcesses(ctx context.Context, images infraImages) (started int, err error) {
	if err := c.ensureRecord(); err != nil {
		return 0, err
	}
	changed, err := c.writeConfiguration(images)
	if err != nil {
		return 0, err
	}
	if err := c.ensureHolder(ctx); err != nil {
		return 0, err
	}
	if err := c.ensureLink(ctx); err != nil {
		return 0, err
	}
	if err := makeCgroups(c.name); err != nil {
		return 0, err
	}
	for _, comp := range c.components() {
		if comp.name == "kubelet" { // ends at once when it finds no containerd
			if err := c.waitForContainerd(ctx); err != nil {
				return started, err
			}
		}
		did, err := c.ensureComponent(ctx, comp, changed[comp.config])
		if err != nil {
			return started, err
		}
		if did {
			if started == 0 {
				c.log.Step("starting %s and the rest of cluster %s", comp.name, c.name)
			}
			started++
		}
	}
	return started, nil
}

func (c *Cluster) waitForContainerd(ctx context.Context) error {
	return c.await(ctx, "containerd", 30*time.Second, []component{c.containerd()}, func() error {
		_, err := c.runner().Run(ctx, filepath.Join(c.programs.containerd, "ctr"), "--connect-timeout", "1s",
			"--address", filepath.Join(c.run, "containerd.sock"), "version")
		return err
	})
}

// ensureReady waits until pods can be created and find each other.
func (c *Cluster) ensureReady(ctx context.Context, images infraImages) error {
	if err := c.load(ctx, images.pause.archive, images.dns.archive, images.redis.archive); err != nil {
		return err
	}
	steps := []struct {
		what    string
		timeout time.Duration
		args    []string
	}{
		{"the API server", 90 * time.Second, []string{"get", "--raw=/readyz"}},
		{"the addons to be applied", 30 * time.Second, []string{"apply", "-f", filepath.Join(c.state, "addons.yaml")}},
		{"the node to be Ready", 60 * time.Second, []string{"wait", "--for=condition=Ready", "node/" + nodeName, "--timeout=2s"}},
		{"cluster DNS", 90 * time.Second, []string{"-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=2s"}},
		// Pods cannot be created before it; on the first start it comes last of all.
		{"the default ServiceAccount", 60 * time.Second, []string{"get", "serviceaccount", "default"}},
	}
	for _, step := range steps {
		err := c.await(ctx, step.what, step.timeout, c.components(), func() error {
			_, err := c.kubectl(ctx, step.args...)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// await calls check until it succeeds, and says so if that takes a while. It fails early when one of needs has ended.
func (c *Cluster) await(ctx context.Context, what string, timeout time.Duration, needs []component, check func() error) error {
	began := time.Now()
	err := poll(ctx, timeout, 100*time.Millisecond, func() (bool, error) {
		err := check()
		if err == nil {
			return true, nil
		}
		if dead := c.checkAlive(needs...); dead != nil {
			return true, dead
		}
		return false, err
	})
	if err != nil {
		return fmt.Errorf("waiting for %s: %w", what, err)
	}
	if took := time.Since(began); took > 500*time.Millisecond {
		c.log.Step("  waited %.1f s for %s", took.Seconds(), what)
	}
	return nil
}

// tail returns the last lines of a log.
func tail(path string) string {
	body, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(body), []byte("\n"))
	var out []string
	for _, line := range lines[max(len(lines)-5, 0):] {
		out = append(out, "  "+string(line))
	}
	return strings.Join(out, "\n")
}
