package dev_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/imcluster/imcluster/client"
	"github.com/imcluster/imcluster/internal/demo"
	"github.com/imcluster/imcluster/internal/dev"
)

func TestMain(m *testing.M) {
	// Connections to presence that were kept alive by http.DefaultClient belong to nobody.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

func start(t *testing.T, cfg dev.Config) *dev.Platform {
	t.Helper()
	p, err := dev.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// The demonstration is two users on two gateways who chat, and presence which sees them come and go.
func TestDemonstration(t *testing.T) {
	for name, embedded := range map[string]bool{"redis-server": false, "embedded Redis": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, dev.Config{EmbeddedRedis: embedded})
			var steps int
			err := demo.Run(t.Context(), demo.Config{
				GatewayURLs: p.GatewayURLs, Presence: p.Presence(),
				Token: func(user string) (string, error) { return user, nil },
				Report: func(s demo.Step) {
					steps++
					t.Logf("%s: %s (%s), %v", s.Name, s.Detail, s.Took, s.Err)
				},
			})
			if err != nil || steps != 10 {
				t.Errorf("%d steps, %v", steps, err)
			}
		})
	}
}

// Behind a Service nobody chooses the gateway: the second user connects until it is another one.
func TestDemonstrationBehindOneAddress(t *testing.T) {
	t.Parallel()
	p := start(t, dev.Config{})
	// alice and then bob come to the first gateway, bob's second connection to the other one.
	service := forward(t, p.GatewayURLs[0], p.GatewayURLs[0], p.GatewayURLs[1])
	var details []string
	err := demo.Run(t.Context(), demo.Config{GatewayURLs: []string{service}, Presence: p.Presence(),
		Token:  func(user string) (string, error) { return user, nil },
		Report: func(s demo.Step) { details = append(details, s.Detail) }})
	if err != nil || details[1] != "on gateway-2 (connections tried: 2)" {
		t.Errorf("%q, %v", details, err)
	}
}

// forward returns the URL of a listener whose connections go to targets in turn.
func forward(t *testing.T, targets ...string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for i := 0; ; i++ {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			target, err := url.Parse(targets[i%len(targets)])
			if err != nil {
				t.Error(err)
				return
			}
			out, err := net.Dial("tcp", target.Host)
			if err != nil {
				t.Error(err)
				return
			}
			relay := func(from, to net.Conn) {
				_, _ = io.Copy(to, from)
				_ = to.Close()
			}
			conns.Go(func() { relay(in, out) })
			conns.Go(func() { relay(out, in) })
		}
	})
	t.Cleanup(func() { _ = listener.Close(); conns.Wait() })
	return "ws://" + listener.Addr().String()
}

func TestOneGatewayIsNotEnoughForTheDemonstration(t *testing.T) {
	t.Parallel()
	p := start(t, dev.Config{GatewayListen: []string{"127.0.0.1:0"}})
	err := demo.Run(t.Context(), demo.Config{GatewayURLs: p.GatewayURLs, Presence: p.Presence(),
		Token: func(user string) (string, error) { return user, nil }, Report: func(demo.Step) {}})
	if err == nil || !strings.Contains(err.Error(), "there is only one gateway, gateway-1") {
		t.Errorf("got %v", err)
	}
}

func TestDeviceLogsInElsewhere(t *testing.T) {
	t.Parallel()
	p := start(t, dev.Config{})
	first, err := client.Dial(t.Context(), client.Config{URLs: p.GatewayURLs[:1], Token: client.StaticToken("alice"), DeviceID: "phone"})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := client.Dial(t.Context(), client.Config{URLs: p.GatewayURLs[1:], Token: client.StaticToken("alice"), DeviceID: "phone", Platform: "ios", TokenInHandshake: true})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	select {
	case <-first.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the first connection is still there")
	}
	if !errors.Is(first.Err(), client.ErrKicked) {
		t.Errorf("the first connection ended because of %v", first.Err())
	}
	pc := p.Presence()
	u, _, err := pc.Get(t.Context(), "alice")
	if err != nil || u.State != client.Online || len(u.Devices) != 1 || u.Devices[0].Gateway != "gateway-2" || u.Devices[0].Platform != "ios" {
		t.Errorf("alice: %+v, %v", u, err)
	}
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	address := taken.Addr().String()
	_, err = dev.Start(t.Context(), dev.Config{PresenceListen: address, GatewayListen: []string{"127.0.0.1:0", address}})
	var inUse *dev.PortInUseError
	if !errors.As(err, &inUse) || inUse.Presence != address || !slices.Equal(inUse.Gateways, []string{address}) {
		t.Errorf("got %v", err)
	}
}

func TestStartEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := dev.Start(ctx, dev.Config{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
