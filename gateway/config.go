package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/imcluster/imcluster/gateway/auth"
	"github.com/imcluster/imcluster/internal/peer"
	"github.com/imcluster/imcluster/presence/store"
)

// Config is what a Gateway needs. Auth, PeerKeys and Store.Addresses are required.
type Config struct {
	// PodName, PodUID and Version go into the lease record. Starting fences all earlier gateways of the same PodUID.
	PodName, PodUID, Version string
	// Cluster is the UID of the IMCluster. Peers of another one are refused.
	Cluster string
	// Store says where the registry is; Store.Grace is also how long a session outlives its connection.
	Store store.Config
	// Auth decides who clients are.
	Auth auth.Authenticator
	// PeerKeys are the keys that gateways prove themselves with to each other.
	PeerKeys peer.Keys

	// Listen is the address for clients, PeerListen that for other gateways, OpsListen that for probes and metrics.
	// Port 0 is any free one. An empty OpsListen means no such listener; the others are required.
	Listen, PeerListen, OpsListen string
	// AdvertiseAddress is how peers reach PeerListen, host:port. Empty means the address that PeerListen is bound to.
	AdvertiseAddress string

	// MaxConnections is how many connections are held at most. Zero means 20,000.
	MaxConnections int
	// MaxFrameBytes is the size of the largest frame that clients may send. Zero means 64 KiB; at most 1 MiB.
	MaxFrameBytes int
	// MaxFramesPerSecond and MaxBytesPerSecond are what one client may send; twice a second's worth may come at once.
	// Zero means 100 frames and 256 KiB; negative means no limit.
	MaxFramesPerSecond, MaxBytesPerSecond int
	// MaxFramesPerSecondPerUser and MaxBytesPerSecondPerUser are what all connections of one user to this gateway may send
	// together; twice a second's worth may come at once. Zero means no limit. How many there may be is
	// Store.MaxDevices.
	MaxFramesPerSecondPerUser, MaxBytesPerSecondPerUser int
	// MaxGroupRecipientsPerSecond is how many recipients the messages to groups of one user may have, over all connections to
	// this gateway; twice a second's worth may come at once. A message counts once for each recipient and begun KiB of its
	// content. Zero means 20,000; negative means no limit.
	MaxGroupRecipientsPerSecond int
	// MaxConnectionsPerAddress is how many connections one client address may have to this gateway, and the others what
	// they may send together; twice a second's worth may come at once. Zero means no limit. Of IPv6 the first 64 bits
	// count as the address, for that is what one customer of a network gets.
	MaxConnectionsPerAddress, MaxFramesPerSecondPerAddress, MaxBytesPerSecondPerAddress int
	// MaxLoginsPerSecondPerAddress is how many logins one client address may try; twice a second's worth may come at once.
	// Zero means no limit.
	MaxLoginsPerSecondPerAddress int
	// TrustedProxies are the networks whose X-Forwarded-For header is believed. Without any, the address of a client is
	// that of its TCP connection.
	TrustedProxies []netip.Prefix
	// AllowedOrigins are the origins of web pages that may connect, such as https://chat.example.com, or
	// https://*.example.com for all names below example.com. None means any. Programs that send no Origin header are
	// not held up: only browsers always tell the truth about it.
	AllowedOrigins []string
	// MaxHandshakes is how many connections may be on the way from TCP to WebSocket at once. Zero means 1,024. The
	// next one waits, and after a second takes the place of the slowest.
	MaxHandshakes int

	// AllowBroadcast lets clients send to everybody who is online, and AllowOnlineList lets them ask who that is.
	AllowBroadcast, AllowOnlineList bool
	// PresenceAddress is where gRPC clients find presence, such as dns:///presence:9090, which gateways ask with a key of
	// PeerKeys. Without it clients can neither ask how users are, nor subscribe; with DenyPresence they may not.
	PresenceAddress string
	DenyPresence    bool
	// MaxSubscriptions is how many users one connection may subscribe to, and ask for at once. Zero means 1,000; at most
	// 10,000.
	MaxSubscriptions int
	// DenyClientGroups leaves the management of groups to back ends. Members may send to them all the same.
	DenyClientGroups bool

	// MaxQueuedBytes is how much may wait for a client that reads too slowly, before it is disconnected. Zero means
	// 512 KiB.
	MaxQueuedBytes int
	// IdleTimeout is how long a client may be silent. It is pinged at half of it. Zero means 30 s.
	IdleTimeout time.Duration
	// RedeliveryDelay is how long a client may acknowledge nothing until it is sent again what it has not acknowledged;
	// twice as long each further time, five times a connection. Zero means 5 s.
	RedeliveryDelay time.Duration
	// LoginTimeout is how long a client may take to log in. Zero means 10 s.
	LoginTimeout time.Duration

	// ShutdownDelay is how long the gateway goes on as before once it is told to stop, and only says that it is not
	// ready, so that nobody is sent to it any more when it stops to listen. Zero means no delay.
	ShutdownDelay time.Duration
	// DrainWindow is how long moving the clients to other gateways may take; what is left then is closed. Zero means
	// 120 s.
	DrainWindow time.Duration
	// DrainMaxReconnectsPerSecond is how many clients a second are asked to move, over all gateways that drain at the
	// same time. Zero means 200.
	DrainMaxReconnectsPerSecond int

	// Logger; nil means no logs. User ids appear at debug level only, tokens and messages never.
	Logger *slog.Logger
	// Meters and Tracers; nil means none.
	Meters  metric.MeterProvider
	Tracers trace.TracerProvider
	// MetricsHandler is served at /metrics of OpsListen; nil means not.
	MetricsHandler http.Handler

	// join replaces opening the store, in tests.
	join func(context.Context, store.Identity, store.Local) (membership, error)
}

