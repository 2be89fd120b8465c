package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/imcluster/imcluster/internal/heap"
	"github.com/imcluster/imcluster/internal/secretdir"
	"github.com/imcluster/imcluster/presence"
	"github.com/imcluster/imcluster/presence/store"
)

// The keys by which the load knows itself to presence.
const (
	benchApp = "bench"
	benchKey = "key-of-the-benchmark"
)

// peerKey is what pods of one IMCluster know each other by.
var peerKey = secretdir.Static([]byte("peer key of the benchmark"))

// servePresence runs presence as the presence program does, on the Redis at the address; uncached without the memory from which
// it answers. It returns the addresses of HTTP and gRPC.
func servePresence(ctx context.Context, redis string, uncached bool) (addr, rpc string, err error) {
	heap.Let()
	key := secretdir.Static([]byte(benchKey))
	s, err := presence.New(presence.Config{
		Listen: "127.0.0.1:0", GRPCListen: "127.0.0.1:0", Cluster: "bench", APIKey: key, PeerKey: peerKey,
		LeanCloud: presence.LeanCloud{AppID: benchApp, AppKey: key},
		Store:     store.Config{Addresses: []string{redis}, Fresh: true},
		Uncached:  uncached,
	})
	if err != nil {
		return "", "", err
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !s.Ready(); {
		select {
		case <-tick.C:
		case err := <-ended:
			return "", "", fmt.Errorf("presence ended: %w", err)
		}
		if time.Now().After(deadline) {
			return "", "", errors.New("presence does not become ready")
		}
	}
	return s.Addr().String(), s.GRPCAddr().String(), nil
}
