package client_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/imcluster/imcluster/client"
	"github.com/imcluster/imcluster/internal/chaos/proc"
	"github.com/imcluster/imcluster/internal/testredis"
)

// process is a gateway in a process of its own, which is killed and started again on the same address.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	path string
	args []string
}

func startProcess(t *testing.T, redis *testredis.Server, path, keys, pod, listen string) *process {
	t.Helper()
	p := &process{t: t, path: path, args: []string{
		"--redis-addresses", redis.Addr, "--cluster-uid", "cluster", "--auth-mode", "insecure", "--peer-key-dir", keys,
		"--listen", listen, "--peer-listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--pod-name", pod, "--pod-uid", "uid-" + pod,
		"--lease-ttl", "3s", "--max-frames-per-second=-1", "--max-bytes-per-second=-1",
	}}
	p.start()
	t.Cleanup(p.kill)
	return p
}

// start returns when the gateway has joined.
func (p *process) start() {
	p.t.Helper()
	p.cmd = exec.CommandContext(context.Background(), p.path, p.args...)
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	joined := make(chan bool, 1)
	go func() { // reads until the end of the process
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			var entry struct{ Msg string }
			if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Msg == "joined the cluster" {
				joined <- true
			}
		}
		joined <- false
	}()
	if !<-joined {
		p.t.Fatal("the gateway ended before it joined")
	}
}

// kill is kill -9.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// TestKilledGatewaysLoseNothingThatWasAcknowledged: 100 users chat in pairs over two gateway processes that are killed,
// one after the other. Every message that was acknowledged to its sender is handled once, in the order in which it was
// sent, and nothing else is.
func TestKilledGatewaysLoseNothingThatWasAcknowledged(t *testing.T) {
	redis := testredis.Start(t)
	dir, keys := t.TempDir(), t.TempDir()
	path, err := proc.Build(dir, "gateway", false)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(keys, "current"), []byte("peer key"), 0o600); err != nil {
		t.Fatal(err)
	}
	a, b := freeAddress(t), freeAddress(t)
	gateways := []*process{startProcess(t, redis, path, keys, "a", a), startProcess(t, redis, path, keys, "b", b)}

	const users, kills = 100, 4
	people := make([]*person, users)
	for i := range people {
		urls := []string{urlOf(a), urlOf(b)}
		if i%2 == 1 {
			urls = []string{urlOf(b), urlOf(a)}
		}
		people[i] = connect(t, fmt.Sprint("user", i), quick(client.Config{URLs: urls, Protobuf: i%4 < 2}))
	}
	stop := make(chan struct{})
	sent := make([]int, users) // acknowledged, of each sender to its neighbour
	var chatting sync.WaitGroup
	for i, who := range people {
		chatting.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				case <-time.After(10 * time.Millisecond):
				}
				to := fmt.Sprint("user", i^1)
				if r, err := who.SendText(t.Context(), to, fmt.Sprint(n)); err != nil || !r.Stored() {
					t.Errorf("%s, message %d: %+v, %v", who.UserID(), n, r, err)
					return
				}
				sent[i] = n + 1
			}
		})
	}
	for k := range kills {
		<-time.After(500 * time.Millisecond)
		victim := gateways[k%2]
		victim.kill()
		<-time.After(500 * time.Millisecond)
		victim.start()
	}
	<-time.After(500 * time.Millisecond)
	close(stop)
	chatting.Wait()

	total, lost := 0, 0
	for i, who := range people {
		n := sent[i^1]
		who.expectTexts(t, numbers(n))
		total += n
		who.mu.Lock()
		for _, s := range who.states {
			if s == "offline" {
				lost++
			}
		}
		who.mu.Unlock()
	}
	t.Logf("%d messages were acknowledged and handled once; %d connections were lost", total, lost)
	if lost < users {
		t.Errorf("%d connections were lost only: nothing was tried", lost)
	}
}
