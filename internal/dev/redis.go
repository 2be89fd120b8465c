package dev

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/alicebob/miniredis/v2"
)

const (
	// redisStartTimeout bounds how long a Redis may take to answer; usually it is 50 ms.
	redisStartTimeout = 10 * time.Second
	// minRedisMajor is the oldest Redis that the platform works with. Valkey began at 7.2.
	minRedisMajor = 7
)

// redis is the Redis of a platform.
type redis struct {
	Address     string
	Description string
	stop        func()
}

// startRedis runs a Redis that ends with this process: a real server from PATH, or else, and if embedded says so, the one
// that is written in Go.
func startRedis(ctx context.Context, embedded bool) (*redis, error) {
	if !embedded {
		for _, name := range []string{"redis-server", "valkey-server"} {
			path, version := findServer(ctx, name)
			if path == "" {
				continue
			}
			r, err := startServer(ctx, path)
			if err != nil {
				return nil, fmt.Errorf("start %s: %w", path, err)
			}
			r.Description = fmt.Sprintf("%s %s (%s)", name, version, path)
			return r, nil
		}
	}
	m := miniredis.NewMiniRedis()
	if err := m.StartAddr("127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("start the embedded Redis: %w", err)
	}
	return &redis{Address: m.Addr(), Description: "embedded in Go (miniredis): good for trying out, not for measuring", stop: m.Close}, nil
}

var serverVersion = regexp.MustCompile(`v=(\d+)\.(\S+)`)

// findServer returns the path of a server on PATH that is new enough, and its version; else "".
func findServer(ctx context.Context, name string) (path, version string) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", ""
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	m := serverVersion.FindSubmatch(out)
	if err != nil || m == nil {
		return "", ""
	}
	if major, err := strconv.Atoi(string(m[1])); err != nil || major < minRedisMajor {
		return "", ""
	}
	return path, string(m[1]) + "." + string(m[2])
}

// startServer runs a Redis server on a free port of 127.0.0.1, in a directory of its own.
func startServer(ctx context.Context, path string) (*redis, error) {
	dir, err := os.MkdirTemp("", "imcluster-dev-")
	if err != nil {
		return nil, err
	}
	// Somebody may take the free port before the server does.
	const attempts = 3
	for range attempts {
		var r *redis
		if r, err = startServerOnce(ctx, path, dir); err == nil {
			return r, nil
		}
	}
	_ = os.RemoveAll(dir)
	return nil, err
}

func startServerOnce(ctx context.Context, path, dir string) (*redis, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	var log bytes.Buffer
	cmd := exec.Command(path, "--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--save", "", "--appendonly", "no",
		"--maxmemory-policy", "noeviction", "--dir", dir)
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = boundToUs()

	exited := make(chan struct{})
	started := make(chan error, 1)
	go func() {
		// The signal that ends the child with us comes when the thread ends that started it, so that thread has to stay.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(exited)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	if err := waitForServer(ctx, address, exited); err != nil {
		_ = cmd.Process.Kill()
		<-exited
		return nil, fmt.Errorf("%w\n%s", err, strings.TrimSpace(log.String()))
	}
	return &redis{Address: address, stop: func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-exited:
		case <-time.After(redisStartTimeout):
			_ = cmd.Process.Kill()
			<-exited
		}
		_ = os.RemoveAll(dir)
	}}, nil
}

// waitForServer waits until the server answers a PING.
func waitForServer(ctx context.Context, address string, exited <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, redisStartTimeout)
	defer cancel()
	for {
		select {
		case <-exited:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return fmt.Errorf("it does not answer on %s: %w", address, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
		if answersPing(address) {
			return nil
		}
	}
}

func answersPing(address string) bool {
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	answer := make([]byte, len("+PONG"))
	_, err = conn.Write([]byte("PING\r\n"))
	if err == nil {
		_, err = conn.Read(answer)
	}
	return err == nil && string(answer) == "+PONG"
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
