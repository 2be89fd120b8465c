package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestLocalCluster is one story, told in steps that each need those before.
func TestLocalCluster(t *testing.T) {
	c := newTool(t, "imc-selftest")
	c.must("up")

	step := func(name string, body func(c tool)) {
		t.Helper()
		if !t.Run(name, func(t *testing.T) { body(tool{t, c.binary, c.cluster}) }) {
			t.FailNow()
		}
	}
	step("the node is Ready", func(c tool) {
		c.kubectl("wait", "--for=condition=Ready", "nodes", "--all", "--timeout=1s")
		c.must("status")
	})
	step("a restricted pod with a volume becomes ready", func(c tool) {
		c.deployRedis()
		if phase := c.kubectl("-n", "selftest", "get", "pvc", "data", "-o", "jsonpath={.status.phase}"); phase != "Bound" {
			t.Errorf("the claim is %s, want Bound", phase)
		}
	})
	step("a plain pod is refused in a restricted namespace", func(c tool) {
		output, err := c.try("kubectl", "--", "-n", "selftest", "run", "plain", "--image=x")
		if err == nil || !strings.Contains(output, "violates PodSecurity") {
			c.t.Errorf("got %q, %v; want a refusal by PodSecurity", output, err)
		}
	})
	step("a pod finds a Service by name", func(c tool) {
		eventually(c.t, "redis-cli -h redis", func() error {
			for _, host := range []string{"redis", "redis.selftest.svc.cluster.local"} {
				if output, err := c.redis("-h", host, "ping"); err != nil || output != "PONG" {
					return fmt.Errorf("%s: %q, %w", host, output, err)
				}
			}
			return nil
		})
	})
	step("logs", func(c tool) {
		if logs := c.kubectl("-n", "selftest", "logs", "deployment/redis"); !strings.Contains(logs, "Ready to accept connections") {
			c.t.Errorf("logs are %q", logs)
		}
	})
	step("kubectl port-forward", tool.checkPortForward)
	step("forward", tool.checkForward)
	step("a volume outlives its pod, and its directory goes with its claim", tool.checkVolume)
	step("a memory limit kills", tool.checkMemoryLimit)
	step("a container can be stopped and go on", tool.checkSignals)
	step("restart leaves the pods alone", tool.checkRestart)
	step("up again changes nothing", func(c tool) {
		before := c.output("status")
		if output := c.must("up"); !strings.Contains(output, "was up already") {
			c.t.Errorf("up says %q", output)
		}
		if after := c.output("status"); firstTable(after) != firstTable(before) {
			c.t.Errorf("processes before\n%s\nand after\n%s", before, after)
		}
	})
	step("up starts what has died", func(c tool) {
		for line := range strings.Lines(c.output("status")) {
			if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "kubelet" {
				if err := exec.CommandContext(c.t.Context(), "kill", "-9", fields[1]).Run(); err != nil {
					c.t.Fatal(err)
				}
			}
		}
		eventually(c.t, "status of a cluster without kubelet", func() error {
			if _, err := c.try("status"); err == nil {
				return fmt.Errorf("it says all is well")
			}
			return nil
		})
		c.must("up")
		c.must("status")
	})
	step("down leaves nothing behind", func(c tool) {
		c.down()
		c.checkGone()
		if output := c.must("down"); !strings.Contains(output, "there is no cluster") {
			c.t.Errorf("down again says %q", output)
		}
	})
}

// firstTable is the part of a status with components and process ids; the rest has ages.
func firstTable(status string) string {
	table, _, _ := strings.Cut(status, "\n\n")
	return table
}

