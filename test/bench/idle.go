package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/sync/errgroup"
)

// idleCmd measures the slope of the server's resident memory between two numbers of connections, each of which has
// exchanged one frame and then stays silent.
type idleCmd struct {
	From   int `default:"2000" help:"Connections at the first measurement."`
	To     int `default:"10000" help:"Connections at the second measurement."`
	Rounds int `default:"2" help:"Rounds, each of every server in turn."`
	Watch  int `default:"40" help:"Seconds for which the idle processor time is watched."`

	frames []string // the login of each connection
}

func (c *idleCmd) Run(ctx context.Context) error {
	redis, err := startRedis(ctx, "no")
	if err != nil {
		return err
	}
	defer redis.stop()
	if c.frames, err = loginFrames(c.To); err != nil {
		return err
	}
	fmt.Printf("Memory of an idle connection: slope of RSS from %d to %d connections, plain TCP\n", c.From, c.To)
	kinds := []string{"naive", "tuned", "gateway"}
	figures := map[string][]float64{}
	for range c.Rounds {
		for _, kind := range kinds {
			slope, err := c.measure(ctx, kind, redis)
			if err != nil {
				return fmt.Errorf("measure %s: %w", kind, err)
			}
			figures[kind] = append(figures[kind], slope)
		}
	}
	for _, kind := range kinds {
		fmt.Printf("  %-8s %s\n", kind, spreadOf(figures[kind]).show("%.2f", "KB/connection"))
	}
	fmt.Printf("  bar: gateway at most 7.00 KB; yardsticks: bare gorilla/websocket servers, naive and tuned\n\n")
	return nil
}

func (c *idleCmd) measure(ctx context.Context, kind string, redis *redisServer) (float64, error) {
	srv, err := startServer(ctx, kind, "--redis="+redis.addr)
	if err != nil {
		return 0, err
	}
	defer srv.stop()
	var conns []*websocket.Conn
	defer func() {
		for _, conn := range conns {
			conn.Close()
		}
	}()
	grow := func(n int) (sample, error) {
		more, err := connect(ctx, srv.addr, c.frames[len(conns):n])
		conns = append(conns, more...)
		if err != nil {
			return sample{}, err
		}
		return settled(ctx, srv)
	}
	low, err := grow(c.From)
	if err != nil {
		return 0, err
	}
	high, err := grow(c.To)
	if err != nil {
		return 0, err
	}
	before, err := redis.asked(ctx)
	if err != nil {
		return 0, err
	}
	micros, err := c.idleCPU(ctx, srv)
	if err != nil {
		return 0, err
	}
	after, err := redis.asked(ctx)
	if err != nil {
		return 0, err
	}
	n := float64(c.To - c.From)
	slope := float64(high.RSS-low.RSS) / n / 1024
	fmt.Printf("  %-8s %.2f KB (stack %.2f, heap %.2f), %.3f goroutines a connection, idle CPU %.2f µs/s a connection\n",
		kind, slope, float64(high.Stack-low.Stack)/n/1024, float64(high.Heap-low.Heap)/n/1024,
		float64(high.Goroutines-low.Goroutines)/n, micros)
	if kind == "gateway" {
		seconds := float64(c.Watch)
		fmt.Printf("           Redis, with %d idle users: %.2f writes/s, %.0f reads/s in %.2f pipelines/s; bar: at most 0.5 writes/s and 2 pipelines/s, whatever the users\n",
			c.To, (after.writes-before.writes)/seconds, (after.reads-before.reads)/seconds, (after.pipelines-before.pipelines-1)/seconds)
	}
	return slope, nil
}

// idleCPU returns the processor time, in µs a second and connection, that the server takes while nobody sends but
// WebSocket pongs.
func (c *idleCmd) idleCPU(ctx context.Context, srv *server) (float64, error) {
	before, err := srv.cpu()
	if err != nil {
		return 0, err
	}
	start := time.Now()
	select {
	case <-time.After(time.Duration(c.Watch) * time.Second):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	after, err := srv.cpu()
	if err != nil {
		return 0, err
	}
	return float64(after.CPUMicros-before.CPUMicros) / time.Since(start).Seconds() / float64(c.To), nil
}

// settled samples until two samples in a row agree within 1 %.
func settled(ctx context.Context, srv *server) (sample, error) {
	last, err := srv.sample()
	for err == nil {
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
			return last, ctx.Err()
		}
		var next sample
		if next, err = srv.sample(); err == nil {
			if diff := next.RSS - last.RSS; diff < last.RSS/100 && diff > -last.RSS/100 {
				return next, nil
			}
			last = next
		}
	}
	return last, err
}

// connect opens a connection for every login frame, 64 at a time.
func connect(ctx context.Context, addr string, frames []string) ([]*websocket.Conn, error) {
	conns := make([]*websocket.Conn, len(frames))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(64)
	for i, frame := range frames {
		g.Go(func() error {
			conn, err := login(ctx, addr, frame)
			if err == nil {
				conns[i] = conn
				go answerPings(conn)
			}
			return err
		})
	}
	err := g.Wait()
	opened := conns[:0]
	for _, conn := range conns {
		if conn != nil {
			opened = append(opened, conn)
		}
	}
	return opened, err
}

// answerPings reads until the connection closes; the library answers the pings that it meets.
func answerPings(conn *websocket.Conn) {
	for {
		if _, _, err := conn.NextReader(); err != nil {
			return
		}
	}
}

var dialer = websocket.Dialer{
	HandshakeTimeout: 10 * time.Second, ReadBufferSize: 512, WriteBufferSize: 512,
	NetDialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
}

// login connects, sends one frame and reads the answer: the same frame from a bare server, success from a gateway.
func login(ctx context.Context, addr, frame string) (*websocket.Conn, error) {
	conn, resp, err := dialer.DialContext(ctx, "ws://"+addr+"/ws", nil)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	resp.Body.Close()
	if err := conn.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
		conn.Close()
		return nil, fmt.Errorf("log in: %w", err)
	}
	_, answer, err := conn.ReadMessage()
	if err == nil && string(answer) != frame && !bytes.Contains(answer, []byte(`"code":200`)) {
		err = fmt.Errorf("refused: %s", answer)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("log in: %w", err)
	}
	return conn, nil
}
