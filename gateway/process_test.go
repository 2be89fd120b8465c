package gateway_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/imcluster/imcluster/internal/testredis"
	"github.com/imcluster/imcluster/presence/store"
)

var binaryDir string // set by binary

// binary builds cmd/gateway once.
var binary = sync.OnceValues(func() (_ string, err error) {
	if binaryDir, err = os.MkdirTemp("", "imcluster-gateway"); err != nil {
		return "", err
	}
	path := filepath.Join(binaryDir, "gateway")
	cmd := exec.Command("go", "build", "-o", path, "github.com/imcluster/imcluster/cmd/gateway")
	cmd.Stderr = os.Stderr
	return path, cmd.Run()
})

// removeBinary removes what was built.
func removeBinary() {
	if binaryDir != "" {
		_ = os.RemoveAll(binaryDir)
	}
}

// process is a gateway in a process of its own.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	addr string
	ops  string      // for probes and metrics
	logs chan string // closed at the end of the process
}

func startProcess(t *testing.T, redis *testredis.Server, pod string, args ...string) *process {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	keys := t.TempDir()
	if err := os.WriteFile(filepath.Join(keys, "current"), []byte("peer key"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, append([]string{
		"--redis-addresses", redis.Addr, "--cluster-uid", "cluster", "--auth-mode", "insecure", "--peer-key-dir", keys,
		"--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--pod-name", pod, "--pod-uid", "uid-" + pod,
		"--lease-ttl", leaseTTL.String(), "--grace", grace.String(), "--shutdown-delay", "100ms", "--drain-window", "5s",
	}, args...)...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: cmd, logs: make(chan string, 1000)}
	go func() {
		defer close(p.logs)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			select {
			case p.logs <- lines.Text():
			default:
			}
		}
	}()
	t.Cleanup(func() { p.signal(syscall.SIGCONT); p.kill() })
	for line := range p.logs {
		var entry struct{ Msg, Listen, Ops string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("the gateway logged %q", line)
		}
		if entry.Msg == "joined the cluster" {
			p.addr, p.ops = entry.Listen, entry.Ops
			return p
		}
	}
	t.Fatal("the gateway ended before it joined")
	return nil
}

// logEntry is what tests look for in a line of the log.
type logEntry struct {
	Msg, Because string
	Moving, Most int
}

// logged waits for a line whose message begins with one of the texts.
func (p *process) logged(t *testing.T, texts ...string) (entry logEntry) {
	t.Helper()
	for line := range p.logs {
		entry = logEntry{}
		if json.Unmarshal([]byte(line), &entry) != nil {
			continue
		}
		for _, text := range texts {
			if strings.HasPrefix(entry.Msg, text) {
				return entry
			}
		}
	}
	t.Fatalf("the gateway ended without saying %q", texts)
	return entry
}

// ready returns the status of the readiness probe.
func (p *process) ready(t *testing.T) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.ops+"/readyz", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// kill ends the process with SIGKILL and waits for it.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	for range p.logs { // until its end
	}
	_ = p.cmd.Wait()
}

// TestKilledGatewayTakesItsUsersOffline: with nobody's help after its lease, and at once when the pod starts again.
func TestKilledGatewayTakesItsUsersOffline(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(map[bool]string{false: "lease runs out", true: "container restarts"}[restart], func(t *testing.T) {
			redis := testredis.Start(t)
			s := readers(t, redis)
			args := []string{"--lease-ttl", "3s"}
			a, b := startProcess(t, redis, "a", args...), startProcess(t, redis, "b", args...)
			victim, other := login(t, a.addr, "victim", "d"), login(t, b.addr, "other", "d")
			a.kill()
			killed := time.Now()
			if _, err := victim.read(); err == nil {
				t.Error("the connection survived")
			}
			if restart {
				startProcess(t, redis, "a", args...)
			}
			eventually(t, "the victim is offline", func() bool { return stateOf(t, s, "victim").State == store.Offline })
			took := time.Since(killed)
			t.Logf("offline after %v", took)
			if u := stateOf(t, s, "other"); u.State != store.Online {
				t.Errorf("a user of another gateway: %+v", u)
			}
			if code := other.chat("victim", 1); code != 200 {
				t.Errorf("a chat to the victim was answered with %v", code)
			}
			login(t, b.addr, "victim", "d")
			if u := stateOf(t, s, "victim"); u.State != store.Online {
				t.Errorf("after another login: %+v", u)
			}
		})
	}
}

