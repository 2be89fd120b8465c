package presence

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/imcluster/imcluster/presence/store"
)

const scope = "github.com/imcluster/imcluster/presence"

// countTimeout is how long a scrape waits for the number of users online.
const countTimeout = time.Second

// instruments are the metrics and spans of the query service. The otelhttp package is not used because its metrics carry
// the Host header, with which a caller can make any number of time series.
type instruments struct {
	tracer   trace.Tracer
	context  propagation.TraceContext
	duration metric.Float64Histogram
	batch    metric.Int64Histogram
	answers  metric.Int64Counter
	degraded metric.Int64Counter
}

// newInstruments registers the metrics. Every presence pod reports the same number of users and sessions online; take
// the maximum.
func newInstruments(meters metric.MeterProvider, tracers trace.TracerProvider, m model) (*instruments, error) {
	meter := meters.Meter(scope)
	i := &instruments{tracer: tracers.Tracer(scope)}
	var errs [7]error
	i.duration, errs[0] = meter.Float64Histogram("imcluster_presence_request_duration", metric.WithUnit("s"),
		metric.WithDescription("Time to answer HTTP requests, by route, method and status code."),
		metric.WithExplicitBucketBoundaries(.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5))
	i.batch, errs[1] = meter.Int64Histogram("imcluster_presence_query_users",
		metric.WithDescription("Users asked for by a request."),
		metric.WithExplicitBucketBoundaries(1, 10, 30, 100, 300, 1000, 3000, 5000))
	i.answers, errs[2] = meter.Int64Counter("imcluster_presence_answers",
		metric.WithDescription("Users answered about, by state and reason."))
	i.degraded, errs[3] = meter.Int64Counter("imcluster_presence_degraded_answers",
		metric.WithDescription("Answers to requests in which something could not be read."))
	var users, sessions metric.Int64ObservableGauge
	users, errs[4] = meter.Int64ObservableGauge("imcluster_online_users",
		metric.WithDescription("Users online in the whole IMCluster."))
	sessions, errs[5] = meter.Int64ObservableGauge("imcluster_online_sessions",
		metric.WithDescription("Sessions online in the whole IMCluster."))
	_, errs[6] = meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		ctx, cancel := context.WithTimeout(ctx, countTimeout)
		defer cancel()
		// A gap in the series says that the number is not known.
		if counts, err := m.Counts(ctx); err == nil && !counts.Degraded {
			o.ObserveInt64(users, int64(counts.Users))
			o.ObserveInt64(sessions, int64(counts.Sessions))
		}
		return nil
	}, users, sessions)
	return i, errors.Join(errs[:]...)
}

// startSpan begins the span of a request, as a child of the caller's. Ids are no attributes of it.
func (i *instruments) startSpan(r *http.Request, path string) (context.Context, trace.Span) {
	ctx := i.context.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	return i.tracer.Start(ctx, known(r.Method)+" "+path, trace.WithSpanKind(trace.SpanKindServer))
}

func (i *instruments) finish(ctx context.Context, span trace.Span, method, path string, status int, took time.Duration) {
	attrs := []attribute.KeyValue{
		attribute.String("method", known(method)), attribute.String("route", path), attribute.String("code", strconv.Itoa(status))}
	i.duration.Record(ctx, took.Seconds(), metric.WithAttributes(attrs...))
	if span.IsRecording() {
		span.SetAttributes(semconv.HTTPRequestMethodKey.String(known(method)), semconv.HTTPRoute(path), semconv.HTTPResponseStatusCode(status))
		if status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, http.StatusText(status))
		}
	}
	span.End()
}

// known returns the method if the service has a use for it: callers must not be able to make metric labels up.
func known(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost:
		return method
	}
	return "other"
}

// outcome of one user of a query, the labels of the answers metric.
type outcome struct {
	state  store.State
	reason store.Reason
}

// answered counts what a query told.
func (i *instruments) answered(ctx context.Context, users []store.User, degraded bool) {
	i.batch.Record(ctx, int64(len(users)))
	if degraded {
		i.degraded.Add(ctx, 1)
	}
	var few [4]struct { // there are four outcomes
		outcome
		n int64
	}
next:
	for u := range users {
		o := outcome{users[u].State, users[u].Reason}
		for k := range few {
			if few[k].n == 0 || few[k].outcome == o {
				few[k].outcome = o
				few[k].n++
				continue next
			}
		}
	}
	for _, f := range few {
		if f.n > 0 {
			i.answers.Add(ctx, f.n, metric.WithAttributes(
				attribute.String("state", string(f.state)), attribute.String("reason", string(f.reason))))
		}
	}
}
