package main

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// startChatServers starts two servers of a kind on one Redis. Those that were started are returned with an error too.
func startChatServers(ctx context.Context, kind, redis string) (nodes []*server, err error) {
	for range 2 {
		var n *server
		switch {
		case kind == "socketio":
			n, err = startSocketIO(ctx, redis)
		case kind == "relay" && len(nodes) > 0:
			n, err = startServer(ctx, kind, "--peer="+nodes[0].addr)
		default:
			n, err = startServer(ctx, kind, "--redis="+redis, "--unlimited")
		}
		if err != nil {
			return nodes, err
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

// used is the CPU time that the server has used so far.
func (s *server) used() time.Duration { return cpuOf(s.cmd.Process.Pid) }

// cpuOf is the user and system time of a process so far, 0 where /proc does not tell.
func cpuOf(pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name, in parentheses, may contain anything; utime and stime are fields 14 and 15, in ticks of 10 ms.
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	const tick = 10 * time.Millisecond
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * tick
}

//go:embed socketio/package.json socketio/package-lock.json socketio/server.mjs
var socketIOFiles embed.FS

// startSocketIO runs the Socket.IO server, whose packages are installed once, beside the other tools.
func startSocketIO(ctx context.Context, redis string) (*server, error) {
	dir, err := installSocketIO(ctx)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "node", "server.mjs", redis)
	cmd.Dir = dir
	s, err := launch(cmd)
	if err != nil {
		return nil, fmt.Errorf("start Socket.IO: %w", err)
	}
	if !s.out.Scan() {
		s.stop()
		return nil, fmt.Errorf("start Socket.IO: it ended: %w", s.out.Err())
	}
	var first sample
	if err := json.Unmarshal(s.out.Bytes(), &first); err != nil {
		s.stop()
		return nil, fmt.Errorf("start Socket.IO: %w", err)
	}
	s.addr = first.Addr
	return s, nil
}

func installSocketIO(ctx context.Context) (string, error) {
	cache := os.Getenv("IMCLUSTER_CACHE")
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		cache = filepath.Join(user, "imcluster")
	}
	dir := filepath.Join(cache, "socketio")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	changed := false
	for _, name := range []string{"package.json", "package-lock.json", "server.mjs"} {
		want, err := socketIOFiles.ReadFile("socketio/" + name)
		if err != nil {
			return "", err
		}
		path := filepath.Join(dir, name)
		if have, err := os.ReadFile(path); err == nil && string(have) == string(want) {
			continue
		}
		changed = true
		if err := os.WriteFile(path, want, 0o600); err != nil {
			return "", err
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules")); err == nil && !changed {
		return dir, nil
	}
	cmd := exec.CommandContext(ctx, "npm", "ci", "--silent", "--no-audit", "--no-fund")
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("install Socket.IO with npm: %w", err)
	}
	return dir, nil
}
