package main

import (
	"context"
	"fmt"
	"os"
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
			n, err = startNode(ctx, kind, redis)
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
