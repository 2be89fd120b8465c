//go:build !linux

package local

import (
	"context"
	"errors"
	"io"
	"syscall"

	"github.com/imcluster/imcluster/test/cluster/internal/forward"
	"github.com/imcluster/imcluster/test/cluster/internal/progress"
	"github.com/imcluster/imcluster/test/cluster/internal/tools"
	"github.com/imcluster/imcluster/test/cluster/internal/workspace"
)

// The hidden commands of Linux.
const (
	HolderCommand  = "hold-namespaces"
	ForwardCommand = "serve-forward"
)

var errLinux = errors.New("a local cluster needs Linux; use CLUSTER=kind with Docker, or CLUSTER=current")

// Cluster cannot be used on this system; every method says so.
type Cluster struct{}

// New returns a Cluster.
func New(string, workspace.Workspace, *tools.Shelf, *progress.Log) *Cluster { return &Cluster{} }

func (*Cluster) Up(context.Context) error                               { return errLinux }
func (*Cluster) Down(context.Context) error                             { return errLinux }
func (*Cluster) Restart(context.Context) error                          { return errLinux }
func (*Cluster) Status(context.Context, io.Writer) error                { return errLinux }
func (*Cluster) Load(context.Context, ...string) error                  { return errLinux }
func (*Cluster) Forward(context.Context, forward.Mapping) error         { return errLinux }
func (*Cluster) Environment(context.Context) (map[string]string, error) { return nil, errLinux }
func (*Cluster) Signal(context.Context, string, string, string, syscall.Signal) error {
	return errLinux
}
func (*Cluster) Kubeconfig() string { return "" }

// Hold is for Linux.
func Hold(string) error { return errLinux }
