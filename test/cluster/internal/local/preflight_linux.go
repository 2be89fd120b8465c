package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"github.com/imcluster/imcluster/test/cluster/internal/tools"
	"github.com/imcluster/imcluster/test/cluster/internal/workspace"
)

// preflight finds out what would keep a cluster from running, and installs what Debian has.
func (c *Cluster) preflight(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("a local cluster needs root, for network namespaces and cgroups; this is user %d", os.Geteuid())
	}
	if err := checkKernel(); err != nil {
		return err
	}
	if err := checkFileSystem(c.space.Cache); err != nil {
		return err
	}
	return c.installPackages(ctx)
}

// requirements are the programs and files that a cluster uses of the machine, with the Debian package of each.
// redis-tools holds the server too (see image.Redis).
var requirements = []struct{ anyOf, pkg string }{
	{"runc", "runc"},
	{"ip", "iproute2"},
	{"nsenter", "util-linux"},
	{"nft", "nftables"},
	{"/usr/lib/cni/ptp|/opt/cni/bin/ptp", "containernetworking-plugins"},
	{"redis-server|redis-check-rdb", "redis-tools"},
	{"redis-cli", "redis-tools"},
}

// installPackages installs the Debian packages whose programs are missing.
func (c *Cluster) installPackages(ctx context.Context) error {
	missing := missingPackages()
	if len(missing) == 0 {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("this machine lacks %s, and has no apt-get to install them with: "+
			"install what your distribution calls them, or use CLUSTER=kind", strings.Join(missing, ", "))
	}
	c.log.Step("installing Debian packages: %s", strings.Join(missing, " "))
	if err := tools.InstallPackages(ctx, missing...); err != nil {
		return err
	}
	if missing = missingPackages(); len(missing) > 0 {
		return fmt.Errorf("still missing after apt-get install: programs of %s", strings.Join(missing, ", "))
	}
	return nil
}

func missingPackages() []string {
	var missing []string
	for _, r := range requirements {
		found := slices.ContainsFunc(strings.Split(r.anyOf, "|"), func(program string) bool {
			_, err := exec.LookPath(program)
			return err == nil
		})
		if !found && !slices.Contains(missing, r.pkg) {
			missing = append(missing, r.pkg)
		}
	}
	return missing
}

// checkFileSystem finds out whether containers can be unpacked where the cluster's state is.
func checkFileSystem(dir string) error {
	const overlay = 0x794c7630 // OVERLAYFS_SUPER_MAGIC, statfs(2)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("inspect the file system of %s: %w", dir, err)
	}
	if fs.Type == overlay {
		return fmt.Errorf("%s is on an overlay file system, as in a container, on which no container can be unpacked: "+
			"set %s to a directory on a volume", dir, workspace.CacheEnv)
	}
	return nil
}

// checkKernel finds out whether this process may do what a cluster needs; in a container it often may not.
func checkKernel() error {
	const ways = "In a container: run it privileged, or use CLUSTER=kind with Docker on the host, or CLUSTER=current"
	cmd := exec.Command("true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("cannot make network and mount namespaces: %w. %s", err, ways)
	}
	tops, err := hierarchies()
	if err != nil {
		return err
	}
	if len(tops) == 0 {
		return fmt.Errorf("no cgroups at %s. %s", cgroupMount, ways)
	}
	for _, top := range tops {
		if err := syscall.Access(top, 2 /* W_OK */); err != nil {
			return fmt.Errorf("cannot write to %s: %w. %s", top, err, ways)
		}
	}
	if body, err := os.ReadFile("/proc/filesystems"); err == nil && !strings.Contains(string(body), "\toverlay\n") {
		if err := exec.Command("modprobe", "overlay").Run(); err != nil {
			return errors.New("the kernel has no overlay file system, and modprobe cannot load it. " + ways)
		}
	}
	return nil
}
