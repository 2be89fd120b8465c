package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/gorilla/websocket"
	"golang.org/x/sync/errgroup"
)

// loginCmd measures logins a second in a closed loop: connect, send the login frame, read the answer, disconnect.
type loginCmd struct {
	Clients int `default:"64" help:"Clients that log in at once."`
	Seconds int `default:"5" help:"Length of a round."`
	Rounds  int `default:"3" help:"Rounds, each of every server in turn."`
}

// jwtKey signs the tokens of this run.
var jwtKey = []byte("a key of the benchmark, 32 bytes.")

func (c *loginCmd) Run(ctx context.Context) error {
	redis, err := startRedis(ctx, "no")
	if err != nil {
		return err
	}
	defer redis.stop()
	fmt.Printf("Logins with JWT HS256, closed loop of %d clients, %d s a round\n", c.Clients, c.Seconds)
	frames, err := loginFrames(50_000)
	if err != nil {
		return err
	}
	kinds := []string{"naive", "gateway"}
	rates := map[string][]float64{}
	var ratios []float64
	for range c.Rounds {
		for _, kind := range kinds {
			rate, err := c.measure(ctx, kind, redis.addr, frames)
			if err != nil {
				return fmt.Errorf("measure %s: %w", kind, err)
			}
			rates[kind] = append(rates[kind], rate)
		}
		last := len(rates["naive"]) - 1
		ratios = append(ratios, 100*rates["gateway"][last]/rates["naive"][last])
	}
	for _, kind := range kinds {
		fmt.Printf("  %-8s %s\n", kind, spreadOf(rates[kind]).show("%.0f", "logins/s"))
	}
	fmt.Printf("  ratio    %s; bar: at least 60 %%; yardstick: a bare gorilla/websocket server that answers one frame\n\n",
		spreadOf(ratios).show("%.0f", "%"))
	return nil
}

// loginFrames signs n tokens before the clock runs.
func loginFrames(n int) ([]string, error) {
	frames := make([]string, n)
	expires := jwt.NewNumericDate(time.Now().Add(time.Hour))
	for i := range frames {
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256,
			jwt.RegisteredClaims{Subject: user(i), ExpiresAt: expires}).SignedString(jwtKey)
		if err != nil {
			return nil, err
		}
		frames[i] = fmt.Sprintf(`{"type":"10","token":%q,"deviceId":"phone"}`, token)
	}
	return frames, nil
}

func user(i int) string { return fmt.Sprintf("user%08d", i) }

// logout closes the connection as a client does that leaves on purpose, which also takes its session away.
func logout(conn *websocket.Conn) {
	_ = conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Second))
	conn.Close()
}

func (c *loginCmd) measure(ctx context.Context, kind, redis string, frames []string) (float64, error) {
	srv, err := startServer(ctx, kind, "--redis="+redis)
	if err != nil {
		return 0, err
	}
	defer srv.stop()
	var next, done atomic.Int64
	start := time.Now()
	end := start.Add(time.Duration(c.Seconds) * time.Second)
	g, ctx := errgroup.WithContext(ctx)
	for range c.Clients {
		g.Go(func() error {
			for time.Now().Before(end) {
				conn, err := login(ctx, srv.addr, frames[int(next.Add(1))%len(frames)])
				if err != nil {
					return err
				}
				done.Add(1)
				logout(conn)
			}
			return nil
		})
	}
	err = g.Wait()
	return float64(done.Load()) / time.Since(start).Seconds(), err
}