func (c tool) deployRedis() {
	c.t.Helper()
	manifest, err := os.ReadFile(filepath.Join("testdata", "redis.yaml"))
	if err != nil {
		c.t.Fatal(err)
	}
	var image string
	for line := range strings.Lines(c.output("env")) {
		if value, ok := strings.CutPrefix(line, "export IMC_LOCAL_REDIS_IMAGE="); ok {
			image = strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	c.apply(strings.ReplaceAll(string(manifest), "REDIS_IMAGE", image))
	c.kubectl("-n", "selftest", "rollout", "status", "deployment/redis", "--timeout=60s")
}

// redis runs redis-cli in the pod.
func (c tool) redis(args ...string) (string, error) {
	c.t.Helper()
	output, err := c.try(append([]string{"kubectl", "--", "-n", "selftest", "exec", "deployment/redis", "--", "redis-cli"}, args...)...)
	return strings.TrimSpace(output), err
}

func (c tool) mustRedis(want string, args ...string) {
	c.t.Helper()
	if got, err := c.redis(args...); err != nil || got != want {
		c.t.Fatalf("redis-cli %q: %q, %v; want %q", args, got, err, want)
	}
}

func (c tool) checkPortForward() {
	port := freePort(c.t)
	ctx, cancel := context.WithCancel(c.t.Context())
	defer cancel()
	forward := c.command(ctx, "kubectl", "--", "-n", "selftest", "port-forward", "service/redis", port+":6379")
	// Tell the tool, which tells kubectl; a killed tool could not.
	forward.Cancel = func() error { return forward.Process.Signal(os.Interrupt) }
	if err := forward.Start(); err != nil {
		c.t.Fatal(err)
	}
	eventually(c.t, "ping", func() error { return ping(port) })
	cancel()
	_ = forward.Wait() // ended by us
}

func (c tool) checkForward() {
	port := freePort(c.t)
	mapping := port + "=redis.selftest:6379"
	c.must("forward", mapping)
	eventually(c.t, "ping", func() error { return ping(port) })
	c.must("forward", mapping) // changes nothing
	if output, err := c.try("forward", strings.Replace(mapping, "redis.", "other.", 1)); err != nil {
		c.t.Errorf("another Service on the same port: %v\n%s", err, output)
	}
	if err := ping(port); err == nil {
		c.t.Error("the port still leads to the first Service")
	}
}

func (c tool) checkVolume() {
	c.mustRedis("OK", "set", "kept", "yes")
	c.kubectl("-n", "selftest", "delete", "pod", "-l", "app=redis")
	c.kubectl("-n", "selftest", "rollout", "status", "deployment/redis", "--timeout=60s")
	c.mustRedis("yes", "get", "kept")

	c.kubectl("-n", "selftest", "delete", "deployment/redis", "pvc/data")
	eventually(c.t, "delete the volume", func() error {
		if volumes := c.kubectl("get", "pv", "-o", "name"); volumes != "" {
			return fmt.Errorf("there is still %s", volumes)
		}
		return nil
	})
	c.deployRedis()
	c.mustRedis("", "get", "kept")
}

func (c tool) checkMemoryLimit() {
	if output, err := c.redis("setrange", "big", "100000000", "x"); err == nil {
		c.t.Errorf("100 MB went into 64 MiB: %q", output)
	}
	eventually(c.t, "restart of the container", func() error {
		reason := c.kubectl("-n", "selftest", "get", "pods", "-l", "app=redis",
			"-o", "jsonpath={.items[*].status.containerStatuses[*].lastState.terminated.reason}")
		if reason != "OOMKilled" {
			return fmt.Errorf("reason is %q, want OOMKilled", reason)
		}
		return nil
	})
	c.kubectl("-n", "selftest", "rollout", "status", "deployment/redis", "--timeout=60s")
}

func (c tool) checkSignals() {
	pod := c.kubectl("-n", "selftest", "get", "pods", "-l", "app=redis", "-o", "jsonpath={.items[*].metadata.name}")
	ready := func(want string) func() error {
		return func() error {
			got := c.kubectl("-n", "selftest", "get", "pod", pod, "-o", "jsonpath={.status.containerStatuses[*].ready}")
			if got != want {
				return fmt.Errorf("ready is %s, want %s", got, want)
			}
			return nil
		}
	}
	eventually(c.t, "the pod is ready", ready("true"))
	c.must("signal", "-n", "selftest", "STOP", pod, "redis")
	eventually(c.t, "a stopped pod is not ready", ready("false"))
	c.must("signal", "-n", "selftest", "CONT", pod, "redis")
	eventually(c.t, "the pod is ready again", ready("true"))
}

func (c tool) checkRestart() {
	identities := func() string {
		return c.kubectl("-n", "selftest", "get", "pods", "-o",
			"jsonpath={range .items[*]}{.metadata.uid} {.status.containerStatuses[*].containerID} {.status.containerStatuses[*].restartCount};{end}")
	}
	before := identities()
	c.must("restart")
	if after := identities(); after != before {
		c.t.Errorf("pods before %s and after %s", before, after)
	}
	c.mustRedis("PONG", "ping")
}

// TestKilledUp kills "up" at random moments, as a reboot or an impatient user does.
func TestKilledUp(t *testing.T) {
	c := newTool(t, "imc-selftest-k")
	const usual = 6 * time.Second // of an up with the tools at hand
	for range 6 {
		after := rand.N(usual)
		ctx, cancel := context.WithTimeout(t.Context(), after) // which kills
		output, err := c.command(ctx, "up").CombinedOutput()
		cancel()
		t.Logf("up was killed after %v (%v):\n%s", after, err, output)
		c.down()
		c.checkGone()
	}
	ctx, cancel := context.WithTimeout(t.Context(), usual/3)
	defer cancel()
	if err := c.command(ctx, "up").Run(); err == nil {
		t.Log("up was faster than its killer")
	}
	c.must("up")
	c.must("status")
}

func TestClustersSideBySide(t *testing.T) {
	a, b := newTool(t, "imc-selftest-a"), newTool(t, "imc-selftest-b")
	var both sync.WaitGroup
	for _, c := range []tool{a, b} {
		both.Go(func() {
			if output, err := c.try("up"); err != nil {
				t.Errorf("up %s: %v\n%s", c.cluster, err, output)
			}
		})
	}
	both.Wait()
	a.apply("{apiVersion: v1, kind: Namespace, metadata: {name: only-in-a}}")
	if output, err := b.try("kubectl", "--", "get", "namespace", "only-in-a"); err == nil {
		t.Errorf("the other cluster has it too: %s", output)
	}
	a.down()
	a.checkGone()
	b.must("status")
	b.kubectl("-n", "kube-system", "rollout", "restart", "deployment/coredns")
	b.kubectl("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=60s")
}
