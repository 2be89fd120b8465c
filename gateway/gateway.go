package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"

	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/gateway/cork"
	"github.com/imcluster/imcluster/gateway/watch"
	"github.com/imcluster/imcluster/gateway/wheel"
	"github.com/imcluster/imcluster/internal/peer"
	"github.com/imcluster/imcluster/presence/store"
)

// Gateway is one gateway. Several may run in one process.
type Gateway struct {
	// Fixed after construction.
	cfg      Config
	tracer   trace.Tracer
	upgrader websocket.Upgrader
	ping     *websocket.PreparedMessage
	clients  *net.TCPListener
	forPeers *net.TCPListener
	forOps   *net.TCPListener // nil without
	wheel    *wheel.Wheel
	workers  *workers
	writers  *writers
	peers    *peer.Node
	metrics  *metrics
	logRare  *rareLog
	origins  *origins
	presence *grpc.ClientConn // nil if clients may not ask for it
	hub      *watch.Hub       // likewise
	// Nil without limits for all connections of a user, or of an address.
	users     *shares[string]
	addresses *shares[netip.Addr]
	logins    *shares[netip.Addr] // counted as frames
	ctx       context.Context     // of logins; ends when the gateway stops
	cancel    context.CancelFunc

	table        table
	nextID       atomic.Uint64
	loggingIn    atomic.Int64
	subscribing  atomic.Int64 // subscriptions that wait for presence
	confirming   atomic.Int64 // logouts that wait for the store
	asking       atomic.Int64 // requests of clients that wait for the store
	pendingBytes atomic.Int64
	member       atomic.Pointer[membership] // nil until joined
	draining     atomic.Bool                // no logins any more
	leaving      atomic.Bool                // told to stop
	wasReady     atomic.Bool                // said once that it is ready
	heldBy       atomic.Int64               // sessions on draining gateways that the start waits for
	turned       atomic.Int64               // Unix seconds when the wheel was last seen to turn

	mailboxes         *mailboxes
	groups            groupCache
	groupQuota        *groupQuota
	sweepWanted       chan struct{} // holds a token while a sweep is wanted
	broadcastsWaiting chan waitingBroadcast

	lastEpoch atomic.Pointer[store.Epoch] // the last one that was put into epochs
	epochsMu  sync.Mutex
	epochs    map[store.Epoch]struct{} // those this process has or had

	connsMu sync.Mutex
	conns   conn // sentinel of the ring of all connections
	count   int
	stopped bool // no connections any more
	readers sync.WaitGroup
}

// New binds the gateway's addresses. Run must be called, or Close.
func New(cfg Config) (*Gateway, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("configure the gateway: %w", err)
	}
	g := &Gateway{cfg: cfg, epochs: map[store.Epoch]struct{}{}, workers: newWorkers(), writers: newWriters(),
		sweepWanted: make(chan struct{}, 1), broadcastsWaiting: make(chan waitingBroadcast, maxBroadcasts)}
	g.mailboxes = newMailboxes(g)
	g.conns.prev, g.conns.next = &g.conns, &g.conns
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.wheel = wheel.New(cfg.wheelTick())
	g.tracer = cfg.Tracers.Tracer(scope)
	g.logRare = newRareLog(cfg.Logger)
	g.shareLimits()
	g.groupQuota = newGroupQuota(g.wheel, cfg.MaxGroupRecipientsPerSecond)
	if g.origins, err = parseOrigins(cfg.AllowedOrigins); err != nil {
		return nil, fmt.Errorf("configure the gateway: %w", err)
	}
	g.upgrader = websocket.Upgrader{
		HandshakeTimeout: 5 * time.Second,
		// 512 would save half a kilobyte a connection more, but chats of a few hundred bytes are the rule.
		ReadBufferSize: 1024, WriteBufferSize: writeBufferSize, WriteBufferPool: &sync.Pool{},
		CheckOrigin: func(*http.Request) bool { return true }, // see origins
	}
	if g.ping, err = websocket.NewPreparedMessage(websocket.PingMessage, nil); err != nil {
		return nil, fmt.Errorf("prepare the ping: %w", err)
	}
	if g.metrics, err = newMetrics(g); err != nil {
		return nil, fmt.Errorf("create metrics: %w", err)
	}
	if err := g.listen(); err != nil {
		g.Close()
		return nil, err
	}
	if err := g.dialPresence(); err != nil {
		g.Close()
		return nil, fmt.Errorf("configure the gateway: %w", err)
	}
	g.peers = peer.New(peer.Config{
		Cluster: cfg.Cluster, Keys: cfg.PeerKeys, Handler: g, Logger: cfg.Logger,
		Epoch: g.epoch, Resolve: g.resolve,
	})
	return g, nil
}

// listen binds the addresses.
func (g *Gateway) listen() error {
	// Probes of idle connections are rare: WebSocket pings find dead ones much sooner, and Go's default of one probe
	// every 15 s would cost more than they do.
	lc := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 15 * time.Second, Count: 4}}
	for _, l := range []struct {
		what, address string
		to            **net.TCPListener
	}{
		{"clients", g.cfg.Listen, &g.clients}, {"peers", g.cfg.PeerListen, &g.forPeers}, {"probes", g.cfg.OpsListen, &g.forOps},
	} {
		if l.address == "" && l.to == &g.forOps {
			continue
		}
		listener, err := lc.Listen(g.ctx, "tcp", l.address)
		if err != nil {
			return fmt.Errorf("listen for %s: %w", l.what, err)
		}
		*l.to = listener.(*net.TCPListener)
	}
	return nil
}

