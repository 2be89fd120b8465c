package presence_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/client"
	"github.com/imcluster/imcluster/gateway"
	"github.com/imcluster/imcluster/gateway/auth"
	"github.com/imcluster/imcluster/internal/secretdir"
	"github.com/imcluster/imcluster/internal/testredis"
	"github.com/imcluster/imcluster/presence"
	"github.com/imcluster/imcluster/presence/store"
)

// The tests on a platform run whole gateways beside the service.

// ticket is a token that tells what a JWT would, without a signature.
type ticket struct {
	User   string    `json:"user"`
	ID     string    `json:"id"`
	Issued time.Time `json:"issued"`
}

func (k ticket) source() client.TokenSource {
	b, _ := json.Marshal(k) // strings and a time
	return client.StaticToken(string(b))
}

type tickets struct{}

func (tickets) Authenticate(_ context.Context, c auth.Credentials) (auth.Identity, error) {
	var k ticket
	if err := json.Unmarshal([]byte(c.Token), &k); err != nil {
		return auth.Identity{}, wire.Errorf(wire.CodeInvalidToken, "no ticket: %v", err)
	}
	return auth.Identity{User: k.User, TokenID: k.ID, Issued: k.Issued}, nil
}

// platform is a service and gateways on one Redis.
type platform struct {
	*service
	t        *testing.T
	redis    store.Config
	gateways []*runningGateway
}

type runningGateway struct {
	*gateway.Gateway
	stop func()
}

// startPlatform starts gateways and a service on a Redis.
func startPlatform(t *testing.T, redis store.Config, gateways int) *platform {
	t.Helper()
	redis.Fresh = true
	p := &platform{t: t, redis: redis}
	p.service = startService(t, "", func(c *presence.Config) { c.Store, c.Cluster = redis, "cluster" })
	for i := range gateways {
		p.startGateway(fmt.Sprint("gateway-", i))
	}
	eventually(t, func() error {
		counts, err := p.Count(t.Context())
		if err == nil && len(counts.Gateways) != gateways {
			err = fmt.Errorf("%d gateways", len(counts.Gateways))
		}
		return err
	})
	return p
}

func (p *platform) startGateway(pod string) {
	p.t.Helper()
	g, err := gateway.New(gateway.Config{
		PodName: pod, PodUID: pod, Cluster: "cluster", Store: p.redis, Auth: tickets{}, PeerKeys: secretdir.Static([]byte("peer")),
		Listen: "127.0.0.1:0", PeerListen: "127.0.0.1:0", DrainWindow: time.Second,
	})
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	running := &runningGateway{Gateway: g, stop: func() {
		cancel()
		err := <-ended
		ended <- err // for the next call
		if err != nil {
			p.t.Errorf("%s: %v", pod, err)
		}
	}}
	p.gateways = append(p.gateways, running)
	p.t.Cleanup(running.stop)
	eventually(p.t, func() error {
		if !g.Ready() {
			return fmt.Errorf("%s is not ready", pod)
		}
		return nil
	})
}

// inbox is a client that keeps what it gets.
type inbox struct {
	*client.Client
	messages chan client.Message
}

// dial logs a device in on a gateway.
func (p *platform) dial(on int, k ticket, device string) (*inbox, error) {
	in := &inbox{messages: make(chan client.Message, 100)}
	var err error
	in.Client, err = client.Dial(p.t.Context(), client.Config{
		URLs: []string{"ws://" + p.gateways[on].Addr().String()}, Token: k.source(), DeviceID: device,
		OnMessage: func(_ context.Context, m client.Message) error {
			in.messages <- m
			return nil
		},
	})
	if err == nil {
		p.t.Cleanup(func() { in.Close() })
	}
	return in, err
}

func (p *platform) login(on int, k ticket, device string) *inbox {
	p.t.Helper()
	in, err := p.dial(on, k, device)
	if err != nil {
		p.t.Fatal(err)
	}
	return in
}

