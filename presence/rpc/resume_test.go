package rpc_test

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	presencev1 "github.com/imcluster/imcluster/api/presence/v1"
	"github.com/imcluster/imcluster/internal/testredis"
	"github.com/imcluster/imcluster/presence"
)

// The events of one pod go on from the token of another one.
func TestWatchGoesOnAtAnotherPod(t *testing.T) {
	t.Parallel()
	redis := testredis.Start(t)
	var log bytes.Buffer
	one, two := startPod(t, redis.Addr, func(c *presence.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) }), startPod(t, redis.Addr)
	g := startGateway(t, redis.Addr, "gateway-1", "alice", "bob")
	one.settle(t)
	two.settle(t)
	list := []string{"alice", "bob", "carol"}
	w := watch(t, one, &presencev1.WatchRequest{Add: list})
	w.becomes(t, online, "alice", "bob")
	one.stop()
	_, err := w.Recv()
	for err == nil {
		_, err = w.Recv()
	}
	wantCode(t, "watch of a pod that stopped", err, codes.Unavailable)
	if strings.Contains(log.String(), "cut off") {
		t.Errorf("the pod waited for the watch:\n%s", &log)
	}

	g.logOut("bob")
	next := watch(t, two, &presencev1.WatchRequest{Add: list, Token: w.token})
	if told := next.becomes(t, offline, "bob"); slices.Contains(told, "alice") {
		t.Errorf("told of alice again: %v", told)
	}
	other := watch(t, two, &presencev1.WatchRequest{Add: list[1:], Token: w.token})
	_, err = other.Recv()
	wantCode(t, "a token of another list", err, codes.OutOfRange)
}
