package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/imcluster/imcluster/internal/cli"
	"github.com/imcluster/imcluster/internal/demo"
	"github.com/imcluster/imcluster/internal/dev"
	"github.com/imcluster/imcluster/internal/telemetry"
)

type devCommand struct {
	GatewayListen  []string `default:"127.0.0.1:8081,127.0.0.1:8082" help:"Addresses of the gateways."`
	PresenceListen string   `default:"127.0.0.1:8080" help:"Address of the presence service."`
	GRPCListen     string   `name:"grpc-listen" default:"127.0.0.1:9090" help:"Address where presence answers gRPC."`
	APIKey         string   `name:"api-key" default:"dev" help:"API key of the presence service."`
	EmbeddedRedis  bool     `help:"Use the Redis that is written in Go even if there is a redis-server or valkey-server on PATH."`
	Check          bool     `help:"Run the demonstration, and end with its result."`
	LogLevel       string   `enum:"debug,info,warn,error" default:"warn" help:"Least level that is logged: ${enum}."`
}

func (c *devCommand) Run(ctx context.Context, p *printer) error {
	log, err := telemetry.NewLogger(p.std.err, c.LogLevel)
	if err != nil {
		return err
	}
	platform, err := dev.Start(ctx, dev.Config{GatewayListen: c.GatewayListen, PresenceListen: c.PresenceListen, GRPCListen: c.GRPCListen,
		APIKey: c.APIKey, EmbeddedRedis: c.EmbeddedRedis, Logger: log})
	if err != nil {
		return explain(err)
	}
	defer platform.Close()
	if err := c.announce(p, platform); err != nil {
		return err
	}
	if c.Check {
		return runDemo(ctx, p, demo.Config{GatewayURLs: platform.GatewayURLs, Presence: platform.Presence(),
			Token: func(user string) (string, error) { return user, nil }})
	}
	if err := platform.Wait(ctx); err != nil {
		return err
	}
	p.warn("Stopped.")
	return nil
}

// explain names the flags to change when ports are taken.
func explain(err error) error {
	var inUse *dev.PortInUseError
	if !errors.As(err, &inUse) {
		return fmt.Errorf("start the platform: %w", err)
	}
	var flags []string
	if inUse.Presence != "" {
		flags = append(flags, "--presence-listen")
	}
	if inUse.GRPC != "" {
		flags = append(flags, "--grpc-listen")
	}
	if len(inUse.Gateways) > 0 {
		flags = append(flags, "--gateway-listen")
	}
	return cli.Configf("%w: stop it, or choose another address with %s", err, strings.Join(flags, " and "))
}

func (c *devCommand) announce(p *printer, platform *dev.Platform) error {
	if p.json {
		return p.value(struct {
			Gateways []string `json:"gateways"`
			Presence string   `json:"presence"`
			GRPC     string   `json:"grpc"`
			APIKey   string   `json:"apiKey"`
			Redis    string   `json:"redis"`
		}{platform.GatewayURLs, platform.PresenceURL, platform.GRPCAddress, platform.APIKey, platform.RedisAddress})
	}
	p.line("IMCluster is running in this process. It is for trying out: anybody may log in as anybody.\n")
	for i, url := range platform.GatewayURLs {
		p.line("  gateway %d   %s", i+1, url)
	}
	p.line("  presence    %s   API key: %s", platform.PresenceURL, platform.APIKey)
	p.line("  gRPC        %s   the same key", platform.GRPCAddress)
	p.line("  redis       %s   %s\n", platform.RedisAddress, platform.RedisDescription)
	if !c.Check {
		p.line("%s\n\nCtrl-C stops it.", platform.Tips(invocation()))
	}
	return nil
}
