package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"
)

// queryCmd measures how many users a second a presence pod tells the state of, beside a Node.js server that answers MGET of
// the same Redis. Of the users 30 % are online on a gateway, 40 % were, and 30 % were never seen.
type queryCmd struct {
	Users   int      `default:"20000" help:"Users that exist, about."`
	Calls   []int    `default:"100,1000" help:"Users a call."`
	Kinds   []string `default:"mget,warm,uncached,batch" help:"What to ask: mget, the yardstick; warm and uncached: getOnOffStatus with and without the memory of the presence pod; batch: batchGet."`
	Conns   int      `default:"8" help:"Connections that ask, one call at a time each."`
	Seconds int      `default:"4" help:"Length of a round."`
	Rounds  int      `default:"3" help:"Rounds, each of every kind in turn."`
}

// queryResult is one round of one kind.
type queryResult struct {
	httpResult
	users, server, redis float64 // users a second; ns of CPU a user in the server and in Redis
	hits                 float64 // % of the users who were not looked up in Redis
}

func (c *queryCmd) Run(ctx context.Context) error {
	store, err := startRedis(ctx, "no")
	if err != nil {
		return err
	}
	defer store.stop()
	gateway, err := startServer(ctx, "gateway", "--redis="+store.addr, "--unlimited")
	if err != nil {
		return err
	}
	defer gateway.stop()
	if err := c.populate(ctx, store.addr, gateway.addr); err != nil {
		return fmt.Errorf("make users: %w", err)
	}
	for _, n := range c.Calls {
		fmt.Printf("Presence of %d users a call: 30 %% online, 40 %% offline, 30 %% never seen, of %d; closed loop of %d connections\n", n, c.Users, c.Conns)
		results := map[string][]queryResult{}
		for range c.Rounds {
			for _, kind := range c.Kinds {
				r, err := c.measure(ctx, kind, store, n)
				if err != nil {
					return fmt.Errorf("measure %s: %w", kind, err)
				}
				results[kind] = append(results[kind], r)
			}
		}
		for _, kind := range c.Kinds {
			c.print(kind, results)
		}
		fmt.Println()
	}
	return nil
}

func (c *queryCmd) print(kind string, results map[string][]queryResult) {
	show := func(f func(queryResult) float64, format, unit string) string {
		var values []float64
		for _, r := range results[kind] {
			values = append(values, f(r))
		}
		return spreadOf(values).show(format, unit)
	}
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	fmt.Printf("  %-9s %s, p50 %s, p99 %s\n", kind, show(func(r queryResult) float64 { return r.users / 1e6 }, "%.2f", "M users/s"),
		show(func(r queryResult) float64 { return ms(r.p50) }, "%.2f", "ms"), show(func(r queryResult) float64 { return ms(r.p99) }, "%.2f", "ms"))
	fmt.Printf("            CPU a user: server %s, Redis %s\n", show(func(r queryResult) float64 { return r.server }, "%.0f", "ns"),
		show(func(r queryResult) float64 { return r.redis }, "%.0f", "ns"))
	if kind != "mget" {
		fmt.Printf("            answered from memory: %s\n", show(func(r queryResult) float64 { return r.hits }, "%.2f", "%"))
	}
	bar, yardstick := map[string]float64{"warm": 2, "uncached": 0.7, "batch": 1}[kind], results["mget"]
	if bar == 0 || len(yardstick) == 0 {
		return
	}
	var ratios []float64
	for i, r := range results[kind] {
		ratios = append(ratios, r.users/yardstick[i].users)
	}
	fmt.Printf("            ratio to mget %s; bar: at least %.1f x\n", spreadOf(ratios).show("%.2f", "x"), bar)
}

func (c *queryCmd) online() int { return c.Users * 3 / 10 }
func (c *queryCmd) seen() int   { return c.Users * 7 / 10 }

// populate logs users in on the gateway, and most of them out again. The yardstick's keys are in a database of their own.
func (c *queryCmd) populate(ctx context.Context, redisAddr, gateway string) error {
	frames := make([]string, c.seen())
	for i := range frames {
		frames[i] = fmt.Sprintf(`{"type":"10","token":%q,"deviceId":"phone"}`, user(i))
	}
	conns, err := connect(ctx, gateway, frames)
	if err != nil {
		return err
	}
	for _, conn := range conns[c.online():] {
		logout(conn)
	}
	client := redis.NewClient(&redis.Options{Addr: redisAddr})
	defer client.Close()
	pipe := client.Pipeline()
	for i := range c.seen() {
		if i < c.online() {
			pipe.Set(ctx, user(i), "1", 0)
		} else {
			pipe.Set(ctx, user(i), "0", 7*24*time.Hour)
		}
	}
	_, err = pipe.Exec(ctx)
	return err
}

// measure runs one round of a kind, with a server of its own.
func (c *queryCmd) measure(ctx context.Context, kind string, store *redisServer, n int) (queryResult, error) {
	var srv *server
	var err error
	path, field := "/1.1/functions/getOnOffStatus", "peerIds"
	switch kind {
	case "mget":
		srv, err = startNode(ctx, "mget", store.addr)
	case "uncached":
		srv, err = startServer(ctx, "presence", "--redis="+store.addr, "--uncached")
	default:
		srv, err = startServer(ctx, "presence", "--redis="+store.addr)
	}
	if err != nil {
		return queryResult{}, err
	}
	defer srv.stop()
	if kind == "batch" {
		path, field = "/v1/presence:batchGet", "users"
	}
	load := &httpLoad{addr: srv.addr, conns: c.Conns, requests: c.requests(path, field, n)}
	// Everybody was asked for once before the clock runs.
	if _, err := load.run(ctx, time.Second); err != nil {
		return queryResult{}, err
	}
	before, err := store.asked(ctx)
	if err != nil {
		return queryResult{}, err
	}
	serverBefore, redisBefore := srv.used(), cpuOf(store.cmd.Process.Pid)
	r := queryResult{}
	if r.httpResult, err = load.run(ctx, time.Duration(c.Seconds)*time.Second); err != nil {
		return r, err
	}
	asked := float64(r.calls * n)
	r.users = r.rate() * float64(n)
	r.server = float64(srv.used()-serverBefore) / asked
	r.redis = float64(cpuOf(store.cmd.Process.Pid)-redisBefore) / asked
	after, err := store.asked(ctx)
	r.hits = 100 * (1 - (after.hashes-before.hashes)/asked)
	return r, err
}

// requests asks for random users, 200,000 in all.
func (c *queryCmd) requests(path, field string, n int) [][]byte {
	random := rand.New(rand.NewPCG(1, uint64(n))) //nolint:gosec // the same users for every kind
	requests := make([][]byte, max(16, 200_000/n))
	for i := range requests {
		ids := make([]string, n)
		for j := range ids {
			ids[j] = user(random.IntN(c.Users))
		}
		body, _ := json.Marshal(map[string][]string{field: ids})
		requests[i] = fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nX-LC-Id: %s\r\nX-LC-Key: %s\r\n"+
			"Authorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s", path, benchApp, benchKey, benchKey, len(body), body)
	}
	return requests
}
