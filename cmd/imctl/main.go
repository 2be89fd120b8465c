// Command imctl tries out and inspects an IMCluster.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/imcluster/imcluster/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	code := run(ctx, os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}

// streams are the standard streams of the program.
type streams struct {
	in  io.Reader
	out io.Writer
	err io.Writer
}

// command is the command line.
type command struct {
	JSON bool `name:"json" help:"Print JSON for programs instead of text for people."`

	Chat     chatCommand     `cmd:"" help:"Chat on the terminal, or send one message."`
	Online   onlineCommand   `cmd:"" help:"List who is online."`
	Presence presenceCommand `cmd:"" help:"Tell whether users are online, where, and since when."`
	Demo     demoCommand     `cmd:"" help:"Show that a platform works: two users on two gateways chat, and presence sees them."`
	Dev      devCommand      `cmd:"" help:"Run a platform in this process, without Kubernetes, until Ctrl-C."`
	Version  versionCommand  `cmd:"" help:"Print the version."`
}

const description = `Tries out and inspects an IMCluster. The defaults fit the platform that "imctl dev" runs.`

// run is the program; it returns the exit code.
func run(ctx context.Context, args []string, std streams) int {
	const name = "imctl"
	var cmd command
	code := -1
	parser, err := kong.New(&cmd, append(cli.Options(name, description),
		kong.Writers(std.out, std.err),
		kong.Exit(func(c int) { code = c }),
	)...)
	if err != nil {
		return cli.Report(std.err, name, err)
	}
	parsed, err := parser.Parse(args)
	switch {
	case code >= 0:
		return code // --help has been answered
	case err != nil:
		return cli.Report(std.err, name, &cli.ConfigError{Err: err})
	}
	parsed.BindTo(ctx, (*context.Context)(nil))
	return cli.Report(std.err, name, parsed.Run(&printer{std: std, json: cmd.JSON}))
}
