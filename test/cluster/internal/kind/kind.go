// Package kind runs a cluster by kind, in Docker. It has been written without a Docker at hand: its commands are those
// of kind's documentation, but nobody has run them yet.
package kind

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/template"

	"github.com/imcluster/imcluster/test/cluster/internal/command"
	"github.com/imcluster/imcluster/test/cluster/internal/forward"
	"github.com/imcluster/imcluster/test/cluster/internal/progress"
	"github.com/imcluster/imcluster/test/cluster/internal/tools"
	"github.com/imcluster/imcluster/test/cluster/internal/workspace"
)

//go:embed kind.yaml
var configText string

var configTemplate = template.Must(template.New("kind.yaml").Parse(configText))

// portOwner is the cluster that the host's fixed ports lead to; two clusters cannot have the same ones.
const portOwner = "imc"

// portMapping leads a port of 127.0.0.1 to a NodePort.
type portMapping struct{ Host, Node int }

var portMappings = []portMapping{{18080, 30080}, {18081, 30081}, {18082, 30082}}

// Cluster is a kind cluster, running or not.
type Cluster struct {
	name  string
	space workspace.Workspace
	shelf *tools.Shelf
	log   *progress.Log
}

// New returns the cluster of that name.
func New(name string, w workspace.Workspace, shelf *tools.Shelf, log *progress.Log) *Cluster {
	return &Cluster{name: name, space: w, shelf: shelf, log: log}
}

// Available reports why kind cannot be used, nil if it can. A docker on the PATH proves nothing; its engine must answer.
func Available(ctx context.Context) error {
	output, err := exec.CommandContext(ctx, "docker", "info").CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return errors.New("docker is not installed")
	} else if err != nil {
		lines := strings.Split(strings.TrimSpace(string(output)), "\n")
		return fmt.Errorf("docker info: %s", lines[len(lines)-1])
	}
	return nil
}

// Kubeconfig is the path of the administrator's kubeconfig.
func (c *Cluster) Kubeconfig() string { return filepath.Join(c.space.Cluster(c.name), "kubeconfig") }

// Up makes the cluster unless it is there.
func (c *Cluster) Up(ctx context.Context) error {
	if err := Available(ctx); err != nil {
		return fmt.Errorf("kind needs a running Docker (%w). Without one: CLUSTER=local as root on Linux, or CLUSTER=current "+
			"for the cluster of your kubeconfig's current context", err)
	}
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := c.space.WriteRecord(c.name, workspace.Record{Type: "kind"}); err != nil {
		return err
	}
	clusters, err := c.kind(ctx, "get", "clusters")
	if err != nil {
		return err
	}
	if slices.Contains(strings.Fields(clusters), c.name) {
		_, err = c.kind(ctx, "export", "kubeconfig", "--name", c.name, "--kubeconfig", c.Kubeconfig())
	} else {
		err = c.create(ctx)
	}
	if err != nil {
		return err
	}
	if err := c.space.PublishKubeconfig(c.name, c.Kubeconfig()); err != nil {
		return err
	}
	c.log.Step("cluster %s is up: KUBECONFIG=%s", c.name, c.space.Kubeconfig(c.name))
	return nil
}

func (c *Cluster) create(ctx context.Context) error {
	var mappings []portMapping
	if c.name == portOwner {
		mappings = portMappings
	}
	var config bytes.Buffer
	if err := configTemplate.Execute(&config, mappings); err != nil {
		return err
	}
	path := filepath.Join(c.space.Cluster(c.name), "kind.yaml")
	if _, err := workspace.WriteFile(path, config.Bytes(), 0o644); err != nil {
		return err
	}
	c.log.Step("creating kind cluster %s (a minute or two, more if its node image is to be pulled)", c.name)
	_, err := c.kind(ctx, "create", "cluster", "--name", c.name, "--config", path, "--kubeconfig", c.Kubeconfig(), "--wait", "3m")
	return err
}

// Down removes the cluster.
func (c *Cluster) Down(ctx context.Context) error {
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := c.kind(ctx, "delete", "cluster", "--name", c.name, "--kubeconfig", c.Kubeconfig()); err != nil {
		return err
	}
	c.log.Step("cluster %s is removed", c.name)
	return c.space.Forget(c.name)
}

// Restart restarts the node's container, and with it everything in it, pods too.
func (c *Cluster) Restart(ctx context.Context) error {
	if _, err := command.Run(ctx, "docker", "restart", c.name+"-control-plane"); err != nil {
		return err
	}
	return c.Up(ctx)
}

