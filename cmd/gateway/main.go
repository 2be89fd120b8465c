// Gateway holds the WebSocket connections of clients and routes messages between them.
package main

import (
	"context"
	"net"
	"os"
	"time"

	"github.com/alecthomas/kong"

	"github.com/imcluster/imcluster/gateway"
	"github.com/imcluster/imcluster/gateway/auth"
	"github.com/imcluster/imcluster/internal/cli"
	"github.com/imcluster/imcluster/internal/redisflags"
	"github.com/imcluster/imcluster/internal/secretdir"
	"github.com/imcluster/imcluster/internal/telemetry"
	"github.com/imcluster/imcluster/internal/version"
)

// command is the command line.
type command struct {
	Redis redisflags.Flags `embed:"" prefix:"redis-"`

	Listen           string `default:":8080" help:"Where clients connect, at the path /ws."`
	PeerListen       string `default:":9091" help:"Where other gateways connect."`
	AdvertiseAddress string `placeholder:"HOST:PORT" help:"How other gateways reach --peer-listen. Unset: --pod-ip and the port of --peer-listen."`
	OpsListen        string `default:":8081" help:"Where /livez, /readyz and /metrics are served; empty: nowhere."`

	AuthMode     string `required:"" enum:"jwt,insecure" help:"How clients prove who they are: with a JSON Web Token (jwt), or not at all (insecure: the token is the user id)."`
	JWTSecretDir string `name:"jwt-secret-dir" placeholder:"DIR" help:"Directory of a mounted Secret whose file 'current', and optionally 'previous', is the HS256 key of tokens."`
	JWTIssuer    string `name:"jwt-issuer" help:"Required iss of tokens. Unset: any."`
	JWTAudience  string `name:"jwt-audience" help:"Required aud of tokens. Unset: any."`

	MaxConnections     int           `default:"20000" help:"Connections held at most."`
	MaxFrameBytes      int           `default:"65536" help:"Size of the largest frame that a client may send, at most 1048576."`
	MaxFramesPerSecond int           `default:"100" help:"Frames a second that a client may send; twice that at once. Negative: no limit."`
	MaxBytesPerSecond  int           `default:"262144" help:"Bytes a second that a client may send; twice that at once. Negative: no limit."`
	MaxQueuedBytes     int           `default:"524288" help:"Bytes that may wait for a client that reads too slowly before it is disconnected."`
	IdleTimeout        time.Duration `default:"30s" help:"How long a client may be silent. It is pinged at half of it."`
	LoginTimeout       time.Duration `default:"10s" help:"How long a client may take to log in."`

	ShutdownDelay               time.Duration `default:"5s" help:"How long to go on, but not ready, once told to stop."`
	DrainWindow                 time.Duration `default:"120s" help:"How long moving the clients to other gateways may take; what is left then is closed."`
	DrainMaxReconnectsPerSecond int           `default:"200" help:"Clients a second that are asked to move, over all gateways that drain at the same time."`

	ClusterUID string        `name:"cluster-uid" help:"UID of the IMCluster. Owns the keys in Redis; other gateways are asked for it."`
	PeerKeyDir string        `required:"" placeholder:"DIR" help:"Directory of a mounted Secret whose file 'current', and optionally 'previous', is the key between gateways."`
	LeaseTTL   time.Duration `name:"lease-ttl" default:"15s" help:"How long this gateway is believed to be alive when nothing is heard of it."`
	Grace      time.Duration `default:"10s" help:"How long a user counts as online after the connection was lost."`
	PodName    string        `help:"Name of the pod. Unset: the host name."`
	PodUID     string        `name:"pod-uid" help:"UID of the pod. Starting ends all earlier gateways of the same pod."`
	PodIP      string        `name:"pod-ip" help:"IP address of the pod."`

	OTLPEndpoint string           `name:"otlp-endpoint" placeholder:"HOST:PORT" help:"Where traces are sent by OTLP over gRPC. Unset: there are none."`
	LogLevel     string           `default:"info" enum:"debug,info,warn,error" help:"Least level to log: ${enum}."`
	Version      kong.VersionFlag `help:"Print the version and exit."`
}

