package local

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// HolderCommand is the hidden command that [Hold] is run by.
const HolderCommand = "hold-namespaces"

// hidden are directories that containerd, the kubelet and CNI use whatever their configuration says. In the cluster's
// mount namespace each is empty, so that clusters do not meet there and leave nothing behind.
var hidden = []string{"/var/lib/kubelet", "/var/lib/cni", "/var/log/containers", "/run/containerd"}

// readyFile is where the holder writes its process id once the namespaces are set up.
func readyFile(run string) string { return filepath.Join(run, "holder.pid") }

// Hold is the life of the process that keeps a cluster's network and mount namespace: set them up, write the ready
// file, wait to be told to end. It must have been started with namespaces of its own.
func Hold(run string) error {
	// What the cluster mounts is seen by its pods, and not by the host.
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share mounts within the namespace: %w", err)
	}
	for _, dir := range hidden {
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"); err != nil {
			return fmt.Errorf("hide %s: %w", dir, err)
		}
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		return fmt.Errorf("forward between pods: %w", err)
	}
	if output, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("set the loopback interface up: %w: %s", err, output)
	}
	if err := os.WriteFile(readyFile(run), []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
	return nil
}

// ensureHolder makes the namespaces, or finds them, and returns the process that holds them. Processes without a whole
// pair of namespaces to live in are of no use, so they are ended first.
func (c *Cluster) ensureHolder(ctx context.Context) error {
	p, ok, err := daemon(c.name, HolderCommand)
	if err != nil {
		return err
	}
	if ok && c.holderReady(p.pid) {
		c.holder = p.pid
		return nil
	}
	if err := c.killAll(ctx); err != nil {
		return err
	}
	if err := prepareHost(c.shared); err != nil {
		return err
	}
	attr := &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	link := filepath.Join(c.run, HolderCommand)
	if err := relinkSelf(link); err != nil {
		return err
	}
	if err := start(c.name, c.logFile("holder"), "", attr, link, HolderCommand, c.run); err != nil {
		return err
	}
	return poll(ctx, 10*time.Second, 10*time.Millisecond, func() (bool, error) {
		p, ok, err := daemon(c.name, HolderCommand)
		if err != nil || !ok || !c.holderReady(p.pid) {
			return false, fmt.Errorf("namespaces are not set up (see %s): %w", c.logFile("holder"), err)
		}
		c.holder = p.pid
		return true, nil
	})
}

func (c *Cluster) holderReady(pid int) bool {
	body, err := os.ReadFile(readyFile(c.run))
	return err == nil && string(body) == strconv.Itoa(pid)
}

// inside is the beginning of a command line that runs in the cluster's namespaces. It is nsenter and not "ip netns
// exec", which mounts another /sys, where the kubelet finds no cgroups.
func (c *Cluster) inside(args ...string) []string {
	namespaces := fmt.Sprintf("/proc/%d/ns/", c.holder)
	return append([]string{"nsenter", "--net=" + namespaces + "net", "--mount=" + namespaces + "mnt", "--"}, args...)
}

// relinkSelf gives this program another name to be called by, so that the process is found by it.
func relinkSelf(link string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.Remove(link); err != nil && !os.IsNotExist(err) {
		return err
	}
	return os.Symlink(self, link)
}
