package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// process returns the pid, on this machine, of the program in a pod. It finds it by the pod's UID in its cgroup, so it
// needs nodes that are processes of this machine, as those of the local cluster and of kind on Linux are.
func process(t *testing.T, pod *corev1.Pod, program string) int {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		comm, err := os.ReadFile(filepath.Join(dir, "comm"))
		if err != nil || strings.TrimSpace(string(comm)) != program {
			continue
		}
		groups, err := os.ReadFile(filepath.Join(dir, "cgroup"))
		uid := string(pod.UID)
		if err != nil || !strings.Contains(string(groups), uid) && !strings.Contains(string(groups), strings.ReplaceAll(uid, "-", "_")) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			t.Fatal(err)
		}
		return pid
	}
	t.Fatalf("no process %s of pod %s runs on this machine", program, pod.Name)
	return 0
}

func signal(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatalf("send %v to %d: %v", sig, pid, err)
	}
}

// crash is a platform with a receiver of hooks, alice on one gateway and bob on another.
type crash struct {
	*platform
	alice *socket
	// victim is the gateway of alice, other that of bob.
	victim, other *corev1.Pod
}

func newCrash(t *testing.T, name string) *crash {
	t.Helper()
	p := startHooked(t, newIMCluster(namespace(t), name))
	gateways := p.pods("gateway")
	if len(gateways) != 2 {
		t.Fatalf("%d gateway pods run, want 2", len(gateways))
	}
	alice := login(t, forward(t, gateways[0], 8080), "alice")
	alice.hold()
	login(t, forward(t, gateways[1], 8080), "bob").hold()
	// Carol, who never was there, is known to be nobody only once everybody could have been found.
	p.waitState(settled, map[string]string{"alice": "online", "bob": "online"})
	eventually(t, settled, func() error {
		answers, err := p.ask(t.Context(), "carol")
		if err == nil && answers["carol"].Reason != "never_seen" {
			err = fmt.Errorf("carol is %+v, want never_seen", answers["carol"])
		}
		return err
	})
	return &crash{p, alice, gateways[0], gateways[1]}
}

// is says how alice and bob are.
func is(alice, bob string) map[string]string { return map[string]string{"alice": alice, "bob": bob} }

// bound is how long after a crash its users may still be shown online: max(2 s, grace) + 0.5 s, and what this test
// needs to look.
const bound = 10500*time.Millisecond + 2*time.Second

func TestGatewayKilledTakesOnlyItsUsersOffline(t *testing.T) {
	c := newCrash(t, "killed")
	tl := c.watch("alice", "bob")
	tl.mark("kill -9 of the gateway of alice")
	signal(t, process(t, c.victim, "gateway"), syscall.SIGKILL)
	tl.until(bound, is("offline", "online"), observers...)
	tl.converge(c.other, is("offline", "online"))
	tl.never("offline", "bob")
	tl.never("unknown", "alice", "bob")
}