func main() {
	os.Exit(cli.Main("gateway", "WebSocket gateway of an IMCluster.", &command{}))
}

// Run runs the gateway until ctx ends and its clients have moved.
func (c *command) Run(ctx context.Context) error {
	logger, err := telemetry.NewLogger(os.Stderr, c.LogLevel)
	if err != nil {
		return cli.Configf("--log-level: %w", err)
	}
	cfg, err := c.config()
	if err != nil {
		return err
	}
	tel, err := telemetry.Start(ctx, telemetry.Config{Service: "imcluster-gateway", Instance: cfg.PodName, OTLPEndpoint: c.OTLPEndpoint})
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if err := tel.Shutdown(ctx); err != nil {
			logger.Warn("sending the last traces", "error", err)
		}
	}()
	cfg.Logger, cfg.Meters, cfg.Tracers, cfg.MetricsHandler = logger, tel.Meters(), tel.Tracers(), tel.Handler()
	g, err := gateway.New(cfg)
	if err != nil {
		return &cli.ConfigError{Err: err}
	}
	return g.Run(ctx)
}

// config is the gateway's configuration by the flags.
func (c *command) config() (gateway.Config, error) {
	storeConfig, err := c.Redis.Config()
	if err != nil {
		return gateway.Config{}, err
	}
	storeConfig.LeaseTTL, storeConfig.Grace = c.LeaseTTL, c.Grace
	cfg := gateway.Config{
		PodName: c.PodName, PodUID: c.PodUID, Version: version.Version(), Cluster: c.ClusterUID, Store: storeConfig,
		Listen: c.Listen, PeerListen: c.PeerListen, OpsListen: c.OpsListen, AdvertiseAddress: c.AdvertiseAddress,
		MaxConnections: c.MaxConnections, MaxFrameBytes: c.MaxFrameBytes,
		MaxFramesPerSecond: c.MaxFramesPerSecond, MaxBytesPerSecond: c.MaxBytesPerSecond, MaxQueuedBytes: c.MaxQueuedBytes,
		IdleTimeout: c.IdleTimeout, LoginTimeout: c.LoginTimeout,
		ShutdownDelay: c.ShutdownDelay, DrainWindow: c.DrainWindow, DrainMaxReconnectsPerSecond: c.DrainMaxReconnectsPerSecond,
	}
	if cfg.PodName == "" {
		if cfg.PodName, err = os.Hostname(); err != nil {
			return gateway.Config{}, cli.Configf("--pod-name is not set, and the host has no name: %w", err)
		}
	}
	if cfg.AdvertiseAddress == "" && c.PodIP != "" {
		_, port, err := net.SplitHostPort(c.PeerListen)
		if err != nil {
			return gateway.Config{}, cli.Configf("--peer-listen: %q is not host:port", c.PeerListen)
		}
		cfg.AdvertiseAddress = net.JoinHostPort(c.PodIP, port)
	}
	peerKey, err := secretdir.Open(c.PeerKeyDir)
	if err != nil {
		return gateway.Config{}, cli.Configf("--peer-key-dir: %w", err)
	}
	cfg.PeerKeys = peerKey
	cfg.Auth, err = c.authenticator()
	return cfg, err
}

func (c *command) authenticator() (auth.Authenticator, error) {
	if c.AuthMode == "insecure" {
		if c.JWTSecretDir != "" || c.JWTIssuer != "" || c.JWTAudience != "" {
			return nil, cli.Configf("--jwt-secret-dir, --jwt-issuer and --jwt-audience have no effect with --auth-mode=insecure")
		}
		return auth.Insecure{}, nil
	}
	if c.JWTSecretDir == "" {
		return nil, cli.Configf("--jwt-secret-dir is not set: --auth-mode=jwt needs the key of the tokens")
	}
	key, err := secretdir.Open(c.JWTSecretDir)
	if err != nil {
		return nil, cli.Configf("--jwt-secret-dir: %w", err)
	}
	return auth.NewJWT(key, c.JWTIssuer, c.JWTAudience), nil
}
