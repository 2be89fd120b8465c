package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"

	"github.com/imcluster/imcluster/test/cluster/internal/current"
	"github.com/imcluster/imcluster/test/cluster/internal/forward"
	"github.com/imcluster/imcluster/test/cluster/internal/kind"
	"github.com/imcluster/imcluster/test/cluster/internal/local"
	"github.com/imcluster/imcluster/test/cluster/internal/tools"
)

// cluster is one way to have a Kubernetes.
type cluster interface {
	Up(context.Context) error
	Down(context.Context) error
	Restart(context.Context) error
	Status(context.Context, io.Writer) error
	Load(ctx context.Context, archives ...string) error
	Forward(context.Context, forward.Mapping) error
	// Signal signals every process of a pod's container.
	Signal(ctx context.Context, namespace, pod, container string, signal syscall.Signal) error
	// Environment returns variables beside KUBECONFIG that say how to use the cluster.
	Environment(context.Context) (map[string]string, error)
	Kubeconfig() string
}

func (e *environment) ofType(kindOf string) cluster {
	switch kindOf {
	case "kind":
		return kind.New(e.name, e.space, e.shelf, e.log)
	case "current":
		return current.New(e.name, e.space, e.shelf, e.log)
	default:
		return local.New(e.name, e.space, e.shelf, e.log)
	}
}

// existing returns the cluster as whatever it was made.
func (e *environment) existing() (cluster, error) {
	if err := e.open(); err != nil {
		return nil, err
	}
	record, err := e.space.ReadRecord(e.name)
	if err != nil {
		return nil, err
	}
	if record.Type == "" {
		return nil, fmt.Errorf("there is no cluster %s; make it with: cluster --name %[1]s up", e.name)
	}
	return e.ofType(record.Type), nil
}

type upCommand struct {
	Type string `enum:"kind,local,current," default:"" env:"CLUSTER" placeholder:"kind|local|current" help:"How to run it. Unset: kind if Docker runs, else local if this is root on Linux."`
}

func (c *upCommand) Run(e *environment) error {
	if err := e.open(); err != nil {
		return err
	}
	record, err := e.space.ReadRecord(e.name)
	if err != nil {
		return err
	}
	kindOf := c.Type
	switch {
	case kindOf != "" && record.Type != "" && kindOf != record.Type:
		return fmt.Errorf("cluster %s exists with CLUSTER=%s; remove it first (cluster --name %[1]s down)", e.name, record.Type)
	case kindOf == "" && record.Type != "":
		kindOf = record.Type
	case kindOf == "":
		if kindOf, err = chooseType(e); err != nil {
			return err
		}
		e.log.Step("CLUSTER is not set; using %s", kindOf)
	}
	return e.ofType(kindOf).Up(e)
}

// chooseType never chooses the current context: that may be anything.
func chooseType(ctx context.Context) (string, error) {
	noKind := kind.Available(ctx)
	switch {
	case noKind == nil:
		return "kind", nil
	case runtime.GOOS == "linux" && os.Geteuid() == 0:
		return "local", nil
	}
	return "", fmt.Errorf(`no way to run a cluster here (%w). There are three:
  CLUSTER=kind     with a running Docker
  CLUSTER=local    as root on Linux, Debian or Ubuntu for preference, without Docker
  CLUSTER=current  on the cluster of your kubeconfig's current context`, noKind)
}

type downCommand struct{}

func (c *downCommand) Run(e *environment) error {
	if err := e.open(); err != nil {
		return err
	}
	record, err := e.space.ReadRecord(e.name)
	if err != nil {
		return err
	}
	if record.Type == "" && (runtime.GOOS != "linux" || os.Geteuid() != 0) {
		e.log.Step("there is no cluster %s", e.name)
		return nil
	}
	// Without a record there may still be the beginnings of a local one.
	return e.ofType(record.Type).Down(e)
}

type statusCommand struct{}

func (c *statusCommand) Run(e *environment) error {
	it, err := e.existing()
	if err != nil {
		return err
	}
	return it.Status(e, os.Stdout)
}

type restartCommand struct{}

func (c *restartCommand) Run(e *environment) error {
	it, err := e.existing()
	if err != nil {
		return err
	}
	return it.Restart(e)
}

type loadCommand struct {
	Archives []string `arg:"" type:"existingfile" help:"Archives as of docker save."`
}

func (c *loadCommand) Run(e *environment) error {
	it, err := e.existing()
	if err != nil {
		return err
	}
	return it.Load(e, c.Archives...)
}

type forwardCommand struct {
	Mappings []string `arg:"" placeholder:"18080=service.namespace:80" help:"Ports and Services."`
}

func (c *forwardCommand) Run(e *environment) error {
	it, err := e.existing()
	if err != nil {
		return err
	}
	for _, text := range c.Mappings {
		mapping, err := forward.Parse(text)
		if err != nil {
			return err
		}
		if err := it.Forward(e, mapping); err != nil {
			return err
		}
	}
	return nil
}

type signalCommand struct {
	Namespace string `short:"n" default:"default" help:"Namespace of the pod."`
	Signal    string `arg:"" enum:"KILL,STOP,CONT,TERM" help:"KILL, STOP, CONT or TERM."`
	Pod       string `arg:""`
	Container string `arg:""`
}

func (c *signalCommand) Run(e *environment) error {
	it, err := e.existing()
	if err != nil {
		return err
	}
	signal := map[string]syscall.Signal{
		"KILL": syscall.SIGKILL, "STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT, "TERM": syscall.SIGTERM,
	}[c.Signal]
	return it.Signal(e, c.Namespace, c.Pod, c.Container, signal)
}

type kubectlCommand struct {
	Args []string `arg:"" optional:""`
}

func (c *kubectlCommand) Run(e *environment) error {
	it, err := e.existing()
	if err != nil {
		return err
	}
	kubectl, err := e.shelf.Path(e, "kubectl")
	if err != nil {
		return err
	}
	args := c.Args
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	cmd := exec.CommandContext(e, kubectl, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+it.Kubeconfig())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return &exitError{code: exit.ExitCode()}
	}
	return err
}

type kubeconfigCommand struct{}

func (c *kubeconfigCommand) Run(e *environment) error {
	it, err := e.existing()
	if err != nil {
		return err
	}
	fmt.Println(it.Kubeconfig())
	return nil
}

type envCommand struct{}

func (c *envCommand) Run(e *environment) error {
	it, err := e.existing()
	if err != nil {
		return err
	}
	kubectl, err := e.shelf.Path(e, "kubectl")
	if err != nil {
		return err
	}
	helm, err := e.shelf.Path(e, string(tools.Helm))
	if err != nil {
		return err
	}
	variables, err := it.Environment(e)
	if err != nil {
		return err
	}
	if variables == nil {
		variables = map[string]string{}
	}
	variables["KUBECONFIG"] = it.Kubeconfig()
	variables["IMC_KUBECTL"] = kubectl
	variables["IMC_HELM"] = helm
	// A cluster can be used where there is no etcd for tests of the operator alone.
	if assets, err := e.shelf.Assets(e); err == nil {
		variables["KUBEBUILDER_ASSETS"] = assets
	}
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		fmt.Printf("export %s=%q\n", name, variables[name])
	}
	return nil
}
