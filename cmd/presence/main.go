// Command presence answers who is online, and sends messages for the application's back end.
package main

import (
	"context"
	"net"
	"os"
	"time"

	"github.com/imcluster/imcluster/internal/cli"
	"github.com/imcluster/imcluster/internal/heap"
	"github.com/imcluster/imcluster/internal/redisflags"
	"github.com/imcluster/imcluster/internal/secretdir"
	"github.com/imcluster/imcluster/internal/telemetry"
	"github.com/imcluster/imcluster/presence"
	"github.com/imcluster/imcluster/presence/hooks"
)

func main() {
	os.Exit(cli.Main("presence", "Answers who is online in an IMCluster, and sends messages, over HTTP and gRPC.", &command{}))
}

// command holds the flags of the program.
type command struct {
	Listen         string `default:":8080" help:"Address of the public API."`
	InternalListen string `default:":8082" help:"Address of the API for the operator, which takes the peer key."`
	OpsListen      string `default:":8081" help:"Address of /livez, /readyz and /metrics."`
	GRPCListen     string `name:"grpc-listen" default:":9090" help:"Address of the API over gRPC."`

	APIKeyDir  string `name:"api-key-dir" required:"" placeholder:"DIR" help:"Directory of a mounted Secret whose files 'current' and, optionally, 'previous' are the API keys that are accepted."`
	PeerKeyDir string `required:"" placeholder:"DIR" help:"The same for the key of the internal API, which is also shown to gateways."`
	ClusterUID string `name:"cluster-uid" help:"UID of the IMCluster, which owns the keys in Redis. Unset: not checked."`

	LeanCloudAppID     string `name:"leancloud-app-id" help:"App id of clients of LeanCloud, which may ask who is online. Unset: they may not."`
	LeanCloudAppKeyDir string `name:"leancloud-app-key-dir" placeholder:"DIR" help:"Directory of a mounted Secret with their app key, as --api-key-dir has it."`

	HooksURL       string        `name:"hooks-url" placeholder:"URL" help:"Where to post events of who comes online and goes offline. Unset: nowhere."`
	HooksSecretDir string        `placeholder:"DIR" help:"Directory of a mounted Secret with the key that events are signed with, as --api-key-dir has it."`
	HooksTimeout   time.Duration `default:"5s" help:"How long the receiver of events may take to answer."`

	UserStatusOpen  bool          `help:"Let anybody call the gRPC service pb.UserStatus without a key, as its published clients do. Only where the network lets nobody else through."`
	UserStatusLease time.Duration `default:"24h" help:"How long a chat server that registers users through pb.UserStatus is believed to be alive after a call, unless it calls KeepAlive."`

	Redis    redisflags.Flags    `embed:"" prefix:"redis-"`
	Messages redisflags.Messages `embed:""`

	MaxQueryUsers     int           `default:"5000" help:"How many users a batch may ask for."`
	MaxWatchUsers     int           `default:"1000000" help:"How many users a watch over gRPC may list."`
	MaxHTTPWatchUsers int           `name:"max-http-watch-users" default:"5000" help:"How many users a watch over HTTP may be for."`
	LastSeenRetention time.Duration `default:"168h" help:"How long it is remembered when a user was last seen."`
	Grace             time.Duration `default:"10s" help:"How long users of a dead gateway are shown online after its last sign of life. The same for all gateways and presence pods."`
	LeaseTTL          time.Duration `name:"lease-ttl" default:"15s" help:"How long a gateway that cannot be heard is believed to be alive. The same for all gateways and presence pods."`
	ShutdownDelay     time.Duration `default:"5s" help:"How long to go on answering after a stop signal, until nobody asks any more."`

	PodName      string `help:"Name of the pod, for metrics and traces."`
	OTLPEndpoint string `name:"otlp-endpoint" placeholder:"HOST:PORT" help:"OTLP gRPC receiver of traces. Unset: no traces."`
	LogLevel     string `enum:"debug,info,warn,error" default:"info" help:"Least level that is logged: ${enum}."`
}

// Run serves until ctx ends.
func (c *command) Run(ctx context.Context) error {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	tel, err := telemetry.Start(ctx, telemetry.Config{Service: "imcluster-presence", Instance: c.PodName, OTLPEndpoint: c.OTLPEndpoint})
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		_ = tel.Shutdown(ctx)
	}()
	cfg.Meters, cfg.Tracers, cfg.Metrics = tel.Meters(), tel.Tracers(), tel.Handler()
	heap.Let()
	server, err := presence.New(cfg)
	if err != nil {
		return err
	}
	return server.Run(ctx)
}

