// Command imctl tries out and inspects an IMCluster.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strings"
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
	JSON        bool             `name:"json" help:"Print JSON for programs instead of text for people."`
	ShowVersion kong.VersionFlag `name:"version" env:"-" help:"Print the version."`

	Chat     chatCommand     `cmd:"" help:"Chat on the terminal, or have a command handle what arrives."`
	Send     sendCommand     `cmd:"" help:"Send one message."`
	Online   onlineCommand   `cmd:"" help:"List who is online."`
	Presence presenceCommand `cmd:"" help:"Tell whether users are online, where, and since when."`
	Hooks    hooksCommand    `cmd:"" help:"Take hooks, as a back end does, and print them."`
	Watch    watchCommand    `cmd:"" help:"Tell how users are, and then what changes, until Ctrl-C."`
	Why      whyCommand      `cmd:"" help:"Explain why a user is shown as online, offline or unknown."`
	Demo     demoCommand     `cmd:"" help:"Show that a platform works: two users on two gateways chat, and presence sees them."`
	Soak     soakCommand     `cmd:"" help:"Rehearse a rollout: many users chat, and every message must arrive."`
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
		kong.Vars{"version": versionText()},
		kong.Exit(func(c int) { code = c }),
	)...)
	if err != nil {
		return cli.Report(std.err, name, err)
	}
	parsed, err := parser.Parse(askHelp(args))
	switch {
	case code >= 0:
		return code // --help has been answered
	case err != nil:
		return cli.Report(std.err, name, &cli.ConfigError{Err: listCommands(parser, err)})
	}
	parsed.BindTo(ctx, (*context.Context)(nil))
	return cli.Report(std.err, name, hint(parsed.Run(&printer{std: std, json: cmd.JSON, colour: wantsColour(std.out)})))
}

// askHelp turns the usual ways of asking for help into the one that the parser knows.
func askHelp(args []string) []string {
	switch {
	case len(args) == 0:
		return []string{"--help"}
	case args[0] == "help":
		return append(slices.Clone(args[1:]), "--help")
	}
	return args
}

// listCommands adds the commands to the complaint about one that does not exist.
func listCommands(parser *kong.Kong, err error) error {
	var fault *kong.ParseError
	if !errors.As(err, &fault) || fault.Context.Selected() != nil {
		return err
	}
	var names []string
	for _, command := range parser.Model.Children {
		names = append(names, command.Name)
	}
	return fmt.Errorf("%w; the commands are %s", err, strings.Join(names, ", "))
}

// hint adds to a refused connection what to do about it.
func hint(err error) error {
	var request *url.Error // presence is asked by HTTP
	switch {
	case !errors.Is(err, syscall.ECONNREFUSED):
		return err
	case errors.As(err, &request):
		return fmt.Errorf("%w: is \"make dev\" running? Set --presence-url", err)
	}
	return fmt.Errorf("%w: is \"make dev\" running? Set --gateway-url", err)
}
