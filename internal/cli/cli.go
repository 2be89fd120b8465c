// Package cli is what the commands of IMCluster have in common: flags that are also environment variables, signals, and
// exit codes.
//
// Exit codes: 0 the command did what it was asked; 1 it failed while running; 2 it was called or configured wrongly.
package cli

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/imcluster/imcluster/internal/version"
)

// EnvPrefix begins the environment variable of every flag: --redis-addresses is IMC_REDIS_ADDRESSES.
const EnvPrefix = "IMC"

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// ConfigError is a fault of the configuration, which says what to change. It makes the command exit with 2.
type ConfigError struct{ Err error }

func (e *ConfigError) Error() string { return e.Err.Error() }
func (e *ConfigError) Unwrap() error { return e.Err }

// Configf makes a ConfigError.
func Configf(format string, args ...any) error {
	return &ConfigError{Err: fmt.Errorf(format, args...)}
}

// Command is what a binary parses its flags into. Run gets a context that ends at SIGINT or SIGTERM.
type Command interface {
	Run(ctx context.Context) error
}

// Main parses the command line into cmd, runs it, and returns the exit code. name and description are for --help.
func Main(name, description string, cmd Command) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return run(ctx, name, description, cmd, os.Args[1:], os.Stdout, os.Stderr)
}

func run(ctx context.Context, name, description string, cmd Command, args []string, stdout, stderr io.Writer) int {
	code := -1
	parser, err := kong.New(cmd, append(Options(name, description),
		kong.Writers(stdout, stderr),
		kong.Exit(func(c int) { code = c }),
	)...)
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return exitUsage
	}
	if _, err = parser.Parse(args); code >= 0 {
		return code // --help and --version have been answered
	}
	if err == nil {
		err = cmd.Run(ctx)
	} else {
		err = &ConfigError{Err: err}
	}
	return Report(stderr, name, err)
}

// Options are the parser options that all commands share, for those with subcommands of their own.
func Options(name, description string) []kong.Option {
	return []kong.Option{
		kong.Name(name),
		kong.Description(description),
		kong.DefaultEnvars(EnvPrefix),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true}),
		kong.Vars{"version": version.Version()},
	}
}

// Report prints err for people and returns the exit code that it stands for.
func Report(stderr io.Writer, name string, err error) int {
	var config *ConfigError
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return exitOK
	case errors.As(err, &config):
		fmt.Fprintf(stderr, "%s: %v\nRun '%s --help' for the flags; each is also an environment variable.\n", name, err, name)
		return exitUsage
	default:
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return exitFailed
	}
}

// CertPool reads the certificates that a flag names a PEM file of.
func CertPool(flag, file string) (*x509.CertPool, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, Configf("%s: %w", flag, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, Configf("%s: %s holds no PEM certificate", flag, file)
	}
	return pool, nil
}
