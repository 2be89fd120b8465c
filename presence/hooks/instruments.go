package hooks

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

const scope = "github.com/imcluster/imcluster/presence/hooks"

type instruments struct {
	events   metric.Int64Counter
	duration metric.Float64Histogram
}

func newInstruments(meters metric.MeterProvider, d *Dispatcher) (*instruments, error) {
	meter := meters.Meter(scope)
	i := &instruments{}
	var errs [6]error
	i.events, errs[0] = meter.Int64Counter("imcluster_hook_events",
		metric.WithDescription("Events that the receiver of the hooks took, by hook."))
	i.duration, errs[1] = meter.Float64Histogram("imcluster_hook_request_duration", metric.WithUnit("s"),
		metric.WithDescription("Time until the receiver of the hooks answered, by result: ok, refused or failed."),
		metric.WithExplicitBucketBoundaries(.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10))
	var pending, partitions metric.Int64ObservableGauge
	var age metric.Float64ObservableGauge
	pending, errs[2] = meter.Int64ObservableGauge("imcluster_hook_pending_users",
		metric.WithDescription("Users of this pod's partitions that the receiver is still to be told about."))
	partitions, errs[3] = meter.Int64ObservableGauge("imcluster_hook_partitions",
		metric.WithDescription("Partitions that this pod tells the receiver of; 128 over all pods."))
	age, errs[4] = meter.Float64ObservableGauge("imcluster_hook_pending_age", metric.WithUnit("s"),
		metric.WithDescription("For how long the receiver has not been told of some user's change."))
	_, errs[5] = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		s := d.Status()
		o.ObserveInt64(pending, int64(s.Pending))
		o.ObserveInt64(partitions, int64(s.Partitions))
		oldest := 0.0
		if !s.OldestPending.IsZero() {
			oldest = time.Since(s.OldestPending).Seconds()
		}
		o.ObserveFloat64(age, oldest)
		return nil
	}, pending, partitions, age)
	return i, errors.Join(errs[:]...)
}

// posted counts a request.
func (i *instruments) posted(ctx context.Context, events []Event, took time.Duration, err error) {
	result := "ok"
	if _, ok := errors.AsType[*refused](err); ok {
		result = "refused"
	} else if err != nil {
		result = "failed"
	}
	i.duration.Record(ctx, took.Seconds(), metric.WithAttributes(attribute.String("result", result)))
	if err != nil {
		return
	}
	for _, hook := range []string{ClientOnline, ClientOffline} {
		n := 0
		for _, e := range events {
			if e.Hook == hook {
				n++
			}
		}
		i.events.Add(ctx, int64(n), metric.WithAttributes(attribute.String("hook", hook)))
	}
}
