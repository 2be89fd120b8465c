package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	presencev1 "github.com/imcluster/imcluster/api/presence/v1"
	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/gateway/watch"
)

const (
	// maxSubscribing is how many subscriptions may wait for presence at once. Each holds a goroutine, most for 100 ms.
	maxSubscribing = 1024
	// presenceSilence is how long presence may be silent on a connection before it is asked whether it is there, and how
	// long it may then take: the connection to a machine that is gone ends after both.
	presenceSilence = 10 * time.Second
	presenceTimeout = 5 * time.Second
)

var (
	errTooManySubscriptions = "a connection may subscribe to at most %d users; nothing has changed"
	errTooManyUsers         = "a query may have at most %d users"
	errLargeAnswer          = wire.Errorf(wire.CodeTooMuch, "the answer would be larger than may wait for a client; ask for fewer users at once")
	errNobody               = wire.Errorf(wire.CodeBadField, `field "users" is missing`)
	errPresenceAway         = wire.Errorf(wire.CodeUnavailable, "presence cannot be asked now; try again after delayMs")
)

// dialPresence sets up the way to presence, if clients may ask for it. Nothing is connected yet.
func (g *Gateway) dialPresence() error {
	if g.cfg.PresenceAddress == "" || g.cfg.DenyPresence {
		return nil
	}
	conn, err := grpc.NewClient(g.cfg.PresenceAddress,
		// Pod to pod, as the other links of a gateway: who must not read along is kept out by a mesh, or by the network.
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: presenceSilence, Timeout: presenceTimeout}),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: 2 * time.Second,
			Backoff: backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second}}),
	)
	if err != nil {
		return fmt.Errorf("the address of presence: %w", err)
	}
	g.presence = conn
	g.hub = watch.New(watch.Config{
		Client: presencev1.NewPresenceServiceClient(conn), MaxSubscriptions: g.cfg.MaxSubscriptions, Logger: g.cfg.Logger,
		Key: func() string { return string(g.cfg.PeerKeys.Values()[0]) },
	})
	return nil
}

// watchPresence follows presence until ctx ends.
func (g *Gateway) watchPresence(ctx context.Context) {
	if g.hub != nil {
		g.hub.Run(ctx)
	}
}

func (g *Gateway) closePresence() {
	if g.presence != nil {
		_ = g.presence.Close() // only says that it is closed already
	}
}

// presenceQuery handles PRESENCE_QUERY.
func (c *conn) presenceQuery(fr *wire.Frame) {
	most := c.g.cfg.MaxSubscriptions
	switch {
	case c.g.hub == nil:
		c.refuse(fr, errNotAllowed, stateOpen)
	case len(fr.Users) == 0:
		c.refuse(fr, errNobody, stateOpen)
	case len(fr.Users) > most:
		c.refuse(fr, wire.Errorf(wire.CodeTooMuch, errTooManyUsers, most), stateOpen)
	default:
		c.ask(fr, func(ctx context.Context, _ membership) (wire.Frame, error) {
			got, err := c.g.hub.Query(ctx, fr.Users)
			if err != nil {
				c.g.logRare.log(ctx, "asking presence for a client", "error", err)
				return wire.Frame{}, errPresenceAway
			}
			answer := wire.Frame{AsOf: got.GetAsOfMs(), Degraded: got.GetDegraded(), Presence: make([]wire.Presence, len(got.GetUsers()))}
			for i, u := range got.GetUsers() {
				answer.Presence[i] = watch.Presence(u)
			}
			if c.isLarge(answer.Presence) {
				return wire.Frame{}, errLargeAnswer
			}
			return answer, nil
		})
	}
}

// isLarge tells whether a list takes so much that it might cut off a client who reads as fast as can be expected.
func (c *conn) isLarge(list []wire.Presence) bool {
	most, size := c.g.cfg.MaxQueuedBytes/2, 0
	var buf []byte
	for i := range list {
		buf = c.codec.AppendPresence(buf[:0], &list[i])
		size += len(buf) + 1
	}
	return size > most
}

// subscribe handles PRESENCE_SUBSCRIBE. It waits until presence has told how those are who are new.
func (c *conn) subscribe(fr *wire.Frame) {
	g := c.g
	switch {
	case g.hub == nil:
		c.refuse(fr, errNotAllowed, stateOpen)
		return
	case len(fr.Users) == 0 && fr.Action != wire.Replace:
		c.refuse(fr, errNobody, stateOpen)
		return
	}
	w := c.watcher()
	if w == nil {
		return // closing
	}
	defer g.subscribing.Add(-1)
	if g.subscribing.Add(1) > maxSubscribing {
		c.refuse(fr, errPresenceAway, stateOpen)
		return
	}
	c.letOthersWrite()
	if err := c.trySubscribe(w, fr); err != nil {
		c.refuse(fr, err, stateOpen)
	}
}

func (c *conn) trySubscribe(w *watching, fr *wire.Frame) error {
	edit := watch.Edit{Add: fr.Users, Replace: fr.Action == wire.Replace}
	if fr.Action == wire.Unsubscribe {
		edit = watch.Edit{Remove: fr.Users}
	}
	change, err := c.g.hub.Begin(w.subscriber, edit)
	if err == nil {
		ctx, cancel := context.WithTimeout(c.g.ctx, askTimeout)
		err = change.Wait(ctx)
		cancel()
	}
	switch {
	case errors.Is(err, watch.ErrTooMany):
		return wire.Errorf(wire.CodeTooMuch, errTooManySubscriptions, c.g.cfg.MaxSubscriptions)
	case err != nil:
		return errPresenceAway
	}
	if c.isLarge(change.Peek()) {
		change.Cancel()
		return errLargeAnswer
	}
	c.commit(w, change, fr.RequestID)
	return nil
}

// commit changes the subscriptions, and answers with the snapshot before anything that changes after it is told.
func (c *conn) commit(w *watching, change *watch.Change, requestID string) {
	c.mu.Lock()
	w.held = true
	c.mu.Unlock()
	s := change.Commit()
	answer := c.g.encode(c.codec, &wire.Frame{Type: wire.TypeSubscribeResp, Code: wire.CodeOK, RequestID: requestID,
		Presence: s.Presence, Count: int64(s.Count), AsOf: s.AsOf, Degraded: s.Degraded})
	c.mu.Lock()
	for _, t := range s.Removed {
		delete(w.due, t)
	}
	c.mu.Unlock()
	c.enqueue(outFrame, answer)
	c.mu.Lock()
	w.held = false
	c.writeDueAndUnlock(w)
}
