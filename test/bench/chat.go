package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// chatCmd measures one-to-one messages between two server processes on one Redis: each pair has its sender on one of them
// and its recipient on the other. A message is done when its sender has the answer of the server and the recipient's
// acknowledgement is answered; of a yardstick that has no acknowledgements, when the recipient has it.
type chatCmd struct {
	Loads   []string `default:"50x1,100x8" help:"Pairs and messages in flight of each."`
	Kinds   []string `default:"gateway,centrifuge,socketio,relay" enum:"gateway,centrifuge,socketio,relay" help:"Servers to measure."`
	Seconds int      `default:"5" help:"Length of a round, after a second to warm up."`
	Rounds  int      `default:"3" help:"Rounds, each of every server in turn."`
	Payload int      `default:"128" help:"Bytes of a message's content."`
	Profile string   `type:"path" placeholder:"DIR" help:"Write CPU profiles of the servers here: not of Socket.IO."`
	AOF     string   `default:"no" enum:"no,everysec,always" help:"How Redis is set to keep what it stores."`
}

// chatBars are what the project promises: times the rate of Centrifugo with history and recovery.
var chatBars = map[string]float64{"50x1": 1.5, "100x8": 1.7}

var chatNames = map[string]string{
	"gateway":    "gateway, every message stored and acknowledged",
	"centrifuge": "Centrifuge (the library of Centrifugo), history and recovery, no acknowledgements",
	"socketio":   "Socket.IO with its Redis adapter, nothing stored",
	"relay":      "the frames of our protocol and nothing else: what the sockets cost",
}

// chatResult is one round of one server.
type chatResult struct {
	rate     float64 // messages a second
	p50, p99 float64 // ms
	costs            // of a message
}

func (c *chatCmd) Run(ctx context.Context) error {
	for _, load := range c.Loads {
		var pairs, inFlight int
		if _, err := fmt.Sscanf(load, "%dx%d", &pairs, &inFlight); err != nil || pairs < 1 || inFlight < 1 {
			return fmt.Errorf("a load is PAIRSxINFLIGHT, such as 50x1, not %q", load)
		}
		fmt.Printf("One-to-one across two processes, %d pairs × %d in flight, %d B, AOF %s, %d s a round\n",
			pairs, inFlight, c.Payload, c.AOF, c.Seconds)
		results := map[string][]chatResult{}
		for range c.Rounds {
			for _, kind := range c.Kinds {
				r, err := c.measure(ctx, kind, pairs, inFlight)
				if err != nil {
					return fmt.Errorf("measure %s: %w", kind, err)
				}
				results[kind] = append(results[kind], r)
			}
		}
		c.print(load, results)
	}
	return nil
}

func (c *chatCmd) print(load string, results map[string][]chatResult) {
	for _, kind := range c.Kinds {
		show := func(of func(chatResult) float64, format, unit string) string {
			return spreadBy(results[kind], of).show(format, unit)
		}
		fmt.Printf("  %s\n", chatNames[kind])
		fmt.Printf("    %s; p50 %s, p99 %s\n", show(func(r chatResult) float64 { return r.rate }, "%.0f", "messages/s"),
			show(func(r chatResult) float64 { return r.p50 }, "%.1f", "ms"), show(func(r chatResult) float64 { return r.p99 }, "%.1f", "ms"))
		printCosts("a message", results[kind], func(r chatResult) costs { return r.costs })
	}
	ours := results["gateway"]
	for _, yardstick := range []string{"centrifuge", "socketio", "relay"} {
		theirs := results[yardstick]
		if len(ours) == 0 || len(theirs) == 0 {
			continue
		}
		var ratios []float64
		for i := range ours {
			ratios = append(ratios, ours[i].rate/theirs[i].rate)
		}
		bar := ""
		if b, ok := chatBars[load]; ok && yardstick == "centrifuge" {
			bar = fmt.Sprintf("; bar: at least %.1f times", b)
		}
		fmt.Printf("  ratio to %s %s%s\n", yardstick, spreadOf(ratios).show("%.2f", "times"), bar)
	}
	fmt.Println()
}