const (
	defaultMaxConnections = 20000
	defaultMaxFrameBytes  = 64 << 10
	maxMaxFrameBytes      = 1 << 20
	defaultFrameRate      = 100
	defaultByteRate       = 256 << 10
	defaultGroupRate      = 20000
	defaultMaxQueuedBytes = 512 << 10
	defaultMaxHandshakes  = 1024
	defaultSubscriptions  = 1000
	maxSubscriptions      = 10000
	defaultIdleTimeout    = 30 * time.Second
	defaultLoginTimeout   = 10 * time.Second
	defaultRedelivery     = 5 * time.Second
	defaultMailboxCount   = 500
	defaultMailboxBytes   = 256 << 10
	defaultOwnedGroups    = 1000
	defaultGrace          = 10 * time.Second
	defaultDrainWindow    = 120 * time.Second
	defaultDrainRate      = 200
)

// withDefaults returns the configuration with zero values filled in, or what is wrong with it.
func (c Config) withDefaults() (Config, error) {
	orInt := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	orDuration := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	orInt(&c.MaxConnections, defaultMaxConnections)
	orInt(&c.MaxFrameBytes, defaultMaxFrameBytes)
	orInt(&c.MaxFramesPerSecond, defaultFrameRate)
	orInt(&c.MaxBytesPerSecond, defaultByteRate)
	orInt(&c.MaxGroupRecipientsPerSecond, defaultGroupRate)
	orInt(&c.MaxQueuedBytes, defaultMaxQueuedBytes)
	orInt(&c.MaxHandshakes, defaultMaxHandshakes)
	orInt(&c.MaxSubscriptions, defaultSubscriptions)
	orInt(&c.DrainMaxReconnectsPerSecond, defaultDrainRate)
	orDuration(&c.IdleTimeout, defaultIdleTimeout)
	orDuration(&c.LoginTimeout, defaultLoginTimeout)
	orDuration(&c.RedeliveryDelay, defaultRedelivery)
	orInt(&c.Store.Mailbox.MaxMessages, defaultMailboxCount)
	orInt(&c.Store.Mailbox.MaxBytes, defaultMailboxBytes)
	orInt(&c.Store.MaxOwnedGroups, defaultOwnedGroups)
	orDuration(&c.Store.Grace, defaultGrace)
	orDuration(&c.DrainWindow, defaultDrainWindow)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Meters == nil {
		c.Meters = metricnoop.NewMeterProvider()
	}
	if c.Tracers == nil {
		c.Tracers = tracenoop.NewTracerProvider()
	}
	c.Store.Owner, c.Store.Logger, c.Store.Meter = c.Cluster, c.Logger, c.Meters
	return c, c.check()
}

func (c *Config) check() error {
	switch {
	case c.Auth == nil:
		return errors.New("no authentication is configured")
	case c.PeerKeys == nil || len(c.PeerKeys.Values()[0]) == 0:
		return errors.New("no peer key is configured")
	case c.MaxFrameBytes < 256 || c.MaxFrameBytes > maxMaxFrameBytes:
		return fmt.Errorf("the largest frame must have 256 to %d bytes, not %d", maxMaxFrameBytes, c.MaxFrameBytes)
	case c.MaxQueuedBytes < 2*c.MaxFrameBytes:
		return fmt.Errorf("the bytes queued for a client must be at least two frames of %d, not %d", c.MaxFrameBytes, c.MaxQueuedBytes)
	case c.MaxBytesPerSecond > 0 && c.MaxBytesPerSecond < c.MaxFrameBytes:
		return fmt.Errorf("the bytes a second must allow one frame of %d, not %d", c.MaxFrameBytes, c.MaxBytesPerSecond)
	case min(c.MaxFramesPerSecondPerUser, c.MaxBytesPerSecondPerUser, c.MaxConnectionsPerAddress,
		c.MaxFramesPerSecondPerAddress, c.MaxBytesPerSecondPerAddress, c.MaxHandshakes, c.MaxLoginsPerSecondPerAddress) < 0:
		return errors.New("limits for users, addresses and handshakes must not be negative")
	case tooFewBytes(c.MaxBytesPerSecondPerUser, c.MaxFrameBytes), tooFewBytes(c.MaxBytesPerSecondPerAddress, c.MaxFrameBytes):
		return fmt.Errorf("the bytes a second of a user or an address must allow one frame of %d, not %d", c.MaxFrameBytes,
			cmp.Or(c.MaxBytesPerSecondPerUser, c.MaxBytesPerSecondPerAddress))
	case c.MaxSubscriptions < 1 || c.MaxSubscriptions > maxSubscriptions:
		return fmt.Errorf("the subscriptions of a connection must be 1 to %d, not %d", maxSubscriptions, c.MaxSubscriptions)
	case c.MaxConnections < 1:
		return fmt.Errorf("the number of connections must be positive, not %d", c.MaxConnections)
	case c.IdleTimeout < 0 || c.LoginTimeout < 0 || c.ShutdownDelay < 0 || c.DrainWindow < 0 || c.Store.Grace < 0:
		return errors.New("durations must not be negative")
	case c.DrainMaxReconnectsPerSecond < 1:
		return fmt.Errorf("the reconnects a second must be positive, not %d", c.DrainMaxReconnectsPerSecond)
	}
	return nil
}

func tooFewBytes(rate, frame int) bool { return rate > 0 && rate < frame }

// wheelTick is the precision of time-outs: a hundredth of the idle timeout, 10 to 100 ms.
func (c *Config) wheelTick() time.Duration {
	return min(max(c.IdleTimeout/100, 10*time.Millisecond), 100*time.Millisecond)
}