// revoked waits until the client was sent away for good.
func (p *platform) revoked(c *inbox, reason string) {
	p.t.Helper()
	select {
	case <-c.Done():
	case <-time.After(patience):
		p.t.Fatal("the session was not ended")
	}
	var refused *client.Error
	if err := c.Err(); !errors.As(err, &refused) || refused.Code != wire.CodeRevoked || !strings.Contains(err.Error(), reason) {
		p.t.Errorf("the client ended with %v", err)
	}
}

// stays checks that a client is connected and that the server knows it.
func (p *platform) stays(c *inbox) {
	p.t.Helper()
	if _, err := c.SendText(p.t.Context(), "nobody", "still here"); err != nil {
		p.t.Errorf("%s on %s: %v", c.UserID(), c.DeviceID(), err)
	}
}

func refusedWith(code wire.Code, err error) bool {
	var refused *client.Error
	return errors.As(err, &refused) && refused.Code == code
}

// Revocations reach connections on every gateway, and hold for logins on every gateway.
func TestDisconnectedSessionsEndOnEveryGateway(t *testing.T) {
	redis := testredis.Start(t)
	p, ctx := startPlatform(t, storeConfig(redis.Addr), 2), t.Context()
	issued := time.Now().Add(-time.Minute)
	phone := p.login(0, ticket{"alice", "t1", issued}, "phone")
	tablet := p.login(1, ticket{"alice", "t2", issued}, "tablet")
	laptop := p.login(1, ticket{"alice", "t3", issued}, "laptop")
	bob := p.login(0, ticket{"bob", "t1", issued}, "phone")

	if err := p.Disconnect(ctx, "alice", client.Disconnection{TokenID: "t1", Reason: "stolen"}); err != nil {
		t.Fatal(err)
	}
	p.revoked(phone, "stolen")
	p.stays(tablet)
	for on := range p.gateways {
		if _, err := p.dial(on, ticket{"alice", "t1", issued}, "phone"); !refusedWith(wire.CodeRevoked, err) {
			t.Errorf("the token logs in on gateway %d: %v", on, err)
		}
	}
	if err := p.Disconnect(ctx, "alice", client.Disconnection{Device: "tablet", Until: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	p.revoked(tablet, "")
	p.stays(laptop)
	if err := p.Disconnect(ctx, "alice", client.Disconnection{}); err != nil {
		t.Fatal(err)
	}
	p.revoked(laptop, "")
	p.stays(bob)
	if _, err := p.dial(0, ticket{"alice", "t4", issued}, "watch"); !refusedWith(wire.CodeRevoked, err) {
		t.Errorf("a token that was issued before logs in: %v", err)
	}
	fresh := p.login(1, ticket{"alice", "t5", time.Now().Add(time.Minute)}, "tablet")
	p.stays(fresh)
	if err := p.Reinstate(ctx, "alice"); err != nil {
		t.Fatal(err)
	}
	p.stays(p.login(0, ticket{"alice", "t1", issued}, "phone"))

	// To end sessions and refuse nothing.
	if err := p.Disconnect(ctx, "bob", client.Disconnection{Until: time.Unix(1, 0)}); err != nil {
		t.Fatal(err)
	}
	p.revoked(bob, "")
	p.stays(p.login(0, ticket{"bob", "t1", issued}, "phone"))
}

// A Redis that is away refuses a revocation, and connections outlive that; once it is back the same request works.
func TestDisconnectWhileRedisIsAway(t *testing.T) {
	redis := testredis.Start(t)
	p, ctx := startPlatform(t, storeConfig(redis.Addr), 1), t.Context()
	alice := p.login(0, ticket{User: "alice"}, "phone")
	redis.Pause()
	var unavailable *client.APIError
	if err := p.Disconnect(ctx, "alice", client.Disconnection{}); !errors.As(err, &unavailable) || unavailable.Status != 503 || unavailable.RetryAfter <= 0 {
		t.Errorf("with Redis paused: %v", err)
	}
	redis.Resume()
	eventually(t, func() error { return p.Disconnect(ctx, "alice", client.Disconnection{}) })
	p.revoked(alice, "")
}