// measure runs one round: two servers, a Redis, and the load.
func (c *chatCmd) measure(ctx context.Context, kind string, pairs, inFlight int) (chatResult, error) {
	redis, err := startRedis(ctx, c.AOF)
	if err != nil {
		return chatResult{}, err
	}
	defer redis.stop()
	nodes, err := startChatServers(ctx, kind, redis.addr)
	for _, n := range nodes {
		defer n.stop()
	}
	if err != nil {
		return chatResult{}, err
	}
	load := make([]*pair, pairs)
	g, dialing := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for i := range load {
		g.Go(func() error {
			p, err := newPair(dialing, kind, nodes[i%2].addr, nodes[(i+1)%2].addr, i, c.Payload)
			load[i] = p
			return err
		})
	}
	err = g.Wait()
	defer func() {
		for _, p := range load {
			if p != nil {
				p.close()
			}
		}
	}()
	if err != nil {
		return chatResult{}, err
	}
	for _, p := range load {
		p.start(inFlight)
	}
	if err := wait(ctx, time.Second); err != nil {
		return chatResult{}, err
	}
	before := usedBy(nodes, redis)
	if err := profile(c.Profile, kind, fmt.Sprintf("%s-%dx%d", kind, pairs, inFlight), nodes); err != nil {
		return chatResult{}, err
	}
	begin := time.Now()
	for _, p := range load {
		p.record(true)
	}
	if err := wait(ctx, time.Duration(c.Seconds)*time.Second); err != nil {
		return chatResult{}, err
	}
	var latencies []time.Duration
	for _, p := range load {
		latencies = append(latencies, p.record(false)...)
	}
	took := time.Since(begin)
	after := usedBy(nodes, redis)
	for _, p := range load {
		if err := p.failure(); err != nil {
			return chatResult{}, err
		}
	}
	if err := profiled(c.Profile, kind, nodes); err != nil {
		return chatResult{}, err
	}
	n := len(latencies)
	if n == 0 {
		return chatResult{}, fmt.Errorf("no message was done in %v", took)
	}
	slices.Sort(latencies)
	ms := func(q float64) float64 { return float64(latencies[int(q*float64(n-1))].Microseconds()) / 1000 }
	return chatResult{
		rate: float64(n) / took.Seconds(), p50: ms(0.50), p99: ms(0.99), costs: after.since(before, n),
	}, nil
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pair is a sender, its recipient, and the messages between them that are not done.
type pair struct {
	from, to  chatClient
	recipient string
	payload   int

	mu        sync.Mutex
	next      int
	open      map[int]*flight
	recording bool
	done      []time.Duration
	err       error
	closed    bool
}

type flight struct {
	sent  time.Time
	steps int // of two
}

func newPair(ctx context.Context, kind, fromAddr, toAddr string, i, payload int) (*pair, error) {
	p := &pair{recipient: fmt.Sprintf("to%08d", i), payload: payload, open: map[int]*flight{}}
	var err error
	if p.to, err = dialChat(ctx, kind, toAddr, p.recipient); err != nil {
		return nil, err
	}
	if p.from, err = dialChat(ctx, kind, fromAddr, fmt.Sprintf("from%08d", i)); err != nil {
		p.to.close()
		return nil, err
	}
	p.to.beforeWait(p.from.flush) // a message that is done has the next one sent, by whoever notices
	go func() { p.fail(p.to.run(p.step)) }()
	go func() { p.fail(p.from.run(p.step)) }()
	return p, nil
}

func (p *pair) start(inFlight int) {
	for range inFlight {
		p.send()
	}
	p.from.flush()
}

func (p *pair) send() {
	p.mu.Lock()
	id := p.next
	p.next++
	p.open[id] = &flight{sent: time.Now()}
	closed := p.closed
	p.mu.Unlock()
	if !closed {
		p.fail(p.from.send(p.recipient, id, p.payload))
	}
}

// step counts one of the two things that make a message done, and sends the next one when it is.
func (p *pair) step(id int) {
	p.mu.Lock()
	f := p.open[id]
	if f == nil {
		p.mu.Unlock()
		return // a redelivery
	}
	f.steps++
	done := f.steps == 2
	if done {
		delete(p.open, id)
		if p.recording {
			p.done = append(p.done, time.Since(f.sent))
		}
	}
	p.mu.Unlock()
	if done {
		p.send()
	}
}

// record starts or ends the recording, and returns what was recorded.
func (p *pair) record(on bool) []time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.recording = on
	return p.done
}

func (p *pair) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil && p.err == nil && !p.closed {
		p.err = err
	}
}

func (p *pair) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

func (p *pair) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.from.close()
	p.to.close()
}
