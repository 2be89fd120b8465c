package rpc_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/health" // clients ask for it
	"google.golang.org/grpc/peer"

	presencev1 "github.com/imcluster/imcluster/api/presence/v1"
	"github.com/imcluster/imcluster/internal/testredis"
	"github.com/imcluster/imcluster/presence"
)

// startDNS answers with the IPv4 addresses for every name, as the DNS of Kubernetes does for a headless Service.
func startDNS(t *testing.T, addresses ...[4]byte) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		buf := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if err := m.Unpack(buf[:n]); err != nil {
				t.Error(err)
				return
			}
			m.Response, m.Authoritative, m.Additionals = true, true, nil
			for _, q := range m.Questions {
				if q.Type != dnsmessage.TypeA {
					continue
				}
				for _, a := range addresses {
					m.Answers = append(m.Answers, dnsmessage.Resource{
						Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class}, Body: &dnsmessage.AResource{A: a}})
				}
			}
			answer, err := m.Pack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = conn.WriteTo(answer, from)
		}
	})
	t.Cleanup(func() { _ = conn.Close(); serving.Wait() })
	return conn.LocalAddr().String()
}

// A client that knows the name of the headless Service calls the pods in turn; when one goes away, the other one alone.
func TestRoundRobinOverPods(t *testing.T) {
	t.Parallel()
	redis := testredis.Start(t)
	one := startPod(t, redis.Addr, func(c *presence.Config) { c.ShutdownDelay = 100 * time.Millisecond })
	_, port, err := net.SplitHostPort(one.GRPCAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	two := startPod(t, redis.Addr, func(c *presence.Config) { c.GRPCListen = "127.0.0.2:" + port })
	startGateway(t, redis.Addr, "gateway-1", "alice")
	one.settle(t)
	two.settle(t)

	dns := startDNS(t, [4]byte{127, 0, 0, 1}, [4]byte{127, 0, 0, 2})
	conn := dial(t, "dns://"+dns+"/chat-presence-grpc.default.svc.cluster.local.:"+port, "api", grpc.WithDefaultServiceConfig(
		`{"loadBalancingConfig":[{"round_robin":{}}],"healthCheckConfig":{"serviceName":"imcluster.presence.v1.PresenceService"}}`))
	c := presencev1.NewPresenceServiceClient(conn)
	ask := func() string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		var at peer.Peer
		answer, err := c.BatchGet(ctx, &presencev1.BatchGetRequest{Users: []string{"alice"}}, grpc.Peer(&at), grpc.WaitForReady(true))
		wantCode(t, "call", err, codes.OK)
		if answer.GetUsers()[0].GetState() != online {
			t.Errorf("alice is %s", answer.GetUsers()[0])
		}
		return at.Addr.String()
	}
	eventually(t, func() error { // until both are connected
		if first, second := ask(), ask(); first == second {
			return errors.New("one pod answers twice in a row")
		}
		return nil
	})
	answered := map[string]int{}
	for range 100 {
		answered[ask()]++
	}
	if answered[one.GRPCAddr().String()] != 50 || answered[two.GRPCAddr().String()] != 50 {
		t.Errorf("answered: %v", answered)
	}
	stopped := make(chan struct{})
	go func() { defer close(stopped); one.stop() }()
	for running := true; running; { // no call fails meanwhile
		select {
		case <-stopped:
			running = false
		default:
			ask()
		}
	}
	for range 10 {
		if got := ask(); got != two.GRPCAddr().String() {
			t.Errorf("answered by %s", got)
		}
	}
}
