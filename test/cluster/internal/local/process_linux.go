package local

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// marker is the environment variable that every process of a cluster carries, with "<cluster>" as its value. It is
// there from the moment the program runs, so no kill of the starting command can lose a process, and a process id that
// is used again cannot be mistaken for one of ours, as with a pid file.
const marker = "IMCLUSTER_PROCESS_OF"

// process is a running process of a cluster.
type process struct {
	pid  int
	args []string
	// daemon says that it leads a session, as all do that start starts; the others are children of those.
	daemon bool
}

// name is what the process is called as.
func (p process) name() string { return filepath.Base(p.args[0]) }

// processes lists the processes that carry the cluster's mark.
func processes(cluster string) ([]process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var found []process
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if p, ok := inspect(pid, cluster); ok {
			found = append(found, p)
		}
	}
	return found, nil
}

// inspect reads one process; ok is false if it is not the cluster's, or has ended meanwhile.
func inspect(pid int, cluster string) (p process, ok bool) {
	read := func(name string) string {
		// What cannot be read has ended, or is not ours, as process 1 often is not even root's to look into.
		body, _ := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		return string(body)
	}
	if !slices.Contains(strings.Split(read("environ"), "\x00"), marker+"="+cluster) {
		return process{}, false
	}
	args := strings.Split(strings.TrimSuffix(read("cmdline"), "\x00"), "\x00")
	session, alive := sessionOf(read("stat"))
	if !alive || args[0] == "" {
		return process{}, false
	}
	return process{pid: pid, args: args, daemon: session == pid}, true
}

// sessionOf reads the session from /proc/<pid>/stat, "pid (name) state ppid pgrp session …" (proc_pid_stat(5)); alive is
// false for a zombie.
func sessionOf(stat string) (session int, alive bool) {
	_, rest, _ := strings.Cut(stat[max(strings.LastIndexByte(stat, ')'), 0):], " ")
	fields := strings.Fields(rest)
	if len(fields) < 4 || fields[0] == "Z" || fields[0] == "X" {
		return 0, false
	}
	session, err := strconv.Atoi(fields[3])
	return session, err == nil
}

// daemon returns the cluster's running daemon of that name.
func daemon(cluster, name string) (process, bool, error) {
	all, err := processes(cluster)
	if err != nil {
		return process{}, false, err
	}
	for _, p := range all {
		if p.daemon && p.name() == name {
			return p, true, nil
		}
	}
	return process{}, false, nil
}

// start starts a process that outlives this one, with its output appended to the file log. path is added to the front
// of PATH. attr may be nil.
func start(cluster, log, path string, attr *syscall.SysProcAttr, args ...string) error {
	if err := os.MkdirAll(filepath.Dir(log), 0o755); err != nil {
		return err
	}
	output, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer output.Close()
	if attr == nil {
		attr = &syscall.SysProcAttr{}
	}
	attr.Setsid = true
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = "/"
	cmd.Env = []string{
		// Nothing of this process's environment: a proxy setting, say, is not meant for the cluster.
		"PATH=" + path + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root",
		marker + "=" + cluster,
	}
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = attr
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", filepath.Base(args[0]), err)
	}
	// Reaps the process if it ends before this one does; there is nothing to do about how it ended but what the next
	// look at the cluster finds.
	go func() { _ = cmd.Wait() }()
	return nil
}

// stop ends processes: those that have not followed a SIGTERM within grace are killed. It returns when all are gone.
func stop(ctx context.Context, grace time.Duration, list ...process) error {
	if grace > 0 {
		signalAll(list, syscall.SIGTERM)
		if err := waitGone(ctx, grace, list); err == nil {
			return nil
		}
	}
	signalAll(list, syscall.SIGKILL)
	return waitGone(ctx, 10*time.Second, list)
}

func signalAll(list []process, signal syscall.Signal) {
	for _, p := range list {
		// It may have ended; waitGone finds out.
		_ = syscall.Kill(p.pid, signal)
	}
}

func waitGone(ctx context.Context, timeout time.Duration, list []process) error {
	return poll(ctx, timeout, 20*time.Millisecond, func() (bool, error) {
		for _, p := range list {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
			if err != nil {
				continue
			}
			if _, alive := sessionOf(string(stat)); alive {
				return false, fmt.Errorf("process %d (%s) does not end", p.pid, p.name())
			}
		}
		return true, nil
	})
}

// poll calls check every period until it says done. It fails with check's last error when the timeout is over.
func poll(ctx context.Context, timeout, period time.Duration, check func() (done bool, err error)) error {
	deadline := time.Now().Add(timeout)
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		done, err := check()
		if done {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("gave up after %v: %w", timeout, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