// config checks the flags.
func (c *command) config() (presence.Config, error) {
	for flag, address := range map[string]string{"listen": c.Listen, "internal-listen": c.InternalListen, "ops-listen": c.OpsListen, "grpc-listen": c.GRPCListen} {
		if _, _, err := net.SplitHostPort(address); err != nil {
			return presence.Config{}, cli.Configf("--%s: %q is not [host]:port", flag, address)
		}
	}
	for flag, d := range map[string]time.Duration{"last-seen-retention": c.LastSeenRetention, "grace": c.Grace, "lease-ttl": c.LeaseTTL, "user-status-lease": c.UserStatusLease} {
		if d <= 0 {
			return presence.Config{}, cli.Configf("--%s must be more than zero", flag)
		}
	}
	for flag, n := range map[string]int{"max-query-users": c.MaxQueryUsers, "max-watch-users": c.MaxWatchUsers} {
		if n < 1 {
			return presence.Config{}, cli.Configf("--%s must be at least 1", flag)
		}
	}
	if c.MaxHTTPWatchUsers < 1 {
		return presence.Config{}, cli.Configf("--max-http-watch-users must be at least 1")
	}
	log, err := telemetry.NewLogger(os.Stdout, c.LogLevel)
	if err != nil {
		return presence.Config{}, cli.Configf("--log-level: %w", err)
	}
	cfg := presence.Config{
		Listen: c.Listen, InternalListen: c.InternalListen, OpsListen: c.OpsListen, GRPCListen: c.GRPCListen,
		OpenUserStatus: c.UserStatusOpen, MaxQueryUsers: c.MaxQueryUsers, MaxWatchUsers: c.MaxWatchUsers, MaxHTTPWatchUsers: c.MaxHTTPWatchUsers, ShutdownDelay: c.ShutdownDelay, Logger: log,
	}
	if cfg.Store, err = c.Redis.Config(); err != nil {
		return presence.Config{}, err
	}
	if err := c.Messages.Apply(&cfg.Store); err != nil {
		return presence.Config{}, err
	}
	cfg.Cluster, cfg.Store.Retention = c.ClusterUID, c.LastSeenRetention
	cfg.Store.LeaseTTL, cfg.Store.Grace, cfg.Store.ExternalLease = c.LeaseTTL, c.Grace, c.UserStatusLease
	if cfg.APIKey, err = secretdir.Open(c.APIKeyDir); err != nil {
		return presence.Config{}, cli.Configf("--api-key-dir: %w", err)
	}
	if cfg.PeerKey, err = secretdir.Open(c.PeerKeyDir); err != nil {
		return presence.Config{}, cli.Configf("--peer-key-dir: %w", err)
	}
	if cfg.Hooks, err = c.hooks(); err != nil {
		return presence.Config{}, err
	}
	if cfg.LeanCloud, err = c.leanCloud(); err != nil {
		return presence.Config{}, err
	}
	return cfg, nil
}

func (c *command) leanCloud() (presence.LeanCloud, error) {
	if (c.LeanCloudAppID == "") != (c.LeanCloudAppKeyDir == "") {
		return presence.LeanCloud{}, cli.Configf("--leancloud-app-id and --leancloud-app-key-dir go together")
	}
	if c.LeanCloudAppID == "" {
		return presence.LeanCloud{}, nil
	}
	key, err := secretdir.Open(c.LeanCloudAppKeyDir)
	if err != nil {
		return presence.LeanCloud{}, cli.Configf("--leancloud-app-key-dir: %w", err)
	}
	return presence.LeanCloud{AppID: c.LeanCloudAppID, AppKey: key}, nil
}

func (c *command) hooks() (presence.Hooks, error) {
	if (c.HooksURL == "") != (c.HooksSecretDir == "") {
		return presence.Hooks{}, cli.Configf("--hooks-url and --hooks-secret-dir go together")
	}
	if c.HooksURL == "" {
		return presence.Hooks{}, nil
	}
	if err := hooks.CheckURL(c.HooksURL); err != nil {
		return presence.Hooks{}, cli.Configf("--hooks-url: %w", err)
	}
	if c.HooksTimeout <= 0 {
		return presence.Hooks{}, cli.Configf("--hooks-timeout must be more than zero")
	}
	secret, err := secretdir.Open(c.HooksSecretDir)
	if err != nil {
		return presence.Hooks{}, cli.Configf("--hooks-secret-dir: %w", err)
	}
	return presence.Hooks{URL: c.HooksURL, Secret: secret, Timeout: c.HooksTimeout}, nil
}
