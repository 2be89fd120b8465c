package presence

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/imcluster/imcluster/internal/peer"
	"github.com/imcluster/imcluster/internal/secretdir"
	"github.com/imcluster/imcluster/presence/replica"
	"github.com/imcluster/imcluster/presence/store"
)

// Defaults of Config.
const (
	DefaultMaxQueryUsers     = 5000
	DefaultMaxHTTPWatchUsers = 5000
	DefaultQueryTimeout      = 2 * time.Second
	DefaultSendTimeout       = 12 * time.Second
)

// Limits of the HTTP servers. The write timeout covers the largest answer, 5,000 users with devices, to a slow reader.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 15 * time.Second
	writeTimeout      = 30 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 16 << 10
	// finishTimeout is how long requests that are being answered may take after the listeners are closed.
	finishTimeout = 10 * time.Second
	// retryDelay is the pause, ±20 %, before Redis is tried again.
	retryDelay = time.Second
)

// Config says where to listen and what to serve.
type Config struct {
	// Listen is host:port of the public API. Port 0 picks a free one; see [Server.Addr].
	Listen string
	// InternalListen, OpsListen and GRPCListen are host:port of the other listeners. Empty means that they are not served.
	InternalListen, OpsListen, GRPCListen string
	// Store says where Redis is. Its logger and meter are those of this Config unless set.
	Store store.Config
	// APIKey is what callers of the public API authenticate with.
	APIKey *secretdir.Secret
	// PeerKey is what callers of the internal API authenticate with, and what the server proves to gateways that it sends
	// messages by. Required with InternalListen; without it no messages can be sent.
	PeerKey *secretdir.Secret
	// Cluster is the UID of the IMCluster, the same as the gateways'. Store.Owner is set to it if that is empty.
	Cluster string
	// LeanCloud lets clients of LeanCloud ask who is online; not if its AppID is empty.
	LeanCloud LeanCloud
	// OpenUserStatus lets anybody who reaches the gRPC listener call pb.UserStatus, and no other service, without a key.
	OpenUserStatus bool
	// Hooks tell a back end who comes online and goes offline.
	Hooks Hooks
	// MaxQueryUsers is how many users a batch may ask for; zero means 5,000.
	MaxQueryUsers int
	// MaxWatchUsers is how many users a watch over gRPC may list; zero means 1,000,000.
	MaxWatchUsers int
	// MaxHTTPWatchUsers is how many users a watch over HTTP may be for; zero means 5,000.
	MaxHTTPWatchUsers int
	// QueryTimeout is how long Redis may take for one query; zero means 2 s. What is not read by then is unknown.
	QueryTimeout time.Duration
	// Uncached has every query asked of Redis, and none of memory: to measure what that is worth.
	Uncached bool
	// SendTimeout is how long a gateway may take to send a message; zero means 12 s: for a group it asks Redis twice, and waits 5 s
	// each time.
	SendTimeout time.Duration
	// ShutdownDelay is how long to go on serving after readiness was taken away, so that the news gets around.
	ShutdownDelay time.Duration
	// Logger; nil means no logs. User ids appear at no level.
	Logger *slog.Logger
	// Meters and Tracers; nil means none. Metrics is what the ops listener serves at /metrics; nil means nothing.
	Meters  metric.MeterProvider
	Tracers trace.TracerProvider
	Metrics http.Handler
}

// Server is one presence pod. Make it with [New].
type Server struct {
	cfg      Config
	log      *slog.Logger
	model    *lateStore
	replica  *replica.Replica
	telem    *instruments
	public   *endpoint
	internal *endpoint    // nil if not served
	ops      *endpoint    // nil if not served
	rpc      *rpcEndpoint // nil if not served

	publisher publisher // nil without a peer key
	closePeer func()    // ends the publisher

	// serving ends when the listeners close: whoever watches is asked to come back.
	serving     context.Context
	stopServing context.CancelFunc
	stopping    atomic.Bool
	outage      atomic.Int64 // Unix seconds when it was last logged that Redis cannot be asked
}

