package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// costs is processor time in µs: what a round used so far, or what it used for a message.
type costs struct{ servers, redis, clients float64 }

// usedBy is what both servers, their Redis, and this process, which holds the clients, have used so far.
func usedBy(nodes []*server, redis *redisServer) (c costs) {
	for _, n := range nodes {
		c.servers += float64(cpuOf(n.cmd.Process.Pid).Microseconds())
	}
	c.redis = float64(cpuOf(redis.cmd.Process.Pid).Microseconds())
	c.clients = float64(cpuOf(os.Getpid()).Microseconds())
	return c
}

// since is what n messages have used each since before.
func (c costs) since(before costs, n int) costs {
	each := func(now, then float64) float64 { return (now - then) / float64(max(n, 1)) }
	return costs{each(c.servers, before.servers), each(c.redis, before.redis), each(c.clients, before.clients)}
}

func printCosts[R any](what string, rounds []R, of func(R) costs) {
	show := func(part func(costs) float64) string {
		return spreadBy(rounds, func(r R) float64 { return part(of(r)) }).show("%.1f", "µs")
	}
	fmt.Printf("    CPU %s: servers %s, Redis %s, clients %s\n", what, show(func(c costs) float64 { return c.servers }),
		show(func(c costs) float64 { return c.redis }), show(func(c costs) float64 { return c.clients }))
}

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

// used is the CPU time of the server so far.
func (s *server) used() time.Duration { return cpuOf(s.cmd.Process.Pid) }
