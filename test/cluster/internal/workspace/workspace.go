// Package workspace knows where things are: the checkout, the cache outside it, and the state of each cluster.
package workspace

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// Module is the product's module path, by which its checkout is recognised.
const Module = "github.com/imcluster/imcluster"

// CacheEnv overrides where built tools and cluster state are kept; the default is the user's cache directory +
// "/imcluster".
const CacheEnv = "IMCLUSTER_CACHE"

// Workspace is a checkout and the cache it uses.
type Workspace struct {
	// Root is the top directory of the checkout.
	Root string
	// Cache is the absolute directory of tools, images and cluster state.
	Cache string
}

// Find locates the checkout that the current directory is in.
func Find() (Workspace, error) {
	dir, err := os.Getwd()
	if err != nil {
		return Workspace{}, fmt.Errorf("find the current directory: %w", err)
	}
	root, err := findRoot(dir)
	if err != nil {
		return Workspace{}, err
	}
	cache := os.Getenv(CacheEnv)
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return Workspace{}, fmt.Errorf("find a cache directory (set %s): %w", CacheEnv, err)
		}
		cache = filepath.Join(user, "imcluster")
	}
	if cache, err = filepath.Abs(cache); err != nil {
		return Workspace{}, fmt.Errorf("make %s absolute: %w", CacheEnv, err)
	}
	return Workspace{Root: root, Cache: cache}, nil
}

func findRoot(dir string) (string, error) {
	for at := dir; ; at = filepath.Dir(at) {
		if module, err := moduleOf(filepath.Join(at, "go.mod")); err != nil {
			return "", err
		} else if module == Module {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("%s is not inside a checkout of %s", dir, Module)
		}
	}
}

// moduleOf returns the module path that a go.mod file declares, "" if there is no such file.
func moduleOf(path string) (string, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if module, ok := strings.CutPrefix(lines.Text(), "module "); ok {
			return strings.TrimSpace(module), nil
		}
	}
	return "", lines.Err()
}

// Tool is the directory of the cluster tool's own sources.
func (w Workspace) Tool() string { return filepath.Join(w.Root, "test", "cluster") }

// Cluster is the directory of a cluster's state.
func (w Workspace) Cluster(name string) string { return filepath.Join(w.Cache, "clusters", name) }

// Kubeconfig is where the checkout shows the kubeconfig of a cluster.
func (w Workspace) Kubeconfig(name string) string {
	return filepath.Join(w.Root, ".cluster", name+".kubeconfig")
}

// A cluster's name is also the name of its network link, which Linux limits to 15 bytes, and of its cgroup. The fixed
// beginning keeps "down" away from whatever else a machine has.
var clusterName = regexp.MustCompile(`^imc(-[a-z0-9]+)*$`)

const maxName = 15

// CheckName refuses names that a cluster cannot have.
func CheckName(name string) error {
	if len(name) > maxName || !clusterName.MatchString(name) {
		return fmt.Errorf("%q cannot name a cluster: use imc or imc-<lower case letters and digits>, at most %d characters",
			name, maxName)
	}
	return nil
}

// Lock takes the lock file at path, waiting for whoever holds it; onWait, if not nil, is called before a wait. The
// kernel drops the lock with the process, so a killed command leaves none behind.
func Lock(path string, onWait func()) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		if onWait != nil {
			onWait()
		}
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}

// WriteFile replaces the file at path in one step, and reports whether that changed its contents.
func WriteFile(path string, body []byte, mode os.FileMode) (changed bool, err error) {
	if old, err := os.ReadFile(path); err == nil && string(old) == string(body) {
		return false, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, err
	}
	part := path + ".part"
	if err := os.WriteFile(part, body, mode); err != nil {
		return false, err
	}
	return true, os.Rename(part, path)
}
