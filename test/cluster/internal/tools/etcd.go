package tools

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/imcluster/imcluster/test/cluster/internal/workspace"
)

// Etcd returns the path of an etcd server: the one of PATH, or else Debian's, unpacked into the cache. It is not
// installed, because on a machine with systemd the package starts a server of its own.
func (s *Shelf) Etcd(ctx context.Context) (string, error) {
	if path, err := exec.LookPath("etcd"); err == nil {
		return path, nil
	}
	dir := filepath.Join(s.dir, "etcd-debian")
	path := filepath.Join(dir, "usr", "bin", "etcd")
	unlock, err := workspace.Lock(filepath.Join(s.dir, ".etcd.lock"), nil)
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return "", fmt.Errorf("no etcd in PATH, and this is no Debian or Ubuntu to take it from: " +
			"install an etcd server (https://etcd.io/docs/latest/install/)")
	}
	s.log.Step("fetching Debian's etcd-server into the cache (not installed, no service started)")
	return path, unpackPackage(ctx, "etcd-server", dir)
}

// unpackPackage downloads a Debian package and unpacks its files below dir.
func unpackPackage(ctx context.Context, name, dir string) error {
	part := dir + ".part"
	if err := os.RemoveAll(part); err != nil {
		return err
	}
	defer os.RemoveAll(part)
	if err := os.MkdirAll(part, 0o755); err != nil {
		return err
	}
	if err := apt(ctx, part, "download", name); err != nil {
		return err
	}
	archives, err := filepath.Glob(filepath.Join(part, "*.deb"))
	if err != nil {
		return err
	}
	if len(archives) != 1 {
		return fmt.Errorf("apt-get download %s left %d packages", name, len(archives))
	}
	if output, err := exec.CommandContext(ctx, "dpkg-deb", "-x", archives[0], part).CombinedOutput(); err != nil {
		return fmt.Errorf("unpack %s: %w\n%s", name, err, output)
	}
	return os.Rename(part, dir)
}

// InstallPackages installs Debian packages without questions.
func InstallPackages(ctx context.Context, names ...string) error {
	return apt(ctx, "", append([]string{"install", "-y", "--no-install-recommends"}, names...)...)
}

// apt runs apt-get in dir, and once more after an update of the package lists if they are missing or stale.
func apt(ctx context.Context, dir string, args ...string) error {
	run := func(args ...string) ([]byte, error) {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		// An interrupted dpkg leaves the machine's package database to be repaired by hand.
		cmd.Cancel = func() error { return nil }
		cmd.WaitDelay = time.Minute
		return cmd.CombinedOutput()
	}
	if _, err := run(args...); err == nil {
		return nil
	}
	if output, err := run("update"); err != nil {
		return fmt.Errorf("apt-get update: %w\n%s", err, output)
	}
	if output, err := run(args...); err != nil {
		return fmt.Errorf("apt-get %q: %w\n%s", args, err, output)
	}
	return nil
}

// Assets returns the directory that envtest wants in KUBEBUILDER_ASSETS: kube-apiserver, etcd and kubectl.
func (s *Shelf) Assets(ctx context.Context) (string, error) {
	kube, err := s.Dir(ctx, Kube)
	if err != nil {
		return "", err
	}
	etcd, err := s.Etcd(ctx)
	if err != nil {
		return "", err
	}
	link := filepath.Join(kube, "etcd")
	if target, err := os.Readlink(link); err == nil && target == etcd {
		return kube, nil
	}
	part := fmt.Sprintf("%s.%d", link, os.Getpid())
	if err := os.Symlink(etcd, part); err != nil {
		return "", err
	}
	return kube, os.Rename(part, link)
}
