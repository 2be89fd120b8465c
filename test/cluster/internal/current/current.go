// Package current uses a cluster that somebody else made: the current context of the user's kubeconfig, as it was when
// the cluster was taken up. It creates nothing there and removes nothing.
package current

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/imcluster/imcluster/test/cluster/internal/command"
	"github.com/imcluster/imcluster/test/cluster/internal/forward"
	"github.com/imcluster/imcluster/test/cluster/internal/progress"
	"github.com/imcluster/imcluster/test/cluster/internal/tools"
	"github.com/imcluster/imcluster/test/cluster/internal/workspace"
)

// Cluster is the user's cluster.
type Cluster struct {
	name  string
	space workspace.Workspace
	shelf *tools.Shelf
	log   *progress.Log
}

// New returns the user's cluster, to be known by name here.
func New(name string, w workspace.Workspace, shelf *tools.Shelf, log *progress.Log) *Cluster {
	return &Cluster{name: name, space: w, shelf: shelf, log: log}
}

// Kubeconfig is the path of a kubeconfig with the one context.
func (c *Cluster) Kubeconfig() string { return filepath.Join(c.space.Cluster(c.name), "kubeconfig") }

// Up copies the current context, so that a later switch of context changes nothing here, and tries it.
func (c *Cluster) Up(ctx context.Context) error {
	program, err := c.shelf.Path(ctx, "kubectl")
	if err != nil {
		return err
	}
	config, err := command.Run(ctx, program, "config", "view", "--minify", "--flatten")
	if err != nil {
		return fmt.Errorf("read the current context: %w", err)
	}
	if err := c.space.WriteRecord(c.name, workspace.Record{Type: "current"}); err != nil {
		return err
	}
	if _, err := workspace.WriteFile(c.Kubeconfig(), []byte(config), 0o600); err != nil {
		return err
	}
	kubectl := command.Kubectl{Program: program, Kubeconfig: c.Kubeconfig()}
	if _, err := kubectl.Run(ctx, "get", "--raw=/readyz"); err != nil {
		return fmt.Errorf("the current context does not answer: %w", err)
	}
	if err := c.space.PublishKubeconfig(c.name, c.Kubeconfig()); err != nil {
		return err
	}
	name, err := kubectl.Run(ctx, "config", "current-context")
	if err != nil {
		return err
	}
	c.log.Step("using context %s: KUBECONFIG=%s", strings.TrimSpace(name), c.space.Kubeconfig(c.name))
	return nil
}

// Down forgets the cluster.
func (c *Cluster) Down(context.Context) error {
	c.log.Step("the cluster of %s is not ours to remove; only its kubeconfig here is", c.name)
	return c.space.Forget(c.name)
}

// Restart is refused.
func (c *Cluster) Restart(context.Context) error {
	return errors.New("the current context's cluster is not ours to restart")
}

// Status writes the cluster's nodes.
func (c *Cluster) Status(ctx context.Context, out io.Writer) error {
	program, err := c.shelf.Path(ctx, "kubectl")
	if err != nil {
		return err
	}
	nodes, err := command.Kubectl{Program: program, Kubeconfig: c.Kubeconfig()}.Run(ctx, "get", "nodes", "--output", "wide")
	fmt.Fprint(out, nodes)
	return err
}

// Load is refused.
func (c *Cluster) Load(context.Context, ...string) error {
	return errors.New("images cannot be loaded into the current context's cluster: push them to a registry that it can pull from")
}

// Forward is refused.
func (c *Cluster) Forward(_ context.Context, m forward.Mapping) error {
	return fmt.Errorf("forward it yourself: kubectl -n %s port-forward service/%s %d:%d", m.Namespace, m.Service, m.Port, m.ServicePort)
}

// Signal is refused.
func (c *Cluster) Signal(context.Context, string, string, string, syscall.Signal) error {
	return errors.New("the current context's nodes are not ours to signal processes on")
}

// Environment is empty: images come from their registries.
func (c *Cluster) Environment(context.Context) (map[string]string, error) { return nil, nil }