// TestStoppedGatewayThatContinuesDisturbsNobody: its lease ended meanwhile and a client moved to another gateway. What it
// does late must not take that session away.
func TestStoppedGatewayThatContinuesDisturbsNobody(t *testing.T) {
	redis := testredis.Start(t)
	s := readers(t, redis)
	a, b := startProcess(t, redis, "a"), startProcess(t, redis, "b")
	old, stays := login(t, a.addr, "mover", "d"), login(t, a.addr, "stays", "d")
	sender := login(t, b.addr, "sender", "d")
	a.signal(syscall.SIGSTOP)
	eventually(t, "its users are offline", func() bool { return stateOf(t, s, "stays").State == store.Offline })
	moved := login(t, b.addr, "mover", "d")
	a.signal(syscall.SIGCONT)
	old.expect("32", 304)
	old.expectClose(4304)
	eventually(t, "who stayed is back", func() bool { return stateOf(t, s, "stays").State == store.Online })
	if u := stateOf(t, s, "mover"); u.State != store.Online || u.Devices[0].Gateway != "b" {
		t.Errorf("the one who moved: %+v", u)
	}
	if code := sender.chat("mover", 1); code != 200 {
		t.Errorf("answered with %v", code)
	}
	moved.expect("80", 0)
	// The gateway has another epoch now, and is reached under it.
	if code := sender.chat("stays", 2); code != 200 {
		t.Errorf("answered with %v", code)
	}
	stays.expect("80", 0)
}

func TestSIGTERMDrains(t *testing.T) {
	redis := testredis.Start(t)
	s := readers(t, redis)
	a, b := startProcess(t, redis, "a"), startProcess(t, redis, "b")
	c := login(t, a.addr, "alice", "d")
	a.signal(syscall.SIGTERM)
	c.expect("31", 502)
	login(t, b.addr, "alice", "d")
	c.expectClose(4502)
	for range a.logs { // until its end
	}
	if err := a.cmd.Wait(); err != nil {
		t.Errorf("the gateway ended with: %v", err)
	}
	if u := stateOf(t, s, "alice"); u.State != store.Online || u.Devices[0].Gateway != "b" {
		t.Errorf("after the drain: %+v", u)
	}
}

// TestNewProcessIsNotReadyWhileADrainHasManyToMove is a rollout of three gateways: the last one may only begin to drain when
// the clients of the one before have nearly all moved.
func TestNewProcessIsNotReadyWhileADrainHasManyToMove(t *testing.T) {
	redis := testredis.Start(t)
	s := readers(t, redis)
	args := []string{"--drain-window", "60s", "--drain-max-reconnects-per-second", "2"} // so that 10 may be on the move
	a, b := startProcess(t, redis, "a", args...), startProcess(t, redis, "b", args...)
	const clients = 14
	for i := range clients {
		login(t, a.addr, fmt.Sprint("user", i), "d")
	}
	eventually(t, "the others are ready", func() bool { return a.ready(t) == 200 && b.ready(t) == 200 })
	a.signal(syscall.SIGTERM)
	eventually(t, "the drain is known", func() bool {
		return slices.ContainsFunc(s.Gateways(), func(p store.Peer) bool { return p.Draining })
	})
	c := startProcess(t, redis, "c", args...)
	if entry := c.logged(t, "not ready yet", "ready"); entry.Msg == "ready" || entry.Moving <= 10 || entry.Most != 10 {
		t.Fatalf("the new gateway says %+v", entry)
	}
	if c.ready(t) != 503 {
		t.Error("the new gateway is ready")
	}
	for i := range clients {
		login(t, b.addr, fmt.Sprint("user", i), "d") // moves, whether asked or not
	}
	if entry := c.logged(t, "ready"); entry.Because != "few clients are on the move" {
		t.Errorf("the new gateway says %+v", entry)
	}
	if c.ready(t) != 200 {
		t.Error("the new gateway is not ready")
	}
}

// TestBadConfigurationSaysWhatToFix: exit code 2, and the name of the flag.
func TestBadConfigurationSaysWhatToFix(t *testing.T) {
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	keys := t.TempDir()
	if err := os.WriteFile(filepath.Join(keys, "current"), []byte("k"), 0o600); err != nil {
		t.Fatal(err)
	}
	good := []string{"--redis-addresses=127.0.0.1:1", "--auth-mode=insecure", "--peer-key-dir=" + keys, "--listen=127.0.0.1:0", "--peer-listen=127.0.0.1:0", "--ops-listen="}
	for _, tc := range []struct{ name, flag, word string }{
		{"no auth mode", "-auth-mode", "--auth-mode"},
		{"no peer key", "-peer-key-dir", "--peer-key-dir"},
		{"peer key missing", "--peer-key-dir=/nowhere", "--peer-key-dir"},
		{"jwt without a key", "--auth-mode=jwt", "--jwt-secret-dir"},
		{"insecure with a key", "--jwt-secret-dir=" + keys, "--auth-mode"},
		{"unknown flag", "--nonsense", "nonsense"},
		{"frame too small", "--max-frame-bytes=10", "256"},
		{"no Redis", "-redis-addresses", "--redis-addresses"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var args []string
			for _, a := range good {
				name, _, _ := strings.Cut(a, "=")
				if flag, _, _ := strings.Cut(tc.flag, "="); name != flag && name != "-"+flag {
					args = append(args, a)
				}
			}
			if strings.HasPrefix(tc.flag, "--") {
				args = append(args, tc.flag)
			}
			out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
			exit, ok := err.(*exec.ExitError) //nolint:errorlint // as os/exec returns it
			if !ok || exit.ExitCode() != 2 || !strings.Contains(string(out), tc.word) {
				t.Errorf("ended with %v and said\n%s", err, out)
			}
		})
	}
}