func TestGatewayPodForceDeletedTakesOnlyItsUsersOffline(t *testing.T) {
	c := newCrash(t, "deleted")
	tl := c.watch("alice", "bob")
	tl.mark("kubectl delete pod --force --grace-period=0")
	if err := cluster.Delete(t.Context(), c.victim, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	tl.until(bound, is("offline", "online"), observers...)
	tl.converge(c.other, is("offline", "online"))
	tl.never("offline", "bob")
	tl.never("unknown", "alice", "bob")
}

// TestGatewayPodDeletedMovesItsUsers is the polite end: alice is asked to reconnect, does so, and nobody sees her go.
func TestGatewayPodDeletedMovesItsUsers(t *testing.T) {
	p := startHooked(t, newIMCluster(namespace(t), "moved"))
	gateways := p.pods("gateway")
	alice := login(t, forward(t, gateways[0], 8080), "alice")
	tl := p.watch("alice")
	tl.mark("kubectl delete pod, the gateway of alice")
	if err := cluster.Delete(t.Context(), gateways[0]); err != nil {
		t.Fatal(err)
	}
	asked, err := alice.next(30 * time.Second)
	if err != nil || asked["type"] != "31" {
		t.Fatalf("alice got %v (%v), want RECONNECT", asked, err)
	}
	tl.mark("alice is asked to reconnect after %v ms, and does", asked["delayMs"])
	delay, _ := asked["delayMs"].(float64)
	wait(t, time.Duration(delay)*time.Millisecond)
	alice.conn.Close()
	login(t, forward(t, gateways[1], 8080), "alice").hold()
	eventually(t, time.Minute, func() error {
		if pods := p.pods("gateway"); len(pods) != 2 || uids(pods)[gateways[0].UID] {
			return fmt.Errorf("%d gateway pods run, want the other one and a new one", len(pods))
		}
		return nil
	})
	p.waitReady()
	tl.converge(gateways[1], map[string]string{"alice": "online"})
	tl.never("offline", "alice")
	tl.never("unknown", "alice")
}

func TestGatewayPausedIsTakenOverAndComesBack(t *testing.T) {
	c := newCrash(t, "paused")
	pid := process(t, c.victim, "gateway")
	tl := c.watch("alice", "bob")
	tl.mark("SIGSTOP of the gateway of alice for 60 s")
	stopped := time.Now()
	signal(t, pid, syscall.SIGSTOP)
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	tl.until(40*time.Second, is("offline", "online"), observers...)
	tl.mark("alice logs in on the other gateway")
	login(t, forward(t, c.other, 8080), "alice").hold()
	tl.until(5*time.Second, is("online", "online"), observers...)
	wait(t, time.Minute-time.Since(stopped))
	tl.mark("SIGCONT")
	resumed := tl.length()
	signal(t, pid, syscall.SIGCONT)
	eventually(t, 30*time.Second, func() error {
		answers, err := c.ask(t.Context(), "alice")
		if err != nil {
			return err
		}
		if d := answers["alice"].Devices; len(d) != 1 || d[0].Gateway != c.other.Name {
			return fmt.Errorf("devices of alice are %+v, want one on %s", d, c.other.Name)
		}
		return nil
	})
	wait(t, 5*time.Second) // it comes back under a new epoch, and must not take anything from anybody
	tl.converge(c.other, is("online", "online"))
	tl.never("offline", "bob")
	tl.never("unknown", "alice", "bob")
	tl.neverAfter(resumed, observers, "offline", "alice")
}

func TestRedisStoppedFor30SecondsTakesNobodyOffline(t *testing.T) {
	c := newCrash(t, "redisstop")
	pid := process(t, c.pods("redis")[0], "redis-server")
	tl := c.watch("alice", "bob")
	tl.mark("SIGSTOP of Redis for 30 s")
	signal(t, pid, syscall.SIGSTOP)
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	tl.until(10*time.Second, is("unknown", "unknown"), byQuery)
	wait(t, 30*time.Second)
	tl.mark("SIGCONT")
	signal(t, pid, syscall.SIGCONT)
	tl.until(10*time.Second, is("online", "online"), observers...)
	tl.converge(c.other, is("online", "online"))
	tl.never("offline", "alice", "bob")
	tl.neverAfter(0, []string{byWatch, byHook}, "unknown", "alice", "bob")
}

func TestRedisPodDeletedTakesNobodyOffline(t *testing.T) {
	c := newCrash(t, "redisgone")
	tl := c.watch("alice", "bob")
	tl.mark("kubectl delete pod of Redis, which keeps its data in memory only")
	if err := cluster.Delete(t.Context(), c.pods("redis")[0]); err != nil {
		t.Fatal(err)
	}
	tl.until(10*time.Second, is("unknown", "unknown"), byQuery)
	tl.until(time.Minute, is("online", "online"), observers...)
	tl.converge(c.other, is("online", "online"))
	tl.never("offline", "alice", "bob")
	tl.neverAfter(0, []string{byWatch, byHook}, "unknown", "alice", "bob")
}

func TestRedisFlushedTakesNobodyOffline(t *testing.T) {
	c := newCrash(t, "flushed")
	secret := &corev1.Secret{}
	if err := cluster.Get(t.Context(), client.ObjectKey{Namespace: c.key.Namespace, Name: c.key.Name + "-redis-auth"}, secret); err != nil {
		t.Fatal(err)
	}
	tl := c.watch("alice", "bob")
	tl.mark("FLUSHALL")
	if _, err := kubectl(t.Context(), "-n", c.key.Namespace, "exec", c.pods("redis")[0].Name, "--",
		"redis-cli", "-a", string(secret.Data["current"]), "FLUSHALL"); err != nil {
		t.Fatal(err)
	}
	tl.until(10*time.Second, is("online", "online"), observers...)
	wait(t, 5*time.Second)
	tl.until(time.Second, is("online", "online"), observers...)
	tl.converge(c.other, is("online", "online"))
	tl.never("offline", "alice", "bob")
	tl.neverAfter(0, []string{byWatch, byHook}, "unknown", "alice", "bob")
}

// TestPresencePodKilledIsNotNoticed kills the pod that the query and the watch are connected to, and that tells the receiver of
// half of the users.
func TestPresencePodKilledIsNotNoticed(t *testing.T) {
	c := newCrash(t, "presencekilled")
	tl := c.watch("alice", "bob")
	pod := tl.watches.behind(t)
	if query := tl.queries.behind(t); query.UID != pod.UID {
		t.Fatalf("the query asks %s, the watch %s", query.Name, pod.Name)
	}
	tl.mark("kill -9 of the presence pod that answers")
	signal(t, process(t, pod, "presence"), syscall.SIGKILL)
	tl.mark("alice closes her connection")
	c.alice.conn.Close()
	tl.until(bound, is("offline", "online"), observers...)
	tl.converge(c.other, is("offline", "online"))
	tl.never("offline", "bob")
	tl.never("unknown", "alice", "bob")
}

// wait lets a fault last.
func wait(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}
