package rpc

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/stats"

	presencev1 "github.com/imcluster/imcluster/api/presence/v1"
	pb "github.com/imcluster/imcluster/api/userstatus"
	"github.com/imcluster/imcluster/internal/secretdir"
	"github.com/imcluster/imcluster/presence/replica"
	"github.com/imcluster/imcluster/presence/store"
)

// Limits of connections.
const (
	// maxRequestBytes holds a batch of 5,000 users with the longest ids six times.
	maxRequestBytes = 4 << 20
	// maxStreams of a connection at once: callers share one.
	maxStreams     = 1000
	maxHeaderBytes = 16 << 10
	// connectionAge is when a connection is asked to be made anew, ±10 %: a client that balances over the pods finds new
	// pods only then. Watches go on with their token. connectionGrace is for calls that run by then.
	connectionAge   = 15 * time.Minute
	connectionGrace = 30 * time.Second
	// A caller that is gone without a word is noticed after both; one may ask for our life every pingPause.
	pingAfter   = 30 * time.Second
	pingTimeout = 10 * time.Second
	pingPause   = 5 * time.Second
	// callTimeout is for calls without a deadline.
	callTimeout = 10 * time.Second
)

// Model is what the server asks. What it returns and which errors is as in packages store and replica.
type Model interface {
	Users(ctx context.Context, ids []string) (users []store.User, asOf time.Time, degraded bool)
	Online(ctx context.Context, cursor string, limit int) (store.Page, error)
	Counts(ctx context.Context) (store.Counts, error)
	Watch(users []string, all bool, token string) (*replica.Subscription, error)
	SetStatus(ctx context.Context, user string, status store.Status) error
	Gateways() []store.Peer

	RegisterExternal(ctx context.Context, server, user, device string) error
	UnregisterExternal(ctx context.Context, server, user, device string) error
	KeepExternal(ctx context.Context, server string, started bool) (store.External, error)
}

// Config says what to serve.
type Config struct {
	Model Model
	// Keys are whose values callers may show. Required.
	Keys []*secretdir.Secret
	// OpenUserStatus lets anybody call pb.UserStatus: published clients of it show no key.
	OpenUserStatus bool
	// MaxQueryUsers is how many users a batch may ask for. Zero means 5,000.
	MaxQueryUsers int
	// MaxWatchUsers is how many users one watch may list. Zero means 1,000,000.
	MaxWatchUsers int
	// Answered is told of answers about users; nil means nobody is.
	Answered func(ctx context.Context, users []store.User, degraded bool)
	// Logger; nil means no logs. User ids appear at no level.
	Logger *slog.Logger
	// Meters and Tracers; nil means none.
	Meters  metric.MeterProvider
	Tracers trace.TracerProvider
}

// Server serves gRPC. Make it with [New].
type Server struct {
	presencev1.UnimplementedPresenceServiceServer
	pb.UnimplementedUserStatusServer

	cfg    Config
	log    *slog.Logger
	grpc   *grpc.Server
	health *health.Server

	life context.Context // ends with Stop, and streams with it
	end  context.CancelFunc
}

// New makes a server. Health says NOT_SERVING until [Server.SetServing].
func New(cfg Config) (*Server, error) {
	if cfg.Model == nil || len(cfg.Keys) == 0 {
		return nil, errors.New("new gRPC server: no model or no keys")
	}
	cfg.MaxQueryUsers = cmp.Or(cfg.MaxQueryUsers, 5000)
	cfg.MaxWatchUsers = cmp.Or(cfg.MaxWatchUsers, 1_000_000)
	if cfg.Answered == nil {
		cfg.Answered = func(context.Context, []store.User, bool) {}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Meters == nil {
		cfg.Meters = metricnoop.NewMeterProvider()
	}
	if cfg.Tracers == nil {
		cfg.Tracers = tracenoop.NewTracerProvider()
	}
	s := &Server{cfg: cfg, log: cfg.Logger, health: health.NewServer()}
	s.life, s.end = context.WithCancel(context.Background())
	s.grpc = grpc.NewServer(
		grpc.StatsHandler(s.telemetry()),
		grpc.ChainUnaryInterceptor(s.unary),
		grpc.ChainStreamInterceptor(s.stream),
		grpc.MaxRecvMsgSize(maxRequestBytes),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.ConnectionTimeout(callTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge: connectionAge, MaxConnectionAgeGrace: connectionGrace, Time: pingAfter, Timeout: pingTimeout,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingPause, PermitWithoutStream: true}),
		grpc.WaitForHandlers(true),
	)
	presencev1.RegisterPresenceServiceServer(s.grpc, s)
	pb.RegisterUserStatusServer(s.grpc, s)
	healthv1.RegisterHealthServer(s.grpc, s.health)
	reflection.Register(s.grpc)
	s.setHealth(healthv1.HealthCheckResponse_NOT_SERVING)
	return s, nil
}

// telemetry makes metrics and spans of our own methods. Of others it does not: probes would drown them, and the span of a
// method that a caller makes up would never end.
func (s *Server) telemetry() stats.Handler {
	known := map[string]bool{}
	for _, d := range []grpc.ServiceDesc{presencev1.PresenceService_ServiceDesc, pb.UserStatus_ServiceDesc} {
		for _, m := range d.Methods {
			known["/"+d.ServiceName+"/"+m.MethodName] = true
		}
		for _, m := range d.Streams {
			known["/"+d.ServiceName+"/"+m.StreamName] = true
		}
	}
	return otelgrpc.NewServerHandler(
		otelgrpc.WithMeterProvider(s.cfg.Meters), otelgrpc.WithTracerProvider(s.cfg.Tracers),
		otelgrpc.WithPropagators(propagation.TraceContext{}),
		otelgrpc.WithFilter(func(info *stats.RPCTagInfo) bool { return known[info.FullMethodName] }))
}

// Serve serves until [Server.Stop], which makes it return nil.
func (s *Server) Serve(l net.Listener) error {
	if err := s.grpc.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}

// SetServing has health answer SERVING from now on, for the whole server and for each service.
func (s *Server) SetServing() { s.setHealth(healthv1.HealthCheckResponse_SERVING) }

// Drain has health answer NOT_SERVING for good. Calls are answered as before.
func (s *Server) Drain() { s.health.Shutdown() }

func (s *Server) setHealth(state healthv1.HealthCheckResponse_ServingStatus) {
	for _, service := range []string{"", presencev1.PresenceService_ServiceDesc.ServiceName, pb.UserStatus_ServiceDesc.ServiceName} {
		s.health.SetServingStatus(service, state)
	}
}

// Stop ends streams with UNAVAILABLE, waits for the other calls, and cuts off those that have not ended with ctx; it says
// whether there were such. A server that never served may be stopped as well.
func (s *Server) Stop(ctx context.Context) (cutOff bool) {
	s.Drain()
	s.end()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.grpc.GracefulStop()
	}()
	select {
	case <-done:
		return false
	case <-ctx.Done():
		s.grpc.Stop()
		<-done
		return true
	}
}
