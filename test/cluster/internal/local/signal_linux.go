package local

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// Signal sends a signal to every process of a pod's container, which stays as it is for Kubernetes until a probe or the
// process says otherwise.
func (c *Cluster) Signal(ctx context.Context, namespace, pod, container string, signal syscall.Signal) error {
	if err := c.requireUp(); err != nil {
		return err
	}
	if err := c.findPrograms(ctx); err != nil {
		return err
	}
	id, err := c.administrator().ContainerID(ctx, namespace, pod, container)
	if err != nil {
		return err
	}
	dirs, err := cgroupDirs(c.name)
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		if filepath.Base(dir) == id {
			return signalCgroup(dir, signal)
		}
	}
	return fmt.Errorf("container %s of pod %s/%s has no cgroup: it has ended", container, namespace, pod)
}

// signalCgroup signals the processes of a cgroup.
func signalCgroup(dir string, signal syscall.Signal) error {
	body, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return fmt.Errorf("list processes: %w", err)
	}
	for field := range bytes.FieldsSeq(body) {
		pid, err := strconv.Atoi(string(field))
		if err != nil {
			return fmt.Errorf("read %s: %w", dir, err)
		}
		if pid > 0 { // 0 is a process of a PID namespace out of sight, and means "all of mine" to kill
			_ = syscall.Kill(pid, signal) // it may have ended
		}
	}
	return nil
}
