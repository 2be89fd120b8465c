package main

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/imcluster/imcluster/test/cluster/internal/image"
	"github.com/imcluster/imcluster/test/cluster/internal/tools"
	"github.com/imcluster/imcluster/test/cluster/internal/workspace"
)

// product is one of the images that IMCluster is released as.
type product struct {
	ref        string // without the tag
	title      string
	commands   []string // of cmd/
	entrypoint []string
}

// products must agree with cmd/Dockerfile.
var products = map[string]product{
	"operator": {
		ref:        "ghcr.io/imcluster/imcluster-operator",
		title:      "IMCluster operator",
		commands:   []string{"operator"},
		entrypoint: []string{"/usr/local/bin/operator"},
	},
	"dataplane": {
		ref:      "ghcr.io/imcluster/imcluster",
		title:    "IMCluster gateway and presence",
		commands: []string{"gateway", "presence", "imctl"},
	},
}

// coldCompile is how long the product takes to compile with empty Go caches on two cores.
const coldCompile = 100 * time.Second

type imageCommand struct {
	Images  []string `arg:"" optional:"" help:"Which: operator, dataplane. Default: both."`
	Version string   `required:"" help:"Version of the product, and tag of the images."`
	Out     string   `required:"" type:"path" help:"Directory for the archives."`
}

func (c *imageCommand) Run(e *environment) error {
	if err := e.open(); err != nil {
		return err
	}
	if len(c.Images) == 0 {
		c.Images = slices.Sorted(maps.Keys(products))
	}
	for _, name := range c.Images {
		p, ok := products[name]
		if !ok {
			return fmt.Errorf("no image %q: there are %q", name, slices.Sorted(maps.Keys(products)))
		}
		e.log.Step("building image %s:%s", p.ref, c.Version)
		binaries, err := c.compile(e, p.commands)
		if err != nil {
			return err
		}
		spec := image.Programs(p.ref+":"+c.Version, p.title, c.Version, binaries...)
		spec.Entrypoint = p.entrypoint
		archive := filepath.Join(c.Out, name+".tar")
		if err := image.Write(archive, spec); err != nil {
			return err
		}
		fmt.Println(archive)
	}
	return nil
}

// compile builds commands of the product for the containers' system and returns the paths.
func (c *imageCommand) compile(e *environment, commands []string) ([]string, error) {
	// Kept, so that what has not changed is not linked again.
	dir := filepath.Join(e.space.Root, "bin", "image")
	args := []string{"build", "-trimpath", "-buildvcs=false", "-o", dir + "/",
		"-ldflags", fmt.Sprintf("-s -w -X %s/internal/version.version=%s", workspace.Module, c.Version)}
	var binaries []string
	for _, command := range commands {
		args = append(args, "./cmd/"+command)
		binaries = append(binaries, filepath.Join(dir, command))
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	defer e.log.Patience("compiling "+strings.Join(commands, ", "), 15*time.Second, coldCompile)()
	cmd := exec.CommandContext(e, "go", args...)
	cmd.Dir = e.space.Root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+runtime.GOARCH)
	if output, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build %s: %w\n%s", strings.Join(commands, ", "), err, output)
	}
	return binaries, nil
}

type toolsCommand struct {
	Programs []string `arg:"" optional:"" help:"Programs or tools to build: kube (kube-apiserver, kubectl, …), containerd, coredns, helm, kind. Default: what a local cluster and the tests need."`
	Print    bool     `help:"Print only the paths of the programs given, one a line; of \"kube\", the directory for KUBEBUILDER_ASSETS."`
}

func (c *toolsCommand) Run(e *environment) error {
	if err := e.open(); err != nil {
		return err
	}
	programs := c.Programs
	if len(programs) == 0 {
		programs = []string{"kube", "helm"}
		if runtime.GOOS == "linux" {
			programs = append(programs, "containerd", "coredns", "pause")
		}
	}
	for _, program := range programs {
		var path string
		var err error
		if tool, ok := tools.Of(program); ok && tool == tools.Kube && program == string(tool) {
			path, err = e.shelf.Assets(e)
		} else {
			path, err = e.shelf.Path(e, program)
		}
		if err != nil {
			return err
		}
		if c.Print {
			fmt.Println(path)
		} else {
			fmt.Printf("%s\t%s\n", program, path)
		}
	}
	return nil
}
