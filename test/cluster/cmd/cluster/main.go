// Command cluster makes and removes the Kubernetes clusters that "make up" and the tests run on, and the images and
// tools for them.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/imcluster/imcluster/test/cluster/internal/forward"
	"github.com/imcluster/imcluster/test/cluster/internal/local"
	"github.com/imcluster/imcluster/test/cluster/internal/progress"
	"github.com/imcluster/imcluster/test/cluster/internal/tools"
	"github.com/imcluster/imcluster/test/cluster/internal/workspace"
)

// Exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
)

// commands is the command line.
type commands struct {
	Name string `default:"imc" help:"Name of the cluster: imc or imc-<something>. Clusters of different names are independent."`

	Up         upCommand         `cmd:"" help:"Bring the cluster up. What stands is left alone."`
	Down       downCommand       `cmd:"" help:"Remove the cluster, a half-made one too."`
	Status     statusCommand     `cmd:"" help:"Show what runs. Fails if something does not."`
	Restart    restartCommand    `cmd:"" help:"Restart Kubernetes under its pods."`
	Load       loadCommand       `cmd:"" help:"Load image archives into the cluster."`
	Forward    forwardCommand    `cmd:"" help:"Forward ports of 127.0.0.1 to Services of the cluster."`
	Signal     signalCommand     `cmd:"" help:"Send a signal to the processes of a container, such as STOP for one that hangs."`
	Kubectl    kubectlCommand    `cmd:"" passthrough:"" help:"Run kubectl on the cluster: cluster kubectl get pods."`
	Kubeconfig kubeconfigCommand `cmd:"" help:"Print the path of the cluster's kubeconfig."`
	Env        envCommand        `cmd:"" help:"Print shell exports: KUBECONFIG, KUBEBUILDER_ASSETS and more."`
	Image      imageCommand      `cmd:"" help:"Build the product's images without a container engine and print the archives."`
	Tools      toolsCommand      `cmd:"" help:"Build tools only, and print where they are."`

	Hold  holdCommand  `cmd:"" name:"hold-namespaces" hidden:""`
	Serve serveCommand `cmd:"" name:"serve-forward" hidden:""`
}

// environment is what the commands work with.
type environment struct {
	context.Context
	name  string
	space workspace.Workspace
	shelf *tools.Shelf
	log   *progress.Log
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string) int {
	var line commands
	parser := kong.Must(&line,
		kong.Name("cluster"),
		kong.Description("Clusters, images and tools for development and tests."),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true}),
	)
	parsed, err := parser.Parse(args)
	if err == nil {
		err = workspace.CheckName(line.Name)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "cluster: %v\nRun 'cluster --help' for what there is.\n", err)
		return exitUsage
	}
	err = parsed.Run(&environment{Context: ctx, name: line.Name})
	var exit *exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.code
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "cluster: interrupted; the same command goes on where it stopped")
	default:
		fmt.Fprintf(os.Stderr, "cluster: %v\n", err)
	}
	return exitFailed
}

// open finds the checkout and the cache, which the hidden commands do without.
func (e *environment) open() (err error) {
	if e.space, err = workspace.Find(); err != nil {
		return err
	}
	e.log = progress.New(os.Stderr)
	e.shelf = tools.NewShelf(e.space, e.log)
	return nil
}

// exitError is the exit code of a program that has explained itself.
type exitError struct{ code int }

func (e *exitError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

type holdCommand struct {
	Directory string `arg:""`
}

func (c *holdCommand) Run(*environment) error { return local.Hold(c.Directory) }

type serveCommand struct {
	Listen string `arg:""`
	Target string `arg:""`
	DNS    string `arg:""`
}

func (c *serveCommand) Run(e *environment) error {
	return forward.Serve(e, c.Listen, c.Target, c.DNS)
}
