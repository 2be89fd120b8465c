package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/centrifugal/centrifuge"
)

// serveCentrifuge runs a node of Centrifuge, the library that Centrifugo is built on, with its Redis engine. A user may
// subscribe to any channel, with recovery, and publish to any; the last 500 messages of a channel are kept, as many as a
// mailbox of ours.
func serveCentrifuge(ctx context.Context, redis string) (string, error) {
	node, err := centrifuge.New(centrifuge.Config{})
	if err != nil {
		return "", err
	}
	shard, err := centrifuge.NewRedisShard(node, centrifuge.RedisShardConfig{Address: redis})
	if err != nil {
		return "", fmt.Errorf("connect Centrifuge to Redis: %w", err)
	}
	broker, err := centrifuge.NewRedisBroker(node, centrifuge.RedisBrokerConfig{Shards: []*centrifuge.RedisShard{shard}})
	if err != nil {
		return "", fmt.Errorf("make the broker of Centrifuge: %w", err)
	}
	node.SetBroker(broker)
	node.OnConnecting(func(_ context.Context, e centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return centrifuge.ConnectReply{Credentials: &centrifuge.Credentials{UserID: e.Token}}, nil
	})
	node.OnConnect(func(client *centrifuge.Client) {
		client.OnSubscribe(func(_ centrifuge.SubscribeEvent, done centrifuge.SubscribeCallback) {
			done(centrifuge.SubscribeReply{Options: centrifuge.SubscribeOptions{EnableRecovery: true}}, nil)
		})
		client.OnPublish(func(_ centrifuge.PublishEvent, done centrifuge.PublishCallback) {
			done(centrifuge.PublishReply{Options: centrifuge.PublishOptions{HistorySize: 500, HistoryTTL: time.Hour}}, nil)
		})
	})
	if err := node.Run(); err != nil {
		return "", fmt.Errorf("run Centrifuge: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("/connection/websocket", centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{
		ReadBufferSize: 1024, UseWriteBufferPool: true,
		CheckOrigin: func(*http.Request) bool { return true },
	}))
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = srv.Serve(l) }()
	return l.Addr().String(), nil
}
