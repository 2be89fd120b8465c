package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// timeline records what a reader of presence sees of some users, ten times a second.
type timeline struct {
	p     *platform
	users []string
	start time.Time
	stop  context.CancelFunc
	done  chan struct{}
	looks atomic.Int64

	mu   sync.Mutex
	seen []moment
}

// moment is a change of what the reader sees.
type moment struct {
	at     time.Duration
	states string
}

// watch starts a timeline; its changes are logged when the test ends.
func (p *platform) watch(users ...string) *timeline {
	ctx, stop := context.WithCancel(p.t.Context())
	tl := &timeline{p: p, users: users, start: time.Now(), stop: stop, done: make(chan struct{})}
	go tl.run(ctx)
	return tl
}

func (tl *timeline) run(ctx context.Context) {
	defer close(tl.done)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		var states []string
		answers, err := tl.p.ask(ctx, tl.users...)
		for _, user := range tl.users {
			state := answers[user].State
			if err != nil {
				state = "no answer"
			}
			states = append(states, user+"="+state)
		}
		if ctx.Err() != nil {
			return
		}
		tl.add(strings.Join(states, " "))
		tl.looks.Add(1)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (tl *timeline) add(states string) {
	tl.mu.Lock()
	defer tl.mu.Unlock()
	if n := len(tl.seen); n == 0 || tl.seen[n-1].states != states {
		tl.seen = append(tl.seen, moment{at: time.Since(tl.start), states: states})
	}
}

// mark notes an event of the test in the timeline.
func (tl *timeline) mark(what string) { tl.add("-- " + what + " --") }

// end takes a last look, stops the timeline, logs it, and returns it.
func (tl *timeline) end() []moment {
	if tl.stop != nil {
		looks := tl.looks.Load()
		eventually(tl.p.t, time.Minute, func() error {
			if tl.looks.Load() < looks+2 {
				return errors.New("the reader does not look any more")
			}
			return nil
		})
		tl.stop()
		<-tl.done
		tl.stop = nil
		for _, m := range tl.seen {
			tl.p.t.Logf("%7.1fs  %s", m.at.Seconds(), m.states)
		}
	}
	return tl.seen
}

// never fails the test if the reader ever saw one of the users in the state.
func (tl *timeline) never(state string, users ...string) {
	tl.p.t.Helper()
	for _, m := range tl.end() {
		for _, user := range users {
			if strings.Contains(m.states+" ", user+"="+state+" ") {
				tl.p.t.Errorf("at %.1f s a reader saw %s", m.at.Seconds(), m.states)
			}
		}
	}
}

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

// crash is a platform with alice on one gateway and bob on another.
func crash(t *testing.T, name string) (p *platform, alice, bob *corev1.Pod) {
	t.Helper()
	p = start(t, newIMCluster(namespace(t), name))
	gateways := p.pods("gateway")
	if len(gateways) != 2 {
		t.Fatalf("%d gateway pods run, want 2", len(gateways))
	}
	login(t, forward(t, gateways[0], 8080), "alice").hold()
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
	return p, gateways[0], gateways[1]
}

// bound is how long after a crash its users may still be shown online: max(2 s, grace) + 0.5 s, and what this test
// needs to look.
const bound = 10500*time.Millisecond + 2*time.Second

func TestGatewayKilledTakesOnlyItsUsersOffline(t *testing.T) {
	p, victim, _ := crash(t, "killed")
	tl := p.watch("alice", "bob")
	tl.mark("kill -9 of the gateway of alice")
	signal(t, process(t, victim, "gateway"), syscall.SIGKILL)
	p.waitState(bound, map[string]string{"alice": "offline", "bob": "online"})
	tl.never("offline", "bob")
}

func TestGatewayPodForceDeletedTakesOnlyItsUsersOffline(t *testing.T) {
	p, victim, _ := crash(t, "deleted")
	tl := p.watch("alice", "bob")
	tl.mark("kubectl delete pod --force --grace-period=0")
	if err := cluster.Delete(t.Context(), victim, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	p.waitState(bound, map[string]string{"alice": "offline", "bob": "online"})
	tl.never("offline", "bob")
}

// TestGatewayPodDeletedMovesItsUsers is the polite end: alice is asked to reconnect, does so, and no reader sees her go.
func TestGatewayPodDeletedMovesItsUsers(t *testing.T) {
	p := start(t, newIMCluster(namespace(t), "moved"))
	gateways := p.pods("gateway")
	alice := login(t, forward(t, gateways[0], 8080), "alice")
	p.waitState(settled, map[string]string{"alice": "online"})
	tl := p.watch("alice")
	tl.mark("kubectl delete pod, the gateway of alice")
	if err := cluster.Delete(t.Context(), gateways[0]); err != nil {
		t.Fatal(err)
	}
	asked, err := alice.next(30 * time.Second)
	if err != nil || asked["type"] != "31" {
		t.Fatalf("alice got %v (%v), want RECONNECT", asked, err)
	}
	tl.mark(fmt.Sprintf("alice is asked to reconnect after %v ms, and does", asked["delayMs"]))
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
	tl.never("offline", "alice")
	tl.never("unknown", "alice")
}

func TestGatewayPausedIsTakenOverAndComesBack(t *testing.T) {
	p, victim, other := crash(t, "paused")
	pid := process(t, victim, "gateway")
	tl := p.watch("alice", "bob")
	tl.mark("SIGSTOP of the gateway of alice")
	signal(t, pid, syscall.SIGSTOP)
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	p.waitState(40*time.Second, map[string]string{"alice": "offline", "bob": "online"})
	tl.mark("alice logs in on the other gateway")
	login(t, forward(t, other, 8080), "alice").hold()
	p.waitState(5*time.Second, map[string]string{"alice": "online"})
	tl.mark("SIGCONT")
	signal(t, pid, syscall.SIGCONT)
	eventually(t, 30*time.Second, func() error {
		answers, err := p.ask(t.Context(), "alice")
		if err != nil {
			return err
		}
		if d := answers["alice"].Devices; len(d) != 1 || d[0].Gateway != other.Name {
			return fmt.Errorf("devices of alice are %+v, want one on %s", d, other.Name)
		}
		return nil
	})
	tl.never("offline", "bob")
}

func TestRedisStoppedFor30SecondsTakesNobodyOffline(t *testing.T) {
	p, _, _ := crash(t, "redisstop")
	pid := process(t, p.pods("redis")[0], "redis-server")
	tl := p.watch("alice", "bob")
	tl.mark("SIGSTOP of Redis for 30 s")
	signal(t, pid, syscall.SIGSTOP)
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	p.waitState(10*time.Second, map[string]string{"alice": "unknown", "bob": "unknown"})
	wait(t, 30*time.Second)
	tl.mark("SIGCONT")
	signal(t, pid, syscall.SIGCONT)
	p.waitState(10*time.Second, map[string]string{"alice": "online", "bob": "online"})
	tl.never("offline", "alice", "bob")
}

func TestRedisPodDeletedTakesNobodyOffline(t *testing.T) {
	p, _, _ := crash(t, "redisgone")
	tl := p.watch("alice", "bob")
	tl.mark("kubectl delete pod of Redis, which keeps its data in memory only")
	if err := cluster.Delete(t.Context(), p.pods("redis")[0]); err != nil {
		t.Fatal(err)
	}
	p.waitState(10*time.Second, map[string]string{"alice": "unknown", "bob": "unknown"})
	p.waitState(time.Minute, map[string]string{"alice": "online", "bob": "online"})
	tl.never("offline", "alice", "bob")
}

func TestRedisFlushedTakesNobodyOffline(t *testing.T) {
	p, _, _ := crash(t, "flushed")
	secret := &corev1.Secret{}
	if err := cluster.Get(t.Context(), client.ObjectKey{Namespace: p.key.Namespace, Name: p.key.Name + "-redis-auth"}, secret); err != nil {
		t.Fatal(err)
	}
	tl := p.watch("alice", "bob")
	tl.mark("FLUSHALL")
	if _, err := kubectl(t.Context(), "-n", p.key.Namespace, "exec", p.pods("redis")[0].Name, "--",
		"redis-cli", "-a", string(secret.Data["current"]), "FLUSHALL"); err != nil {
		t.Fatal(err)
	}
	p.waitState(10*time.Second, map[string]string{"alice": "online", "bob": "online"})
	wait(t, 5*time.Second)
	p.waitState(time.Second, map[string]string{"alice": "online", "bob": "online"})
	tl.never("offline", "alice", "bob")
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
