// Package telemetry sets up what IMCluster's processes tell about themselves: OpenTelemetry metrics on a Prometheus
// endpoint, traces over OTLP when an endpoint is configured, and JSON logs.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/imcluster/imcluster/internal/version"
)

// Config says what to set up.
type Config struct {
	// Service is the service.name of metrics and traces, such as "imcluster-gateway".
	Service string
	// Instance is the service.instance.id, the pod name; may be empty.
	Instance string
	// OTLPEndpoint is host:port of an OTLP gRPC receiver without TLS. Empty means that no traces are made.
	OTLPEndpoint string
	// Registerer and Gatherer are where metrics go, for processes that already have a Prometheus registry. Both nil
	// means a registry of its own, with the metrics of the Go runtime and the process.
	Registerer prometheus.Registerer
	Gatherer   prometheus.Gatherer
}

// Telemetry is a process's set of providers. Nothing is registered globally.
type Telemetry struct {
	meters   *sdkmetric.MeterProvider
	tracer   trace.TracerProvider
	stop     func(context.Context) error // of the tracer provider; nil without one
	gatherer prometheus.Gatherer
}

// Start sets up metrics and, if configured, traces. An OTLP receiver that does not answer is not an error: spans are
// dropped until it does.
func Start(ctx context.Context, cfg Config) (*Telemetry, error) {
	if cfg.Registerer == nil || cfg.Gatherer == nil {
		registry := prometheus.NewRegistry()
		registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
		cfg.Registerer, cfg.Gatherer = registry, registry
	}
	exporter, err := otelprom.New(otelprom.WithRegisterer(cfg.Registerer), otelprom.WithoutScopeInfo())
	if err != nil {
		return nil, fmt.Errorf("start metrics: %w", err)
	}
	res := resource.NewSchemaless(
		semconv.ServiceName(cfg.Service), semconv.ServiceVersion(version.Version()), semconv.ServiceInstanceID(cfg.Instance))
	t := &Telemetry{
		meters:   sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter), sdkmetric.WithResource(res)),
		tracer:   noop.NewTracerProvider(),
		gatherer: cfg.Gatherer,
	}
	if cfg.OTLPEndpoint == "" {
		return t, nil
	}
	spans, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpoint(cfg.OTLPEndpoint), otlptracegrpc.WithInsecure())
	if err != nil {
		return nil, fmt.Errorf("start traces: %w", err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(spans), sdktrace.WithResource(res),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(traceRatio))))
	t.tracer, t.stop = provider, provider.Shutdown
	return t, nil
}

// traceRatio is the share of requests without a sampled parent that are traced.
const traceRatio = 0.01

// Meters returns the meter provider.
func (t *Telemetry) Meters() metric.MeterProvider { return t.meters }

// Tracers returns the tracer provider, one that does nothing without an OTLP endpoint.
func (t *Telemetry) Tracers() trace.TracerProvider { return t.tracer }

// Handler serves the metrics in the Prometheus text format.
func (t *Telemetry) Handler() http.Handler {
	return promhttp.HandlerFor(t.gatherer, promhttp.HandlerOpts{})
}

// Shutdown sends what is left, within ctx.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	var err error
	if t.stop != nil {
		err = t.stop(ctx)
	}
	return errors.Join(err, t.meters.Shutdown(ctx))
}

// NewLogger returns a logger that writes one JSON object a line to w, for lines of the level and above. Level is one of
// debug, info, warn, error.
func NewLogger(w io.Writer, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level %q is not one of debug, info, warn, error", level)
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: l})), nil
}
