package main

import (
	"os"
	"strings"

	"github.com/imcluster/imcluster/client"
	"github.com/imcluster/imcluster/internal/cli"
)

// presenceFlags say where the query service is.
type presenceFlags struct {
	PresenceURL string `name:"presence-url" default:"http://127.0.0.1:8080" placeholder:"URL" help:"The presence service. Default: ${default}"`
	APIKey      string `name:"api-key" default:"dev" placeholder:"KEY" help:"Its API key. Default: ${default}"`
	APIKeyFile  string `name:"api-key-file" placeholder:"FILE" help:"File with the API key; goes before --api-key."`
}

func (f *presenceFlags) client() (client.Presence, error) {
	if !strings.HasPrefix(f.PresenceURL, "http://") && !strings.HasPrefix(f.PresenceURL, "https://") {
		return client.Presence{}, cli.Configf("--presence-url: %q does not begin with http:// or https://", f.PresenceURL)
	}
	key := f.APIKey
	if f.APIKeyFile != "" {
		data, err := os.ReadFile(f.APIKeyFile)
		if err != nil {
			return client.Presence{}, cli.Configf("--api-key-file: %w", err)
		}
		if key = strings.TrimSpace(string(data)); key == "" {
			return client.Presence{}, cli.Configf("--api-key-file: %s is empty", f.APIKeyFile)
		}
	}
	return client.Presence{URL: f.PresenceURL, Key: key}, nil
}

// gatewayFlags say where the gateways are.
type gatewayFlags struct {
	GatewayURL []string `name:"gateway-url" default:"ws://127.0.0.1:8081/ws,ws://127.0.0.1:8082/ws" placeholder:"URL" help:"WebSocket address of a gateway, or of several or a Service in front of them. Default: ${default}"`
}

func (f *gatewayFlags) urls() ([]string, error) {
	for _, u := range f.GatewayURL {
		if !strings.HasPrefix(u, "ws://") && !strings.HasPrefix(u, "wss://") {
			return nil, cli.Configf("--gateway-url: %q does not begin with ws:// or wss://", u)
		}
	}
	if len(f.GatewayURL) == 0 {
		return nil, cli.Configf("--gateway-url is empty")
	}
	return f.GatewayURL, nil
}
