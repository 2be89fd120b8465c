package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// sample is what a measured server says of itself when it is asked: after a garbage collection that returned all it
// could to the system.
type sample struct {
	Addr       string `json:"addr"`
	RPC        string `json:"rpc"` // of presence: its address for gRPC
	RSS        int64  `json:"rss"` // bytes
	Stack      int64  `json:"stack"`
	Heap       int64  `json:"heap"`
	Goroutines int    `json:"goroutines"`
	CPUMicros  int64  `json:"cpuMicros"` // user + system time of the process so far
}

// server is a measured server in a process of its own. It says a sample for every line that it reads.
type server struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *bufio.Scanner
	addr  string
	rpc   string // of presence
}

// startServer runs "bench serve kind args…" and waits until it listens.
func startServer(ctx context.Context, kind string, args ...string) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s, err := launch(exec.CommandContext(ctx, self, append([]string{"serve", kind}, args...)...))
	if err != nil {
		return nil, fmt.Errorf("start the %s server: %w", kind, err)
	}
	first, err := s.sample()
	if err != nil {
		s.stop()
		return nil, fmt.Errorf("start the %s server: %w", kind, err)
	}
	s.addr, s.rpc = first.Addr, first.RPC
	return s, nil
}

// launch starts the process of a server, which ends with this one.
func launch(cmd *exec.Cmd) (*server, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &server{cmd: cmd, stdin: stdin, out: bufio.NewScanner(stdout)}, nil
}

// sample collects garbage in the server and returns what it then uses.
func (s *server) sample() (sample, error) { return s.ask("sample") }

// profile writes a CPU profile of the server to a file until profiled is called.
func (s *server) profile(path string) error {
	_, err := s.ask("profile " + path)
	return err
}

func (s *server) profiled() error {
	_, err := s.ask("profiled")
	return err
}

// profile starts CPU profiles of servers in a directory, if they are wanted and the servers are our programs.
func profile(dir, kind, name string, nodes []*server) error {
	if dir == "" || kind == "socketio" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for i, n := range nodes {
		if err := n.profile(filepath.Join(dir, fmt.Sprintf("%s-%d.pprof", name, i))); err != nil {
			return err
		}
	}
	return nil
}

// profiled ends them.
func profiled(dir, kind string, nodes []*server) error {
	if dir == "" || kind == "socketio" {
		return nil
	}
	return errors.Join(nodes[0].profiled(), nodes[1].profiled())
}

// cpu returns what the server uses, without a collection first.
func (s *server) cpu() (sample, error) { return s.ask("cpu") }

func (s *server) ask(what string) (sample, error) {
	var got sample
	if _, err := io.WriteString(s.stdin, what+"\n"); err != nil {
		return got, fmt.Errorf("ask the server: %w", err)
	}
	if !s.out.Scan() {
		return got, fmt.Errorf("the server went away: %w", s.out.Err())
	}
	return got, json.Unmarshal(s.out.Bytes(), &got)
}

func (s *server) stop() {
	s.stdin.Close()
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}