// Close releases the addresses of a gateway that was never run.
func (g *Gateway) Close() {
	g.cancel()
	for _, l := range []*net.TCPListener{g.clients, g.forPeers, g.forOps} {
		if l != nil {
			l.Close()
		}
	}
	g.metrics.close()
	if g.peers != nil {
		g.peers.Close()
	}
	g.closePresence()
}

// Addr is the address for clients: WebSocket at /ws.
func (g *Gateway) Addr() net.Addr { return g.clients.Addr() }

// PeerAddr is the address for other gateways.
func (g *Gateway) PeerAddr() net.Addr { return g.forPeers.Addr() }

// OpsAddr is the address for probes and metrics, nil without one.
func (g *Gateway) OpsAddr() net.Addr {
	if g.forOps == nil {
		return nil
	}
	return g.forOps.Addr()
}

// Ready tells whether clients should be sent to this gateway: it has started once, which may have to wait until not too many
// clients are on the move, and does not drain.
func (g *Gateway) Ready() bool { return g.wasReady.Load() && !g.leaving.Load() }

// Run serves until ctx ends, and then drains: it returns when all clients have left, or the drain window is over, and
// nothing of the gateway is left running. It returns an error if the gateway cannot work: wrapping
// [store.ErrForeignOwner] or [store.ErrIncompatible], or [store.ErrBanned] when its pod is gone from the cluster.
func (g *Gateway) Run(ctx context.Context) error {
	base, stopBase := context.WithCancel(context.WithoutCancel(ctx))
	failed := make(chan error, 4)
	var wg sync.WaitGroup
	g.writers.start()
	servers := g.serve(&wg, failed)
	for _, run := range []func(context.Context){g.wheel.Run, g.mailboxes.watchGaps, g.sweeps, g.broadcasts, g.watchPresence} {
		wg.Go(func() { run(base) })
	}
	g.watchWheel()
	joined := make(chan error, 1)
	go func() { joined <- g.membership(base, ctx) }()

	var err error
	left := false // the membership has ended
	select {
	case <-ctx.Done():
		g.drain(ctx, joined)
	case err = <-joined:
		left = true
	case err = <-failed:
	}
	g.leaving.Store(true)
	g.stop(servers)
	if err == nil && !left {
		g.leave(base)
	}
	stopBase()
	if !left {
		if memberErr := <-joined; err == nil && !errors.Is(memberErr, context.Canceled) {
			err = memberErr
		}
	}
	wg.Wait()
	g.closePresence()
	g.metrics.close()
	return err
}

// serve starts the servers. They report failures of their listeners.
func (g *Gateway) serve(wg *sync.WaitGroup, failed chan<- error) []*http.Server {
	quiet := quietLogger(g.cfg.Logger)
	inProgress := newHandshakes(g.cfg.MaxHandshakes)
	ws := &http.Server{Handler: g.routes(), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 5 * time.Second,
		MaxHeaderBytes: 8 << 10, ErrorLog: quiet, ConnState: inProgress.changed}
	servers := []*http.Server{ws}
	start := func(what string, serve func() error) {
		wg.Go(func() {
			if err := serve(); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
				failed <- fmt.Errorf("serve %s: %w", what, err)
			}
		})
	}
	start("clients", func() error { return ws.Serve(gate{cork.Listener{TCPListener: g.clients}, inProgress}) })
	start("peers", func() error { return g.peers.Serve(g.forPeers) })
	if g.forOps != nil {
		ops := &http.Server{Handler: g.opsRoutes(), ReadHeaderTimeout: 5 * time.Second, ErrorLog: quiet}
		servers = append(servers, ops)
		start("probes", func() error { return ops.Serve(g.forOps) })
	}
	return servers
}

// stop closes all connections and servers, and waits for everything but the membership and the wheel.
func (g *Gateway) stop(servers []*http.Server) {
	g.draining.Store(true)
	servers[0].Close()
	g.closeAll(reasonStopped)
	g.awaitReaders(closeTimeout + time.Second)
	g.cancel()
	g.peers.Close()
	g.writers.close()
	g.workers.close()
	g.readers.Wait()
	for _, s := range servers[1:] {
		s.Close()
	}
}

// epoch is the current epoch, empty before the gateway has joined.
func (g *Gateway) epoch() string {
	m := g.member.Load()
	if m == nil {
		return ""
	}
	e := (*m).Epoch()
	if last := g.lastEpoch.Load(); last == nil || *last != e {
		g.epochsMu.Lock()
		g.epochs[e] = struct{}{}
		g.epochsMu.Unlock()
		last := e // so that only this is on the heap
		g.lastEpoch.Store(&last)
	}
	return string(e)
}

// isOwn tells whether an epoch is or was that of this process.
func (g *Gateway) isOwn(e store.Epoch) bool {
	if string(e) == g.epoch() {
		return true
	}
	g.epochsMu.Lock()
	defer g.epochsMu.Unlock()
	_, ok := g.epochs[e]
	return ok
}

// resolve returns the address of a live peer.
func (g *Gateway) resolve(epoch string) (string, bool) {
	m := g.member.Load()
	if m == nil {
		return "", false
	}
	p, ok := (*m).Peer(store.Epoch(epoch))
	return p.Address, ok
}

// encode encodes a frame to send, and counts it.
func (g *Gateway) encode(codec wire.Codec, f *wire.Frame) []byte {
	g.metrics.sent[f.Type].Add(1)
	return codec.Append(make([]byte, 0, 128+len(f.Content)), f)
}
