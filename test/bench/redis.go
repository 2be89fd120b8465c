package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// redisServer is a Redis of its own for one benchmark.
type redisServer struct {
	cmd  *exec.Cmd
	dir  string
	addr string
}

// startRedis starts redis-server or valkey-server from PATH. aof is "no" for one that keeps everything in memory, or when
// its append-only file is synced: everysec or always.
func startRedis(ctx context.Context, aof string) (*redisServer, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		if path, err = exec.LookPath("valkey-server"); err != nil {
			return nil, fmt.Errorf("neither redis-server nor valkey-server is installed: %w", err)
		}
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "imcluster-bench-")
	if err != nil {
		return nil, err
	}
	args := []string{"--port", fmt.Sprint(port), "--bind", "127.0.0.1", "--dir", dir, "--save", "",
		"--maxmemory-policy", "noeviction", "--loglevel", "warning"}
	if aof != "no" {
		args = append(args, "--appendonly", "yes", "--appendfsync", aof)
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	r := &redisServer{cmd: cmd, dir: dir, addr: fmt.Sprintf("127.0.0.1:%d", port)}
	for deadline := time.Now().Add(5 * time.Second); ; {
		conn, err := net.DialTimeout("tcp", r.addr, time.Second)
		if err == nil {
			conn.Close()
			return r, nil
		}
		if time.Now().After(deadline) {
			r.stop()
			return nil, fmt.Errorf("%s does not answer on %s: %w", path, r.addr, err)
		}
	}
}

func (r *redisServer) stop() {
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait()
	os.RemoveAll(r.dir)
}

// asked is what a Redis was asked for so far.
type asked struct{ writes, reads, pipelines, hashes float64 } // hashes: HGETALL alone, one for each user who is looked up

// asked reads the statistics of the server. Scripts count as writes, those that only read too; what is read from a socket at once
// is a pipeline.
func (r *redisServer) asked(ctx context.Context) (asked, error) {
	client := redis.NewClient(&redis.Options{Addr: r.addr, DisableIdentity: true})
	defer client.Close()
	info, err := client.Info(ctx, "commandstats", "stats").Result()
	if err != nil {
		return asked{}, fmt.Errorf("read the statistics of Redis: %w", err)
	}
	var a asked
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name == "total_reads_processed" {
			a.pipelines, _ = strconv.ParseFloat(value, 64)
		}
		command, found := strings.CutPrefix(name, "cmdstat_")
		if !found {
			continue
		}
		calls, _, _ := strings.Cut(strings.TrimPrefix(value, "calls="), ",")
		n, err := strconv.ParseFloat(calls, 64)
		if err != nil {
			continue
		}
		switch command {
		case "evalsha", "eval":
			a.writes += n
		case "hmget", "hget", "hgetall", "hlen", "zrange", "xrange", "hkeys", "time":
			a.reads += n
			if command == "hgetall" {
				a.hashes = n
			}
		}
	}
	return a, nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
