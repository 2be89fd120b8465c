package main

import (
	"context"
	"fmt"
	"time"

	"github.com/imcluster/imcluster/gateway"
	"github.com/imcluster/imcluster/gateway/auth"
	"github.com/imcluster/imcluster/internal/heap"
	"github.com/imcluster/imcluster/internal/secretdir"
	"github.com/imcluster/imcluster/presence/store"
)

// serveGateway runs a gateway as the gateway program does, on the Redis at the address: with JWT authentication, or without
// any and without limits.
func serveGateway(ctx context.Context, redis, presence string, unlimited bool) (string, error) {
	cfg := gateway.Config{
		PodName: "bench", PodUID: fmt.Sprintf("bench-%d", time.Now().UnixNano()), Cluster: "bench",
		Store:    store.Config{Addresses: []string{redis}, Fresh: true}, // each benchmark starts a Redis of its own
		Auth:     auth.NewJWT(secretdir.Static(jwtKey), "", ""),
		PeerKeys: peerKey, PresenceAddress: presence,
		Listen: "127.0.0.1:0", PeerListen: "127.0.0.1:0",
	}
	heap.Let() // as the gateway program does
	if unlimited {
		cfg.Auth, cfg.MaxFramesPerSecond, cfg.MaxBytesPerSecond = auth.Insecure{}, -1, -1
		cfg.MaxGroupRecipientsPerSecond = -1 // one sender of the group benchmark has more than the 20,000 that are the default
	}
	g, err := gateway.New(cfg)
	if err != nil {
		return "", err
	}
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !g.Ready() {
		select {
		case <-tick.C:
		case err := <-ended:
			return "", fmt.Errorf("the gateway ended: %w", err)
		}
	}
	return g.Addr().String(), nil
}
