package dev

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/imcluster/imcluster/client"
	"github.com/imcluster/imcluster/gateway"
	"github.com/imcluster/imcluster/gateway/auth"
	"github.com/imcluster/imcluster/internal/secretdir"
	"github.com/imcluster/imcluster/internal/version"
	"github.com/imcluster/imcluster/presence"
	"github.com/imcluster/imcluster/presence/store"
)

// Config says what to run. The zero value is two gateways and presence on free ports.
type Config struct {
	// GatewayListen are the addresses of the gateways. Empty means two on free ports of 127.0.0.1.
	GatewayListen []string
	// PresenceListen is the address of the presence service. Empty means a free port of 127.0.0.1.
	PresenceListen string
	// GRPCListen is where presence answers gRPC. Empty means a free port of 127.0.0.1.
	GRPCListen string
	// APIKey of the presence service. Empty means "dev".
	APIKey string
	// EmbeddedRedis uses the Redis that is written in Go even if there is a server on PATH.
	EmbeddedRedis bool
	// Logger; nil means no logs.
	Logger *slog.Logger
}

// What clients of LeanCloud are initialised with to ask a platform of this package.
const (
	LeanCloudAppID  = "dev"
	LeanCloudAppKey = "dev"
)

const (
	defaultAPIKey = "dev"
	anyPort       = "127.0.0.1:0"
	startTimeout  = 20 * time.Second
	// drainWindow is short: nobody waits for it, as all gateways stop together.
	drainWindow = time.Second
)

// PortInUseError says that addresses of the configuration are taken.
type PortInUseError struct {
	// Gateways are those of gateways.
	Gateways []string
	// Presence is that of the presence service, if it is taken, and GRPC that where it answers gRPC.
	Presence, GRPC string
}

func (e *PortInUseError) Error() string {
	taken := slices.DeleteFunc([]string{e.Presence, e.GRPC}, func(address string) bool { return address == "" })
	taken = append(taken, e.Gateways...)
	if len(taken) == 1 {
		return taken[0] + " is in use by another program"
	}
	return strings.Join(taken, ", ") + " are in use by another program"
}

// Platform is a running platform. Tokens are user ids.
type Platform struct {
	// GatewayURLs are the WebSocket addresses, one for each gateway.
	GatewayURLs []string
	// PresenceURL and APIKey are for the HTTP API.
	PresenceURL, APIKey string
	// GRPCAddress is host:port where presence answers gRPC, with the same key.
	GRPCAddress string
	// RedisAddress is host:port of the Redis, and RedisDescription says for people what it is.
	RedisAddress, RedisDescription string

	redis  *redis
	stop   context.CancelFunc
	parts  sync.WaitGroup
	failed chan error
}

// Presence returns a client of the query service.
func (p *Platform) Presence() client.Presence {
	return client.Presence{URL: p.PresenceURL, Key: p.APIKey}
}

