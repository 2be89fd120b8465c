// Package proc runs the programs of this repository for tests: they are built from this tree, end with the test, and must not
// panic.
package proc

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Build compiles a program of cmd/ into a directory and returns its path. With race, it has the race detector, which makes it
// several times slower.
func Build(dir, name string, race bool) (string, error) {
	path := filepath.Join(dir, name)
	args := []string{"build", "-o", path}
	if race {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "github.com/imcluster/imcluster/cmd/"+name)...)
	if race {
		cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	}
	cmd.Stderr = os.Stderr
	return path, cmd.Run()
}

// Config says what to run.
type Config struct {
	// Path of the program.
	Path string
	Args []string
	// Label names the run.
	Label string
	// Ready is the message that it logs when it has started.
	Ready string
}

// Process is one run of a program.
type Process struct {
	// Fixed after Start.

	// Label names the run.
	Label string
	// Listen is the address in the message that the program was ready by; empty if it has none.
	Listen string
	// Ended is closed when the program has ended.
	Ended chan struct{}

	cmd *exec.Cmd

	mu   sync.Mutex
	logs []string // the latest; guarded by mu
	bug  string   // a line that must never be logged; guarded by mu
	err  error    // guarded by mu
}

// startTimeout bounds how long a program may take until it is ready; it waits for Redis.
const startTimeout = 30 * time.Second

// Start runs a program until it is ready.
func Start(cfg Config) (*Process, error) {
	p := &Process{Label: cfg.Label, cmd: exec.Command(cfg.Path, cfg.Args...), Ended: make(chan struct{})}
	p.cmd.SysProcAttr = endWithParent()
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.cmd.Stdout, p.cmd.Stderr = in, in
	err = p.cmd.Start()
	_ = in.Close()
	if err != nil {
		_ = out.Close()
		return nil, err
	}
	ready := make(chan string, 1)
	go p.watch(out, cfg.Ready, ready)
	select {
	case p.Listen = <-ready:
		return p, nil
	case <-p.Ended:
		return nil, fmt.Errorf("%s ended before it was ready:\n%s", p.Label, p.Tail())
	case <-time.After(startTimeout):
		p.Kill()
		return nil, fmt.Errorf("%s was not ready in time:\n%s", p.Label, p.Tail())
	}
}

func (p *Process) watch(out io.ReadCloser, message string, ready chan<- string) {
	defer close(p.Ended)
	defer out.Close()
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	told := false
	for lines.Scan() {
		var entry struct{ Msg, Listen string }
		if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Msg == message && !told {
			told = true
			ready <- entry.Listen
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

// Tail returns the last lines of the log.
func (p *Process) Tail() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.logs, "\n")
}

// Crashed returns what a program said that panicked, or ended by itself with anything but success.
func (p *Process) Crashed() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bug != "" {
		return fmt.Errorf("%s: %s\n%s", p.Label, p.bug, strings.Join(p.logs, "\n"))
	}
	select {
	case <-p.Ended:
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
	return fmt.Errorf("%s: %w\n%s", p.Label, p.err, strings.Join(p.logs, "\n"))
}

// Signal sends a signal.
func (p *Process) Signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// Kill ends the program with SIGKILL and waits for its end.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.Ended
}
