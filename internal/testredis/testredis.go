// Package testredis runs real Redis servers for tests: a redis-server or valkey-server from PATH, alone, as a Redis
// Cluster of several nodes, or watched by a Sentinel. A test that needs one and finds none fails, it does not skip.
package testredis

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// startTimeout bounds how long a server may take to answer or to end; one on a busy machine takes below 1 s.
const startTimeout = 20 * time.Second

// Options say how a server is started. The zero value is an empty server without persistence.
type Options struct {
	// AOF switches the append-only file on, so that Restart finds the data again.
	AOF bool
	// Args are further arguments of redis-server, such as "--maxmemory", "10mb".
	Args []string
}

// Server is a running server on 127.0.0.1 that ends with the test.
type Server struct {
	// Addr is host:port; it stays the same over Kill and Restart.
	Addr string

	tb     testing.TB
	binary string
	args   []string
	dir    string

	mu     sync.Mutex
	cmd    *exec.Cmd
	exited chan struct{} // closed when cmd was waited for
}

// Start runs an empty server without persistence on a free port.
func Start(tb testing.TB) *Server {
	tb.Helper()
	return StartWith(tb, Options{})
}

// StartWith runs a server on a free port.
func StartWith(tb testing.TB, opts Options) *Server {
	tb.Helper()
	s := &Server{tb: tb, binary: lookPath(tb), dir: tb.TempDir()}
	appendOnly := "no"
	if opts.AOF {
		appendOnly = "yes"
	}
	s.args = append([]string{
		"--bind", "127.0.0.1", "--dir", s.dir, "--save", "", "--appendonly", appendOnly, "--daemonize", "no",
		"--logfile", filepath.Join(s.dir, "log"),
	}, opts.Args...)
	// Another process can take a free port before the server does: try a few.
	var err error
	for range 5 {
		s.Addr = freeAddr(tb)
		if err = s.start(); err == nil {
			break
		}
	}
	if err != nil {
		tb.Fatalf("start %s: %v", s.binary, err)
	}
	tb.Cleanup(s.Kill)
	return s
}

func lookPath(tb testing.TB) string {
	tb.Helper()
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	tb.Fatal("this test needs redis-server or valkey-server on PATH: apt-get install redis-server (brew install redis)")
	return ""
}

func freeAddr(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("find a free port: %v", err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start runs the process and waits until it answers.
func (s *Server) start() error {
	_, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return err
	}
	// Sentinel is told its port, as everything else, by its configuration file, which must be the first argument.
	args := s.args
	if !strings.HasSuffix(args[0], ".conf") {
		args = append([]string{"--port", port}, args...)
	}
	cmd := exec.Command(s.binary, args...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = endWithParent()
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // ends by a signal
		close(exited)
	}()
	s.mu.Lock()
	s.cmd, s.exited = cmd, exited
	s.mu.Unlock()
	deadline := time.Now().Add(startTimeout)
	for {
		if _, err = s.Do("PING"); err == nil {
			return nil
		}
		select {
		case <-exited:
			log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			return fmt.Errorf("it ended at once: %s", log)
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			s.Kill()
			return fmt.Errorf("it does not answer: %w", err)
		}
	}
}

// Pause stops the process (SIGSTOP): connections stay open and nothing is answered, until Resume or the end of the test.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP) }

// Resume continues a paused process.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.tb.Fatalf("send %s to redis: %v", sig, err)
	}
}

// Kill ends the process at once (SIGKILL) and waits for its end. Killing one that has ended is fine.
func (s *Server) Kill() {
	s.mu.Lock()
	cmd, exited := s.cmd, s.exited
	s.mu.Unlock()
	if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.tb.Errorf("kill redis: %v", err)
		return
	}
	<-exited
}

// Restart kills the process and starts it on the same address: empty unless Options.AOF was set.
func (s *Server) Restart() {
	s.tb.Helper()
	s.Kill()
	if err := s.start(); err != nil {
		s.tb.Fatalf("restart redis: %v", err)
	}
}

// Do runs one command on a connection of its own and returns the reply: a string, int64, []any or nil.
func (s *Server) Do(args ...string) (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.Addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := conn.Write([]byte(b.String())); err != nil {
		return nil, err
	}
	return readReply(bufio.NewReader(conn))
}

// MustDo is Do that fails the test on an error.
func (s *Server) MustDo(args ...string) any {
	s.tb.Helper()
	reply, err := s.Do(args...)
	if err != nil {
		s.tb.Fatalf("redis %s: %v", strings.Join(args, " "), err)
	}
	return reply
}

// Info returns a field of INFO, such as "used_memory"; empty if there is none.
func (s *Server) Info(field string) string {
	s.tb.Helper()
	text, _ := s.MustDo("INFO", "everything").(string)
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), field+":"); ok {
			return value
		}
	}
	return ""
}

// readReply reads one RESP2 reply.
func readReply(r *bufio.Reader) (any, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	kind, rest := line[0], strings.TrimRight(line[1:], "\r\n")
	switch kind {
	case '+':
		return rest, nil
	case '-':
		return nil, errors.New(rest)
	}
	n, err := strconv.ParseInt(rest, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("bad reply %q", line)
	}
	switch {
	case kind == ':':
		return n, nil
	case n < 0:
		return nil, nil
	case kind == '$':
		buf := make([]byte, n+2)
		for got := 0; got < len(buf); {
			k, err := r.Read(buf[got:])
			if err != nil {
				return nil, err
			}
			got += k
		}
		return string(buf[:n]), nil
	case kind == '*':
		list := make([]any, n)
		for i := range list {
			if list[i], err = readReply(r); err != nil {
				list[i] = err // as in the replies of scripts and transactions
			}
		}
		return list, nil
	}
	return nil, fmt.Errorf("bad reply %q", line)
}