// Start runs a platform and returns when it is ready. ctx bounds the start only; [Platform.Close] ends the platform. An
// address that is taken is a [*PortInUseError].
func Start(ctx context.Context, cfg Config) (*Platform, error) {
	if len(cfg.GatewayListen) == 0 {
		cfg.GatewayListen = []string{anyPort, anyPort}
	}
	cfg.PresenceListen, cfg.GRPCListen = cmp.Or(cfg.PresenceListen, anyPort), cmp.Or(cfg.GRPCListen, anyPort)
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()

	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	p := &Platform{APIKey: cmp.Or(cfg.APIKey, defaultAPIKey), stop: stop, failed: make(chan error, len(cfg.GatewayListen)+1)}
	if err := p.start(ctx, running, cfg); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

func (p *Platform) start(ctx, running context.Context, cfg Config) (err error) {
	// Before Redis is started, so that the usual mistake is told at once.
	if err := checkAddresses(cfg); err != nil {
		return err
	}
	if p.redis, err = startRedis(ctx, cfg.EmbeddedRedis); err != nil {
		return err
	}
	p.RedisAddress, p.RedisDescription = p.redis.Address, p.redis.Description
	st := store.Config{Addresses: []string{p.redis.Address}, Fresh: true}
	peerKey := secretdir.Static([]byte(rand.Text()))

	server, err := presence.New(presence.Config{
		Listen: cfg.PresenceListen, GRPCListen: cfg.GRPCListen, Store: st, APIKey: secretdir.Static([]byte(p.APIKey)), PeerKey: peerKey, Logger: cfg.Logger,
		LeanCloud: presence.LeanCloud{AppID: LeanCloudAppID, AppKey: secretdir.Static([]byte(LeanCloudAppKey))}})
	if err != nil {
		return err
	}
	p.PresenceURL, p.GRPCAddress = "http://"+server.Addr().String(), server.GRPCAddr().String()
	p.run(running, server.Run)
	ready := []func() bool{server.Ready}

	for i, address := range cfg.GatewayListen {
		name := "gateway-" + strconv.Itoa(i+1)
		g, err := gateway.New(gateway.Config{
			PodName: name, PodUID: name, Version: version.Version(), Store: st, Auth: auth.Insecure{}, PeerKeys: peerKey,
			Listen: address, PeerListen: anyPort, DrainWindow: drainWindow, Logger: cfg.Logger,
			AllowBroadcast: true, AllowOnlineList: true, PresenceAddress: p.GRPCAddress,
		})
		if err != nil {
			return err
		}
		p.GatewayURLs = append(p.GatewayURLs, "ws://"+g.Addr().String()+"/ws")
		p.run(running, g.Run)
		ready = append(ready, g.Ready)
	}
	return p.await(ctx, ready)
}

// run runs a part of the platform until running ends.
func (p *Platform) run(running context.Context, part func(context.Context) error) {
	p.parts.Go(func() {
		if err := part(running); err != nil && running.Err() == nil {
			p.failed <- err
		}
	})
}

// await waits until all parts are ready, and presence sees every gateway.
func (p *Platform) await(ctx context.Context, ready []func() bool) error {
	for {
		if !slices.ContainsFunc(ready, func(ready func() bool) bool { return !ready() }) && p.complete(ctx) {
			return nil
		}
		select {
		case err := <-p.failed:
			return err
		case <-ctx.Done():
			return fmt.Errorf("the platform is not ready: %w", ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// complete tells whether presence sees every gateway.
func (p *Platform) complete(ctx context.Context) bool {
	pc := p.Presence()
	counts, err := pc.Count(ctx)
	return err == nil && len(counts.Gateways) == len(p.GatewayURLs)
}

// Wait returns when ctx ends, or with an error when a part of the platform fails.
func (p *Platform) Wait(ctx context.Context) error {
	select {
	case err := <-p.failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

// Close ends the platform: gateways and presence first, and then Redis.
func (p *Platform) Close() {
	p.stop()
	p.parts.Wait()
	if p.redis != nil {
		p.redis.stop()
	}
}

// checkAddresses fails if addresses cannot be listened on, and names all that are taken.
func checkAddresses(cfg Config) error {
	var taken PortInUseError
	for _, address := range cfg.GatewayListen {
		switch err := checkAddress(address); {
		case errors.Is(err, syscall.EADDRINUSE):
			taken.Gateways = append(taken.Gateways, address)
		case err != nil:
			return err
		}
	}
	for address, to := range map[string]*string{cfg.PresenceListen: &taken.Presence, cfg.GRPCListen: &taken.GRPC} {
		switch err := checkAddress(address); {
		case errors.Is(err, syscall.EADDRINUSE):
			*to = address
		case err != nil:
			return err
		}
	}
	if taken.Presence != "" || taken.GRPC != "" || len(taken.Gateways) > 0 {
		return &taken
	}
	return nil
}

func checkAddress(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return listener.Close()
}

// Tips are commands to try, for people; imctl is what to type to run this program.
func (p *Platform) Tips(imctl string) string {
	replace := strings.NewReplacer("IMCTL", imctl, "GW1", p.GatewayURLs[0], "GW2", p.GatewayURLs[len(p.GatewayURLs)-1],
		"PRESENCE", p.PresenceURL, "KEY", p.APIKey)
	return replace.Replace(`Chat between two terminals, on two gateways (the token is the user id):
  IMCTL chat --gateway-url GW1 --token alice
  IMCTL chat --gateway-url GW2 --token bob --to alice

Ask who is online:
  IMCTL online --presence-url PRESENCE --api-key KEY
  curl -H 'Authorization: Bearer KEY' PRESENCE/v1/presence/alice
  curl -H 'Authorization: Bearer KEY' -H 'Content-Type: application/json' -d '{"users":["alice","bob"]}' PRESENCE/v1/presence:batchGet

Frame by frame, with any WebSocket client:
  websocat GW1
  {"type":"10","token":"carol"}
  {"type":"80","toId":"alice","content":{"contentType":1,"body":"hello"}}

All of it at once:
  IMCTL demo --gateway-url GW1,GW2 --presence-url PRESENCE --api-key KEY`)
}
