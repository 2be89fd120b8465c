package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// tool is the command under test, for one cluster.
type tool struct {
	t       *testing.T
	binary  string
	cluster string
}

// newTool builds the command and sees to it that the cluster does not exist, before the test and after.
func newTool(t *testing.T, cluster string) tool {
	t.Helper()
	if os.Geteuid() != 0 {
		message := "local clusters need root: run the tests as root"
		if slices.Contains(strings.Split(os.Getenv("IMC_REQUIRE"), ","), "cluster") {
			t.Fatal(message + ", or without cluster in IMC_REQUIRE to skip them")
		}
		t.Skip(message)
	}
	c := tool{t: t, binary: buildOnce(t), cluster: cluster}
	c.down()
	t.Cleanup(c.down)
	return c
}

func buildOnce(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "cluster")
	if output, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, output)
	}
	return binary
}

// command is the tool with arguments, for the cluster. Output of background processes would keep a pipe open, but those
// of clusters write to their logs.
func (c tool) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.binary, append([]string{"--name", c.cluster}, args...)...)
	cmd.Env = append(os.Environ(), "CLUSTER=local")
	return cmd
}

// try runs the tool and returns what it prints on both streams.
func (c tool) try(args ...string) (string, error) {
	c.t.Helper()
	output, err := c.command(c.t.Context(), args...).CombinedOutput()
	return string(output), err
}

// must is try for what has to succeed.
func (c tool) must(args ...string) string {
	c.t.Helper()
	output, err := c.try(args...)
	if err != nil {
		c.t.Fatalf("cluster %q: %v\n%s", args, err, output)
	}
	return output
}

// output is must for standard output alone.
func (c tool) output(args ...string) string {
	c.t.Helper()
	var stderr bytes.Buffer
	cmd := c.command(c.t.Context(), args...)
	cmd.Stderr = &stderr
	output, err := cmd.Output()
	if err != nil {
		c.t.Fatalf("cluster %q: %v\n%s", args, err, stderr.String())
	}
	return strings.TrimSpace(string(output))
}

func (c tool) kubectl(args ...string) string {
	c.t.Helper()
	return c.output(append([]string{"kubectl", "--"}, args...)...)
}

func (c tool) apply(manifest string) {
	c.t.Helper()
	cmd := c.command(c.t.Context(), "kubectl", "--", "apply", "-f", "-")
	cmd.Stdin = strings.NewReader(manifest)
	if output, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("kubectl apply: %v\n%s", err, output)
	}
}

// down is for Cleanup too, when the test's context has ended.
func (c tool) down() {
	c.t.Helper()
	if output, err := c.command(context.Background(), "down").CombinedOutput(); err != nil {
		c.t.Errorf("cluster down: %v\n%s", err, output)
	}
}

// eventually polls until check is content, as a Service is only some time after its pods are.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		case <-tick.C:
		}
	}
}

// ping asks the Redis behind a port of this machine for a PONG.
func ping(port string) error {
	conn, err := net.DialTimeout("tcp", "127.0.0.1:"+port, time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	answer := make([]byte, 7)
	if n, err := conn.Read(answer); err != nil || string(answer[:n]) != "+PONG\r\n" {
		return fmt.Errorf("answer %q, %w", answer[:n], err)
	}
	return nil
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// checkGone fails for everything on the machine that bears the cluster's name.
func (c tool) checkGone() {
	c.t.Helper()
	var left []string
	for _, pattern := range []string{
		"/sys/fs/cgroup/" + c.cluster, "/sys/fs/cgroup/*/" + c.cluster, "/sys/class/net/" + c.cluster,
		"/run/imcluster/" + c.cluster, "/run/netns/*" + c.cluster + "*",
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			c.t.Fatal(err)
		}
		left = append(left, found...)
	}
	if state, err := os.UserCacheDir(); err == nil {
		left = append(left, grepFile("/proc/mounts", c.cluster+"/")...)
		if cache := os.Getenv("IMCLUSTER_CACHE"); cache != "" {
			state = cache
		} else {
			state = filepath.Join(state, "imcluster")
		}
		if _, err := os.Stat(filepath.Join(state, "clusters", c.cluster)); err == nil {
			left = append(left, filepath.Join(state, "clusters", c.cluster))
		}
	}
	left = append(left, grepFile("/proc/net/route", c.cluster+"\t")...)
	left = append(left, c.processes()...)
	if len(left) > 0 {
		c.t.Errorf("cluster %s left behind: %q", c.cluster, left)
	}
}

// processes finds the cluster's processes by their arguments, which unlike their environment name its directories.
func (c tool) processes() []string {
	var found []string
	paths, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range paths {
		body, _ := os.ReadFile(path)
		line := string(bytes.ReplaceAll(body, []byte{0}, []byte(" ")))
		if strings.Contains(line, "/"+c.cluster+"/") || strings.Contains(line, "/imcluster/"+c.cluster) {
			found = append(found, filepath.Dir(path)+" "+line)
		}
	}
	return found
}

func grepFile(path, text string) []string {
	body, _ := os.ReadFile(path)
	var found []string
	for line := range strings.Lines(string(body)) {
		if strings.Contains(line, text) {
			found = append(found, path+": "+strings.TrimSpace(line))
		}
	}
	return found
}
