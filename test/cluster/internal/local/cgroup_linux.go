package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const cgroupMount = "/sys/fs/cgroup"

// hierarchies are the top directories of all cgroup hierarchies: one with cgroup v2, one per controller with v1.
func hierarchies() ([]string, error) {
	if unified() {
		return []string{cgroupMount}, nil
	}
	entries, err := os.ReadDir(cgroupMount)
	if err != nil {
		return nil, fmt.Errorf("find cgroups: %w", err)
	}
	var found []string
	for _, entry := range entries {
		// Symbolic links are second names, such as cpu for cpu,cpuacct.
		if entry.IsDir() {
			found = append(found, filepath.Join(cgroupMount, entry.Name()))
		}
	}
	return found, nil
}

func unified() bool {
	_, err := os.Stat(filepath.Join(cgroupMount, "cgroup.controllers"))
	return err == nil
}

// makeCgroups makes the cgroup of the cluster's name in every hierarchy. The unified case has not been tried.
func makeCgroups(name string) error {
	tops, err := hierarchies()
	if err != nil {
		return err
	}
	for _, top := range tops {
		dir := filepath.Join(top, name)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make cgroup: %w", err)
		}
		// A v1 cpuset takes no process before it has been given processors and memory.
		if err := copyCpuset(top, dir); err != nil {
			return err
		}
	}
	if unified() {
		return delegate(cgroupMount, filepath.Join(cgroupMount, name))
	}
	return nil
}

func copyCpuset(from, to string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(from, file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, file), value, 0o644); err != nil {
			return fmt.Errorf("set up cgroup: %w", err)
		}
	}
	return nil
}

// delegate passes the controllers that the kubelet wants down from each directory (cgroup v2).
func delegate(dirs ...string) error {
	for _, dir := range dirs {
		available, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
		if err != nil {
			return err
		}
		for _, controller := range []string{"cpuset", "cpu", "io", "memory", "pids", "hugetlb"} {
			if !slices.Contains(strings.Fields(string(available)), controller) {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+controller), 0o644); err != nil {
				return fmt.Errorf("delegate cgroup controller %s: %w", controller, err)
			}
		}
	}
	return nil
}

// cgroupDirs lists the cluster's cgroups, the deepest first.
func cgroupDirs(name string) ([]string, error) {
	tops, err := hierarchies()
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, top := range tops {
		err := filepath.WalkDir(filepath.Join(top, name), func(path string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && entry.IsDir() {
				dirs = append(dirs, path)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("list cgroups: %w", err)
		}
	}
	slices.Reverse(dirs)
	return dirs, nil
}

// removeCgroups kills what runs in the cluster's cgroups, its containers, and removes the cgroups.
func removeCgroups(ctx context.Context, name string) error {
	return poll(ctx, 10*time.Second, 20*time.Millisecond, func() (bool, error) {
		dirs, err := cgroupDirs(name)
		if err != nil || len(dirs) == 0 {
			return err == nil, err
		}
		var busy error
		for _, dir := range dirs {
			// A cgroup that cannot be read is gone already, with its last process.
			_ = signalCgroup(dir, syscall.SIGKILL)
			if err := syscall.Rmdir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
				busy = fmt.Errorf("remove cgroup %s: %w", dir, err)
			}
		}
		return busy == nil, busy
	})
}