// New checks the configuration and opens the listeners, so that a port that is taken is an error here and the addresses
// are known. [Server.Run] must follow, or [Server.Close]; Redis is not asked before.
func New(cfg Config) (*Server, error) {
	if cfg.APIKey == nil {
		return nil, errors.New("new presence server: no API key")
	}
	if cfg.InternalListen != "" && cfg.PeerKey == nil {
		return nil, errors.New("new presence server: no peer key for the internal API")
	}
	if cfg.LeanCloud.AppID != "" && cfg.LeanCloud.AppKey == nil {
		return nil, errors.New("new presence server: no app key for LeanCloud's clients")
	}
	if err := checkHooks(cfg.Hooks); err != nil {
		return nil, fmt.Errorf("new presence server: %w", err)
	}
	cfg.MaxQueryUsers = cmp.Or(cfg.MaxQueryUsers, DefaultMaxQueryUsers)
	cfg.MaxHTTPWatchUsers = cmp.Or(cfg.MaxHTTPWatchUsers, DefaultMaxHTTPWatchUsers)
	cfg.QueryTimeout = cmp.Or(cfg.QueryTimeout, DefaultQueryTimeout)
	cfg.SendTimeout = cmp.Or(cfg.SendTimeout, DefaultSendTimeout)
	cfg.Store.Owner = cmp.Or(cfg.Store.Owner, cfg.Cluster)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Meters == nil {
		cfg.Meters = metricnoop.NewMeterProvider()
	}
	if cfg.Tracers == nil {
		cfg.Tracers = tracenoop.NewTracerProvider()
	}
	cfg.Store.Logger = cmp.Or(cfg.Store.Logger, cfg.Logger)
	if cfg.Store.Meter == nil {
		cfg.Store.Meter = cfg.Meters
	}
	s := &Server{cfg: cfg, log: cfg.Logger, model: &lateStore{timeout: cfg.QueryTimeout, uncached: cfg.Uncached}, closePeer: func() {}}
	s.serving, s.stopServing = context.WithCancel(context.Background())
	if cfg.PeerKey != nil {
		p := peer.NewPublisher(peer.PublisherConfig{Cluster: cfg.Cluster, Keys: cfg.PeerKey, Gateways: s.gateways, Logger: cfg.Logger})
		s.publisher, s.closePeer = p, p.Close
	}
	var err error
	if s.replica, err = replica.New(replica.Config{
		Source: redisAlone{s.model}, Retention: cfg.Store.Retention, Logger: cfg.Logger, Meters: cfg.Meters,
	}); err != nil {
		return nil, fmt.Errorf("new presence server: %w", err)
	}
	s.model.replica = s.replica
	if s.telem, err = newInstruments(cfg.Meters, cfg.Tracers, s.model); err != nil {
		return nil, fmt.Errorf("new presence server: %w", err)
	}
	if err = s.listen(); err != nil {
		s.Close()
		return nil, fmt.Errorf("new presence server: %w", err)
	}
	return s, nil
}

// gateways are those that messages can be sent by.
func (s *Server) gateways() (list []peer.Gateway) {
	for _, g := range s.model.Gateways() {
		if !g.Draining {
			list = append(list, peer.Gateway{Epoch: string(g.Epoch), Address: g.Address})
		}
	}
	return list
}

// endpoint is a listener and the server on it.
type endpoint struct {
	listener net.Listener
	server   *http.Server
}

func (s *Server) listen() (err error) {
	if s.public, err = s.open(s.cfg.Listen, s.publicHandler()); err != nil {
		return err
	}
	if s.cfg.InternalListen != "" {
		if s.internal, err = s.open(s.cfg.InternalListen, s.internalHandler()); err != nil {
			return err
		}
	}
	if s.cfg.OpsListen != "" {
		if s.ops, err = s.open(s.cfg.OpsListen, s.opsHandler()); err != nil {
			return err
		}
	}
	if s.cfg.GRPCListen != "" {
		return s.openRPC()
	}
	return nil
}

func (s *Server) open(address string, handler http.Handler) (*endpoint, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	return &endpoint{listener: listener, server: &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}}, nil
}

// eachEndpoint calls f for every endpoint that is served.
func (s *Server) eachEndpoint(f func(*endpoint)) {
	for _, e := range []*endpoint{s.public, s.internal, s.ops} {
		if e != nil {
			f(e)
		}
	}
}

// Close releases the addresses of a server that was never run.
func (s *Server) Close() {
	s.stopServing()
	s.eachEndpoint(func(e *endpoint) { _ = e.listener.Close() })
	s.rpc.close()
	s.closePeer()
}

// Addr is the address of the public API.
func (s *Server) Addr() net.Addr { return s.public.listener.Addr() }

// InternalAddr is the address of the internal API, nil if it is not served.
func (s *Server) InternalAddr() net.Addr { return s.internal.addr() }

