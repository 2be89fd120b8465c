// Gateway holds the WebSocket connections of clients and routes messages between them.
package main

import (
	"context"
	"os"
	"time"

	"github.com/alecthomas/kong"
	"google.golang.org/grpc/resolver/dns"

	"github.com/imcluster/imcluster/gateway"
	"github.com/imcluster/imcluster/internal/cli"
	"github.com/imcluster/imcluster/internal/heap"
	"github.com/imcluster/imcluster/internal/redisflags"
	"github.com/imcluster/imcluster/internal/telemetry"
)

// command is the command line.
type command struct {
	Redis        redisflags.Flags    `embed:"" prefix:"redis-"`
	Messages     redisflags.Messages `embed:""`
	StoreTimeout time.Duration       `default:"5s" help:"How long a write may wait for Redis before it is refused with a code that asks to try again."`

	Listen           string `default:":8080" help:"Where clients connect, at the path /ws."`
	PeerListen       string `default:":9091" help:"Where other gateways connect."`
	AdvertiseAddress string `placeholder:"HOST:PORT" help:"How other gateways reach --peer-listen. Unset: --pod-ip and the port of --peer-listen."`
	OpsListen        string `default:":8081" help:"Where /livez, /readyz and /metrics are served; empty: nowhere."`
	PresenceAddress  string `placeholder:"TARGET" help:"Where presence answers gRPC, such as dns:///chat-presence-grpc:9090; asked with the key of --peer-key-dir. Unset: clients cannot ask how users are."`

	AuthMode   string       `required:"" enum:"jwt,webhook,insecure" help:"How clients prove who they are: with a JSON Web Token (jwt), with a token that a webhook judges (webhook), or not at all (insecure: the token is the user id)."`
	AuthCAFile string       `name:"auth-ca-file" placeholder:"FILE" help:"PEM file of the certificate authorities to trust for --jwt-jwks-url and --webhook-url. Unset: those of the system."`
	JWT        jwtFlags     `embed:"" prefix:"jwt-"`
	Webhook    webhookFlags `embed:"" prefix:"webhook-"`

	Limits limitFlags `embed:""`

	AllowedOrigins    []string `placeholder:"ORIGIN" help:"Origins of web pages that may connect, such as https://chat.example.com or https://*.example.com. Unset: any. Clients that are no browsers are not held up."`
	AllowBroadcast    bool     `help:"Let clients send to everybody who is online."`
	AllowOnlineList   bool     `help:"Let clients ask who is online."`
	AllowPresence     bool     `default:"true" negatable:"" help:"Let clients ask how other users are, and subscribe to them; needs --presence-address."`
	AllowClientGroups bool     `default:"true" negatable:"" help:"Let clients make and change groups; without, only back ends may."`

	RedeliveryDelay time.Duration `default:"5s" help:"How long a client may acknowledge nothing until it is sent again what it has not acknowledged; twice as long each time."`

	IdleTimeout  time.Duration `default:"30s" help:"How long a client may be silent. It is pinged at half of it."`
	LoginTimeout time.Duration `default:"10s" help:"How long a client may take to log in."`

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
	if cfg.Auth, err = c.authenticator(logger, tel.Meters()); err != nil {
		return err
	}
	cfg.Logger, cfg.Meters, cfg.Tracers, cfg.MetricsHandler = logger, tel.Meters(), tel.Tracers(), tel.Handler()
	heap.Let()
	// A rollout of presence replaces all of its pods within seconds. Looking for the new ones only every 30 s, which is gRPC's own
	// pace, would leave clients without news for so long.
	dns.SetMinResolutionInterval(5 * time.Second)
	g, err := gateway.New(cfg)
	if err != nil {
		return &cli.ConfigError{Err: err}
	}
	return g.Run(ctx)
}
