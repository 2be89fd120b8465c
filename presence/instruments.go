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

	"github.com/imcluster/imcluster/presence/replica"
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

	watches metric.Int64UpDownCounter
	events  metric.Int64Counter

	messages    metric.Float64Histogram
	groups      metric.Int64Counter
	revocations metric.Int64Counter
}

// newInstruments registers the metrics. Every presence pod reports the same number of users and sessions online; take
// the maximum.
func newInstruments(meters metric.MeterProvider, tracers trace.TracerProvider, m model) (*instruments, error) {
	meter := meters.Meter(scope)
	i := &instruments{tracer: tracers.Tracer(scope)}
	var errs [12]error
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
	i.messages, errs[7] = meter.Float64Histogram("imcluster_presence_message_duration", metric.WithUnit("s"),
		metric.WithDescription("Time to send messages of the back end, by target and result: ok or the code of the error."),
		metric.WithExplicitBucketBoundaries(.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10))
	i.groups, errs[8] = meter.Int64Counter("imcluster_presence_group_changes",
		metric.WithDescription("Requests to change groups, by change and result."))
	i.revocations, errs[9] = meter.Int64Counter("imcluster_presence_revocations",
		metric.WithDescription("Requests to disconnect, by scope and result."))
	i.watches, errs[10] = meter.Int64UpDownCounter("imcluster_presence_watches",
		metric.WithDescription("Watches by Server-Sent Events that are open."))
	i.events, errs[11] = meter.Int64Counter("imcluster_presence_watch_events",
		metric.WithDescription("Events that watches were sent, by kind: snapshot, change, bookmark."))
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

func (i *instruments) finish(ctx context.Context, span trace.Span, method, path string, answer *statusWriter, took time.Duration) {
	status := answer.status
	attrs := []attribute.KeyValue{
		attribute.String("method", known(method)), attribute.String("route", path), attribute.String("code", strconv.Itoa(status))}
	if !answer.streams {
		i.duration.Record(ctx, took.Seconds(), metric.WithAttributes(attrs...))
	}
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
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "other"
}

// answered counts what a query told.
func (i *instruments) answered(ctx context.Context, users []store.User, degraded bool) {
	var counts briefCounts
	for u := range users {
		counts[briefOf(&users[u])]++
	}
	i.count(ctx, len(users), &counts, degraded)
}

// briefed counts what a query told, and returns how often which.
func (i *instruments) briefed(ctx context.Context, users []replica.Brief, degraded bool) (counts briefCounts) {
	for _, b := range users {
		counts[b]++
	}
	i.count(ctx, len(users), &counts, degraded)
	return counts
}

// briefCounts says how often which answer was given.
type briefCounts [replica.Online + 1]int64

// outcomes are the labels of the answers metric.
var outcomes = [...]metric.AddOption{
	replica.Unavailable: outcome(store.Unknown, store.Unavailable),
	replica.NeverSeen:   outcome(store.Unknown, store.NeverSeen),
	replica.Offline:     outcome(store.Offline, ""),
	replica.Online:      outcome(store.Online, ""),
}

func briefOf(u *store.User) replica.Brief {
	switch {
	case u.State == store.Online:
		return replica.Online
	case u.State == store.Offline:
		return replica.Offline
	case u.Reason == store.NeverSeen:
		return replica.NeverSeen
	}
	return replica.Unavailable
}

func outcome(state store.State, reason store.Reason) metric.AddOption {
	return metric.WithAttributeSet(attribute.NewSet(attribute.String("state", string(state)), attribute.String("reason", string(reason))))
}

func (i *instruments) count(ctx context.Context, users int, counts *briefCounts, degraded bool) {
	i.batch.Record(ctx, int64(users))
	if degraded {
		i.degraded.Add(ctx, 1)
	}
	for b, n := range counts {
		if n > 0 {
			i.answers.Add(ctx, n, outcomes[b])
		}
	}
}

// told counts an event of a watch.
func (i *instruments) told(ctx context.Context, e *replica.Event) {
	i.events.Add(ctx, 1, metric.WithAttributes(attribute.String("kind", eventKind(e))))
}

// What a message is sent to, the label target of the messages metric.
const (
	targetUser     = "user"
	targetUsers    = "users"
	targetGroup    = "group"
	targetEveryone = "everyone"
)

// sent counts a message that was handed to a gateway.
func (i *instruments) sent(ctx context.Context, target, result string, took time.Duration) {
	i.messages.Record(ctx, took.Seconds(), metric.WithAttributes(attribute.String("target", target), attribute.String("result", result)))
}

// changed counts a change of a group.
func (i *instruments) changed(ctx context.Context, change string, err error) {
	i.groups.Add(ctx, 1, metric.WithAttributes(attribute.String("change", change), resultOf(err)))
}

// revoked counts a revocation.
func (i *instruments) revoked(ctx context.Context, r store.Revocation, err error) {
	scope := "user"
	switch {
	case r.TokenID != "":
		scope = "token"
	case r.Device != "":
		scope = "device"
	}
	i.revocations.Add(ctx, 1, metric.WithAttributes(attribute.String("scope", scope), resultOf(err)))
}

func resultOf(err error) attribute.KeyValue {
	result := "ok"
	switch {
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		result = "unavailable"
	case err != nil:
		result = "refused"
	}
	return attribute.String("result", result)
}
