package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// groupCmd measures messages to a group whose members are spread over two server processes on one Redis. A message is done
// when its sender has the answer of the server and every member has the message.
type groupCmd struct {
	Members  int      `default:"1000" help:"Members of the group beside the sender."`
	InFlight int      `default:"4" help:"Messages that the sender has in flight."`
	Kinds    []string `default:"gateway,acked,centrifuge,socketio" enum:"gateway,acked,centrifuge,socketio" help:"Servers to measure; acked: ours, with an acknowledgement of every delivery, which is answered."`
	Seconds  int      `default:"4" help:"Length of a round, after a second to warm up. Deliveries that are not acknowledged come again after 5 s."`
	Rounds   int      `default:"3" help:"Rounds, each of every server in turn."`
	Payload  int      `default:"128" help:"Bytes of a message's content."`
	Profile  string   `type:"path" placeholder:"DIR" help:"Write CPU profiles of the servers here: not of Socket.IO."`
}

// groupResult is one round of one server.
type groupResult struct {
	rate  float64 // deliveries a second
	costs         // of a delivery
}

const groupBar = 60_000

var groupNames = map[string]string{
	"gateway":    "gateway, stored for every member",
	"acked":      "gateway, stored for every member, every delivery acknowledged",
	"centrifuge": chatNames["centrifuge"] + ": one channel",
	"socketio":   chatNames["socketio"] + ": one room",
}

// theGroup is the id of the group, the name of the channel and of the room.
const theGroup = "group"

func (c *groupCmd) Run(ctx context.Context) error {
	fmt.Printf("Group of %d members on two processes, %d in flight, %d B, %d s a round\n", c.Members, c.InFlight, c.Payload, c.Seconds)
	results := map[string][]groupResult{}
	for range c.Rounds {
		for _, kind := range c.Kinds {
			r, err := c.measure(ctx, kind)
			if err != nil {
				return fmt.Errorf("measure %s: %w", kind, err)
			}
			results[kind] = append(results[kind], r)
		}
	}
	for _, kind := range c.Kinds {
		bar := ""
		if kind == "gateway" {
			bar = fmt.Sprintf("; bar: at least %d", groupBar)
		}
		fmt.Printf("  %s\n    %s%s\n", groupNames[kind],
			spreadBy(results[kind], func(r groupResult) float64 { return r.rate }).show("%.0f", "deliveries/s"), bar)
		printCosts("a delivery", results[kind], func(r groupResult) costs { return r.costs })
	}
	fmt.Println()
	return nil
}

func (c *groupCmd) measure(ctx context.Context, kind string) (groupResult, error) {
	protocol, acks := kind, true
	if kind == "gateway" || kind == "acked" {
		protocol, acks = "gateway", kind == "acked"
	}
	redis, err := startRedis(ctx, "no")
	if err != nil {
		return groupResult{}, err
	}
	defer redis.stop()
	nodes, err := startChatServers(ctx, protocol, redis.addr)
	for _, n := range nodes {
		defer n.stop()
	}
	if err != nil {
		return groupResult{}, err
	}
	l := &groupLoad{payload: c.Payload, open: map[int]int{}, steps: c.Members + 1}
	defer l.close()
	if err := l.join(ctx, protocol, acks, nodes, c.Members); err != nil {
		return groupResult{}, err
	}
	for range c.InFlight {
		l.send()
	}
	l.sender.flush()
	if err := wait(ctx, time.Second); err != nil {
		return groupResult{}, err
	}
	if err := profile(c.Profile, protocol, fmt.Sprintf("group-%s-%d", kind, c.Members), nodes); err != nil {
		return groupResult{}, err
	}
	begin, before, used := time.Now(), l.delivered.Load(), usedBy(nodes, redis)
	if err := wait(ctx, time.Duration(c.Seconds)*time.Second); err != nil {
		return groupResult{}, err
	}
	n, took := l.delivered.Load()-before, time.Since(begin)
	spent := usedBy(nodes, redis).since(used, int(n))
	if err := profiled(c.Profile, protocol, nodes); err != nil {
		return groupResult{}, err
	}
	if err := l.failure(); err != nil {
		return groupResult{}, err
	}
	return groupResult{rate: float64(n) / took.Seconds(), costs: spent}, nil
}

// groupLoad is the sender, the members, and the messages that are not done.
type groupLoad struct {
	payload, steps int
	delivered      atomic.Int64
	sender         chatClient
	clients        []chatClient

	mu     sync.Mutex
	next   int
	open   map[int]int // steps so far
	err    error
	closed bool
}

// join connects the members and the sender, who makes the group if the server has to know it.
func (l *groupLoad) join(ctx context.Context, protocol string, acks bool, nodes []*server, members int) error {
	l.clients = make([]chatClient, members)
	users := make([]string, members)
	g, dialing := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for i := range users {
		users[i] = fmt.Sprintf("to%08d", i)
		name := users[i]
		if protocol != "gateway" {
			name = theGroup
		}
		g.Go(func() (err error) {
			l.clients[i], err = dialChat(dialing, protocol, nodes[i%2].addr, name)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	var err error
	if l.sender, err = dialChat(ctx, protocol, nodes[0].addr, "sender"); err != nil {
		return err
	}
	if ours, ok := l.sender.(*ourClient); ok {
		if err := ours.createGroup(theGroup, users); err != nil {
			return err
		}
	}
	for _, c := range l.clients {
		if ours, ok := c.(*ourClient); ok {
			ours.quiet = !acks
		}
		c.beforeWait(l.sender.flush) // a message that is done has the next one sent, by whoever notices
		go func() { l.fail(c.run(func(id int) { l.delivered.Add(1); l.step(id) })) }()
	}
	go func() { l.fail(l.sender.run(l.step)) }()
	return nil
}

func (l *groupLoad) send() {
	l.mu.Lock()
	id := l.next
	l.next++
	l.open[id] = 0
	closed := l.closed
	l.mu.Unlock()
	if closed {
		return
	}
	if ours, ok := l.sender.(*ourClient); ok {
		l.fail(ours.sendGroup(theGroup, id, l.payload))
		return
	}
	l.fail(l.sender.send(theGroup, id, l.payload))
}

func (l *groupLoad) step(id int) {
	l.mu.Lock()
	n, ok := l.open[id]
	if !ok {
		l.mu.Unlock()
		return
	}
	done := n+1 == l.steps
	if done {
		delete(l.open, id)
	} else {
		l.open[id] = n + 1
	}
	l.mu.Unlock()
	if done {
		l.send()
	}
}

func (l *groupLoad) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil && l.err == nil && !l.closed {
		l.err = err
	}
}

func (l *groupLoad) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

func (l *groupLoad) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	for _, c := range append(l.clients, l.sender) {
		if c != nil {
			c.close()
		}
	}
}
