package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/sync/errgroup"
)

// watchCmd measures how long it takes until those who watch a user know of a change: from the frame that sets the status to
// the event, across two gateways and a presence pod.
type watchCmd struct {
	Loads   []string `default:"one,many" help:"one: one user with all connections as watchers; many: all users, each with 100 watchers."`
	Conns   int      `default:"10000" help:"Connections, each of one user."`
	Rate    int      `default:"1000" help:"Changes a second with many."`
	Seconds int      `default:"10" help:"Length of a round."`
	Rounds  int      `default:"2" help:"Rounds of each load."`
}

// What many means: these connections watch so many users each, so that everybody has 100 watchers.
const (
	manyWatchers = 1000
	manyWatched  = 1000
)

func (c *watchCmd) Run(ctx context.Context) error {
	for _, load := range c.Loads {
		bar := map[string]int{"one": 500, "many": 250}[load]
		if bar == 0 {
			return fmt.Errorf("unknown load %q: one or many", load)
		}
		if load == "one" {
			fmt.Printf("Changes of one user with %d watchers, one a second\n", c.Conns-1)
		} else {
			fmt.Printf("Changes of %d users with 100 watchers each, %d a second\n", c.Conns, c.Rate)
		}
		var p99s []float64
		for range c.Rounds {
			p99, err := c.measure(ctx, load)
			if err != nil {
				return err
			}
			p99s = append(p99s, p99)
		}
		fmt.Printf("  p99 %s; bar: at most %d ms\n\n", spreadOf(p99s).show("%.0f", "ms"), bar)
	}
	return nil
}

// watcher is a connection that reads events.
type watcher struct {
	conn *websocket.Conn
	mu   sync.Mutex // held while writing
	took []time.Duration
}

func (w *watcher) send(frame []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.conn.WriteMessage(websocket.TextMessage, frame)
}

// read notes how old each change is: its text is when it was made.
func (w *watcher) read(begin time.Time, answers chan<- error) {
	for {
		_, frame, err := w.conn.ReadMessage()
		if err != nil {
			return
		}
		now := time.Since(begin)
		if bytes.Contains(frame, []byte(`"type":"53"`)) {
			err = nil
			if !bytes.Contains(frame, []byte(`"code":200`)) {
				err = fmt.Errorf("the subscription was refused: %s", frame[:min(len(frame), 200)])
			}
			answers <- err
			continue
		}
		for {
			_, rest, found := bytes.Cut(frame, []byte(`"text":"@`))
			if !found {
				break
			}
			digits, after, _ := bytes.Cut(rest, []byte(`"`))
			if made, err := strconv.ParseInt(string(digits), 10, 64); err == nil {
				w.took = append(w.took, now-time.Duration(made))
			}
			frame = after
		}
	}
}

