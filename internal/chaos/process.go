package chaos

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Build compiles cmd/gateway into a directory and returns the path of the program. With race, it has the race detector,
// which makes it several times slower.
func Build(dir string, race bool) (string, error) {
	path := filepath.Join(dir, "gateway")
	args := []string{"build", "-o", path}
	if race {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "github.com/imcluster/imcluster/cmd/gateway")...)
	cmd.Stderr = os.Stderr
	return path, cmd.Run()
}

// process is one run of a gateway.
type process struct {
	// Fixed after start.
	label string // names the run in a history
	cmd   *exec.Cmd
	addr  string
	ended chan struct{} // closed when it was waited for

	mu   sync.Mutex
	logs []string // the latest; guarded by mu
	bug  string   // a line that must never be logged; guarded by mu
	err  error    // guarded by mu
}

// startTimeout bounds how long a gateway may take to join; it waits for Redis.
const startTimeout = 30 * time.Second

// start runs a gateway until it has joined.
func start(path, label string, args []string) (*process, error) {
	p := &process{label: label, cmd: exec.Command(path, args...), ended: make(chan struct{})}
	p.cmd.SysProcAttr = endWithParent()
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	joined := make(chan string, 1)
	go p.watch(bufio.NewScanner(stderr), joined)
	select {
	case p.addr = <-joined:
		return p, nil
	case <-p.ended:
		return nil, fmt.Errorf("gateway %s ended before it joined:\n%s", label, p.tail())
	case <-time.After(startTimeout):
		p.kill()
		return nil, fmt.Errorf("gateway %s did not join:\n%s", label, p.tail())
	}
}

func (p *process) watch(lines *bufio.Scanner, joined chan<- string) {
	defer close(p.ended)
	lines.Buffer(nil, 1<<20)
	told := false
	for lines.Scan() {
		var entry struct{ Msg, Listen string }
		if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Msg == "joined the cluster" && !told {
			told = true
			joined <- entry.Listen
		}
		p.mu.Lock()
		for _, word := range []string{"DATA RACE", "panic"} {
			if p.bug == "" && strings.Contains(lines.Text(), word) {
				p.bug = lines.Text()
			}
		}
		if p.logs = append(p.logs, lines.Text()); len(p.logs) > 200 {
			p.logs = p.logs[100:]
		}
		p.mu.Unlock()
	}
	err := p.cmd.Wait()
	p.mu.Lock()
	p.err = err
	p.mu.Unlock()
}

// tail returns the last lines of the log.
func (p *process) tail() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.logs, "\n")
}

// crashed returns what a process said that panicked, or ended by itself with anything but success.
func (p *process) crashed() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bug != "" {
		return fmt.Errorf("gateway %s: %s\n%s", p.label, p.bug, strings.Join(p.logs, "\n"))
	}
	select {
	case <-p.ended:
	default:
		return nil
	}
	var exit *exec.ExitError
	if !errors.As(p.err, &exit) {
		return p.err
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGKILL {
		return nil
	}
	return fmt.Errorf("gateway %s: %w\n%s", p.label, p.err, strings.Join(p.logs, "\n"))
}

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// kill ends the process with SIGKILL and waits for its end.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}
