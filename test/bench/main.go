package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/imcluster/imcluster/internal/cli"
)

type commands struct {
	Idle  idleCmd  `cmd:"" help:"Memory of idle, logged-in connections."`
	Login loginCmd `cmd:"" help:"Logins with JWT a second."`
	Chat  chatCmd  `cmd:"" help:"One-to-one messages across two gateways."`
	Group groupCmd `cmd:"" help:"Messages to a group of 1,000 on two gateways."`
	Query queryCmd `cmd:"" help:"Users a second that presence tells the state of."`
	Watch watchCmd `cmd:"" help:"How long it takes until those who watch a user know of a change."`
	All   allCmd   `cmd:"" help:"Everything, with the defaults."`
	Serve serveCmd `cmd:"" hidden:"" help:"Run one of the measured servers; the other commands start it."`
}

type allCmd struct{}

func (*allCmd) Run(ctx context.Context) error {
	for _, c := range []cli.Command{
		&idleCmd{From: 2000, To: 10000, Rounds: 2, Watch: 40},
		&loginCmd{Clients: 64, Seconds: 5, Rounds: 3},
		&chatCmd{Loads: []string{"50x1", "100x8"}, Kinds: []string{"gateway", "centrifuge", "socketio", "relay"}, Seconds: 5, Rounds: 3, Payload: 128, AOF: "no"},
		&chatCmd{Loads: []string{"50x1", "100x8"}, Kinds: []string{"gateway"}, Seconds: 5, Rounds: 3, Payload: 128, AOF: "everysec"},
		&chatCmd{Loads: []string{"50x1", "100x8"}, Kinds: []string{"gateway"}, Seconds: 5, Rounds: 3, Payload: 128, AOF: "always"},
		&groupCmd{Members: 1000, InFlight: 4, Kinds: []string{"gateway", "acked", "centrifuge", "socketio"}, Seconds: 4, Rounds: 3, Payload: 128},
		&queryCmd{Users: 20_000, Calls: []int{100, 1000}, Kinds: []string{"mget", "warm", "uncached", "batch"}, Conns: 8, Seconds: 4, Rounds: 3},
		&watchCmd{Loads: []string{"one", "many"}, Conns: 10_000, Rate: 1000, Seconds: 10, Rounds: 2},
	} {
		if err := c.Run(ctx); err != nil {
			return err
		}
	}
	return nil
}

func main() {
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	const name = "bench"
	parser := kong.Must(&commands{}, append(cli.Options(name, "Measures IMCluster beside yardsticks, on loopback."),
		kong.BindTo(ctx, (*context.Context)(nil)))...)
	parsed, err := parser.Parse(os.Args[1:])
	if err != nil {
		err = &cli.ConfigError{Err: err}
	} else {
		err = parsed.Run()
	}
	return cli.Report(os.Stderr, name, err)
}