// OpsAddr is the address of the ops listener, nil if it is not served.
func (s *Server) OpsAddr() net.Addr { return s.ops.addr() }

func (e *endpoint) addr() net.Addr {
	if e == nil {
		return nil
	}
	return e.listener.Addr()
}

// Ready tells whether the server should be sent requests: Redis has answered once, and the server is not stopping. A
// Redis that fails later does not change it: the server then answers that it does not know.
func (s *Server) Ready() bool { return s.model.opened() && !s.stopping.Load() }

// Run serves until ctx ends, then takes readiness away, waits for the shutdown delay, finishes the requests that it has,
// and returns nil. It returns an error when a listener fails, or one that wraps [store.ErrForeignOwner] or
// [store.ErrIncompatible] when it must not or cannot use the Redis that it was given.
func (s *Server) Run(ctx context.Context) error {
	tending, stopTending := context.WithCancel(context.WithoutCancel(ctx))
	var tasks sync.WaitGroup
	defer func() {
		stopTending()
		tasks.Wait()
	}()
	failed := make(chan error, 5)
	tasks.Go(func() {
		if err := s.tend(tending); err != nil {
			failed <- err
		}
	})
	s.eachEndpoint(func(e *endpoint) {
		tasks.Go(func() {
			if err := e.server.Serve(e.listener); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serve %s: %w", e.addr(), err)
			}
		})
	})
	if s.rpc != nil {
		tasks.Go(func() {
			if err := s.rpc.serve(); err != nil {
				failed <- err
			}
		})
	}
	s.log.Info("presence is serving", "address", s.Addr().String())

	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
		s.stopping.Store(true)
		s.rpc.drain()
		s.log.Info("presence is stopping", "delay", s.cfg.ShutdownDelay.String())
		select {
		case <-time.After(s.cfg.ShutdownDelay):
		case err = <-failed:
		}
	}
	s.finish()
	return err
}

// finish closes the listeners and waits for the requests that are being answered; the ops listener goes last.
func (s *Server) finish() {
	ctx, cancel := context.WithTimeout(context.Background(), finishTimeout)
	defer cancel()
	if s.rpc != nil && s.rpc.server.Stop(ctx) {
		s.log.Warn("calls were cut off", "address", s.GRPCAddr().String())
	}
	s.stopServing()
	s.eachEndpoint(func(e *endpoint) {
		if err := e.server.Shutdown(ctx); err != nil {
			s.log.Warn("requests were cut off", "address", e.addr().String(), "error", err)
			_ = e.server.Close()
		}
	})
	s.closePeer()
}

// tend opens the store, trying until it succeeds, and then keeps the model until ctx ends.
func (s *Server) tend(ctx context.Context) error {
	retry := s.retrier(ctx)
	for ctx.Err() == nil {
		st, err := store.Open(ctx, s.cfg.Store)
		switch {
		case errors.Is(err, store.ErrForeignOwner), errors.Is(err, store.ErrIncompatible):
			return fmt.Errorf("open the store: %w", err)
		case err != nil:
			retry("Redis cannot be used yet", err)
			continue
		}
		defer st.Close()
		s.model.set(st)
		s.rpc.setServing()
		var following sync.WaitGroup
		following.Go(func() { s.replica.Run(ctx, st) })
		following.Go(func() {
			if err := s.runHooks(ctx, st); err != nil {
				s.log.Error("the hooks ended", "error", err)
			}
		})
		defer following.Wait() // before the store is closed
		s.log.Info("Redis is in use")
		for ctx.Err() == nil {
			if err := st.Keep(ctx); err != nil && ctx.Err() == nil {
				retry("tending the presence model failed", err)
			}
		}
	}
	return nil
}

// startupGrace is for how long failures are but warnings: Redis is often started together with presence.
const startupGrace = 30 * time.Second

// retrier returns a function that logs a failure, the same one once and not every second, and waits. One that
// outlasts the start is logged again, as an error.
func (s *Server) retrier(ctx context.Context) func(what string, err error) {
	type entry struct {
		text  string
		level slog.Level
	}
	var last entry
	started := time.Now()
	return func(what string, err error) {
		now := entry{err.Error(), slog.LevelError}
		if time.Since(started) < startupGrace {
			now.level = slog.LevelWarn
		}
		if now != last {
			s.log.Log(ctx, now.level, what, "error", err)
			last = now
		}
		select {
		case <-time.After(time.Duration(float64(retryDelay) * (0.8 + 0.4*rand.Float64()))):
		case <-ctx.Done():
		}
	}
}