// Status writes the cluster's nodes.
func (c *Cluster) Status(ctx context.Context, out io.Writer) error {
	kubectl, err := c.kubectl(ctx)
	if err != nil {
		return err
	}
	nodes, err := kubectl.Run(ctx, "get", "nodes", "--output", "wide")
	fmt.Fprint(out, nodes)
	return err
}

// Load loads image archives into the cluster.
func (c *Cluster) Load(ctx context.Context, archives ...string) error {
	for _, archive := range archives {
		c.log.Step("loading image %s", filepath.Base(archive))
		if _, err := c.kind(ctx, "load", "image-archive", archive, "--name", c.name); err != nil {
			return err
		}
	}
	return nil
}

// Forward opens a port that the cluster was made with, by a Service of type NodePort beside the given one.
func (c *Cluster) Forward(ctx context.Context, m forward.Mapping) error {
	at := slices.IndexFunc(portMappings, func(p portMapping) bool { return p.Host == m.Port })
	if at < 0 || c.name != portOwner {
		return fmt.Errorf("kind can forward 18080, 18081 and 18082 of cluster %s only; for others use kubectl port-forward", portOwner)
	}
	kubectl, err := c.kubectl(ctx)
	if err != nil {
		return err
	}
	output, err := kubectl.Run(ctx, "--namespace", m.Namespace, "get", "service", m.Service, "--output", "json")
	if err != nil {
		return err
	}
	manifest, err := nodePortService([]byte(output), m, portMappings[at].Node)
	if err != nil {
		return err
	}
	_, err = kubectl.RunWithInput(ctx, manifest, "apply", "--filename", "-")
	return err
}

// nodePortService is a Service for the same pods as the given one, open at nodePort.
func nodePortService(service []byte, m forward.Mapping, nodePort int) (string, error) {
	type port struct {
		Port       int `json:"port"`
		TargetPort any `json:"targetPort"`
		NodePort   int `json:"nodePort"`
	}
	type spec struct {
		Type     string            `json:"type"`
		Selector map[string]string `json:"selector"`
		Ports    []port            `json:"ports"`
	}
	var of struct{ Spec spec }
	if err := json.Unmarshal(service, &of); err != nil {
		return "", fmt.Errorf("read Service %s: %w", m.Service, err)
	}
	at := slices.IndexFunc(of.Spec.Ports, func(p port) bool { return p.Port == m.ServicePort })
	if at < 0 {
		return "", fmt.Errorf("the Service %s has no port %d", m.Service, m.ServicePort)
	}
	body, err := json.Marshal(map[string]any{
		"apiVersion": "v1",
		"kind":       "Service",
		"metadata":   map[string]string{"name": fmt.Sprintf("forward-%d", m.Port), "namespace": m.Namespace},
		"spec": spec{Type: "NodePort", Selector: of.Spec.Selector, Ports: []port{
			{Port: m.ServicePort, TargetPort: of.Spec.Ports[at].TargetPort, NodePort: nodePort},
		}},
	})
	return string(body), err
}

// Signal sends a signal to every process of a pod's container.
func (c *Cluster) Signal(ctx context.Context, namespace, pod, container string, signal syscall.Signal) error {
	kubectl, err := c.kubectl(ctx)
	if err != nil {
		return err
	}
	id, err := kubectl.ContainerID(ctx, namespace, pod, container)
	if err != nil {
		return err
	}
	script := fmt.Sprintf("find /sys/fs/cgroup -path '*%s*' -name cgroup.procs -exec cat {} + | xargs -r kill -%d", id, signal)
	_, err = command.Run(ctx, "docker", "exec", c.name+"-control-plane", "sh", "-c", script)
	return err
}

// Environment is empty: images come from their registries.
func (c *Cluster) Environment(context.Context) (map[string]string, error) { return nil, nil }

func (c *Cluster) lock() (unlock func(), err error) {
	return workspace.Lock(c.space.Cluster(c.name)+".lock", func() {
		c.log.Step("another command is at work on cluster %s; waiting for it", c.name)
	})
}

func (c *Cluster) kind(ctx context.Context, args ...string) (string, error) {
	program, err := c.shelf.Path(ctx, "kind")
	if err != nil {
		return "", err
	}
	return command.Run(ctx, program, args...)
}

func (c *Cluster) kubectl(ctx context.Context) (command.Kubectl, error) {
	program, err := c.shelf.Path(ctx, "kubectl")
	return command.Kubectl{Program: program, Kubeconfig: c.Kubeconfig()}, err
}