func (c *watchCmd) measure(ctx context.Context, load string) (p99 float64, err error) {
	redis, err := startRedis(ctx, "no")
	if err != nil {
		return 0, err
	}
	defer redis.stop()
	presence, err := startServer(ctx, "presence", "--redis="+redis.addr)
	if err != nil {
		return 0, err
	}
	defer presence.stop()
	var nodes []*server
	defer func() {
		for _, n := range nodes {
			n.stop()
		}
	}()
	for range 2 {
		n, err := startServer(ctx, "gateway", "--redis="+redis.addr, "--presence="+presence.rpc, "--unlimited")
		if err != nil {
			return 0, err
		}
		nodes = append(nodes, n)
	}
	begin := time.Now()
	watchers, err := c.subscribe(ctx, load, nodes, begin)
	defer func() {
		for _, w := range watchers {
			w.conn.Close()
		}
	}()
	if err != nil {
		return 0, err
	}
	before := [...]time.Duration{nodes[0].used() + nodes[1].used(), presence.used(), cpuOf(redis.cmd.Process.Pid), cpuOf(os.Getpid())}
	changes, elapsed, err := c.change(ctx, load, watchers, begin)
	if err != nil {
		return 0, err
	}
	select {
	case <-time.After(2 * time.Second): // for the last ones to arrive
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	after := [...]time.Duration{nodes[0].used() + nodes[1].used(), presence.used(), cpuOf(redis.cmd.Process.Pid), cpuOf(os.Getpid())}
	var took []time.Duration
	for _, w := range watchers {
		w.conn.Close()
	}
	for _, w := range watchers {
		took = append(took, w.took...)
	}
	if len(took) == 0 {
		return 0, errors.New("nobody was told of any change")
	}
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	share := func(i int) float64 { return 100 * float64(after[i]-before[i]) / float64(elapsed+2*time.Second) }
	fmt.Printf("  %d changes, %d told of %d due (what follows within 100 ms may be told as one); p50 %.0f ms, p99 %.0f ms, longest %.0f ms; "+
		"CPU gateways %.0f %%, presence %.0f %%, Redis %.0f %%, clients %.0f %%\n", changes, len(took), changes*c.watchersOf(load),
		ms(took[len(took)/2]), ms(took[len(took)*99/100]), ms(took[len(took)-1]), share(0), share(1), share(2), share(3))
	return ms(took[len(took)*99/100]), nil
}

func (c *watchCmd) watchersOf(load string) int {
	if load == "one" {
		return c.Conns - 1
	}
	return manyWatchers * manyWatched / c.Conns
}

// subscribe logs everybody in, on both gateways in turn, and has those who watch subscribe.
func (c *watchCmd) subscribe(ctx context.Context, load string, nodes []*server, begin time.Time) ([]*watcher, error) {
	watchers := make([]*watcher, c.Conns)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(64)
	for i := range watchers {
		g.Go(func() error {
			conn, err := login(gctx, nodes[i%2].addr, fmt.Sprintf(`{"type":"10","token":%q,"deviceId":"phone"}`, user(i)))
			if err == nil {
				watchers[i] = &watcher{conn: conn}
			}
			return err
		})
	}
	err := g.Wait()
	watchers = slices.DeleteFunc(watchers, func(w *watcher) bool { return w == nil })
	if err != nil {
		return watchers, err
	}
	answers := make(chan error, len(watchers))
	want := 0
	for i, w := range watchers {
		go w.read(begin, answers)
		var users []string
		switch {
		case load == "one" && i > 0:
			users = []string{user(0)}
		case load == "many" && i < manyWatchers:
			for k := range manyWatched {
				users = append(users, user((i*c.Conns/manyWatchers+k)%c.Conns))
			}
		default:
			continue
		}
		want++
		if err := w.send([]byte(`{"type":"52","action":"subscribe","users":["` + strings.Join(users, `","`) + `"]}`)); err != nil {
			return watchers, err
		}
	}
	for range want {
		select {
		case err := <-answers:
			if err != nil {
				return watchers, err
			}
		case <-time.After(30 * time.Second):
			return watchers, errors.New("a subscription was not answered")
		case <-ctx.Done():
			return watchers, ctx.Err()
		}
	}
	return watchers, nil
}

// change sets statuses at an even rate: of the one user, or of all in turn.
func (c *watchCmd) change(ctx context.Context, load string, watchers []*watcher, begin time.Time) (int, time.Duration, error) {
	order, rate := rand.Perm(len(watchers)), c.Rate
	if load == "one" {
		order, rate = []int{0}, 1
	}
	changes := 0
	start := time.Now()
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for time.Since(start) < time.Duration(c.Seconds)*time.Second {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		}
		// A ticker drops what is late: catch up.
		for due := int(time.Since(start).Seconds() * float64(rate)); changes < due; {
			changes++
			status := [...]string{"busy", "away"}[changes/len(order)%2]
			frame := fmt.Sprintf(`{"type":"56","status":%q,"statusText":"@%d"}`, status, time.Since(begin))
			if err := watchers[order[changes%len(order)]].send([]byte(frame)); err != nil {
				return 0, 0, err
			}
		}
	}
	return changes, time.Since(start), nil
}
