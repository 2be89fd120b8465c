package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// metrics of the store. Attribute sets are built once: building one costs more than recording.
type metrics struct {
	duration     metric.Float64Histogram
	reregistered metric.Int64Counter
	fenced       metric.Int64Counter
	reaped       metric.Int64Counter
	revocations  metric.Int64Counter
	compared     metric.Int64Counter

	ops          [opKinds][3]metric.MeasurementOption // by kind and result
	queries      [2]metric.MeasurementOption          // whole, degraded
	registration metric.Registration
}

// Results of an op.
const (
	resultOK = iota
	resultUnavailable
	resultError
)

var resultNames = [...]string{"ok", "unavailable", "error"}

func newMetrics(provider metric.MeterProvider, s *Store) (*metrics, error) {
	meter := provider.Meter("github.com/imcluster/imcluster/presence/store")
	m := &metrics{}
	var errs [9]error
	m.duration, errs[0] = meter.Float64Histogram("imcluster_store_op_duration", metric.WithUnit("s"),
		metric.WithDescription("Time from an operation on the presence store to its result, waiting in the lane included."),
		metric.WithExplicitBucketBoundaries(.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10))
	m.reregistered, errs[1] = meter.Int64Counter("imcluster_store_sessions_reregistered",
		metric.WithDescription("Sessions registered again after Redis lost data or the lease ended."))
	m.fenced, errs[2] = meter.Int64Counter("imcluster_store_leases_lost",
		metric.WithDescription("Times that this gateway found its lease ended and took a new epoch."))
	m.reaped, errs[3] = meter.Int64Counter("imcluster_store_sessions_reaped",
		metric.WithDescription("Sessions of dead gateways removed."))
	m.revocations, errs[7] = meter.Int64Counter("imcluster_store_revocations",
		metric.WithDescription("Revocations that this gateway read from the control log."))
	m.compared, errs[8] = meter.Int64Counter("imcluster_store_revocation_comparisons",
		metric.WithDescription("Times that this gateway missed entries of the control log and compared all its sessions with the revocations."))
	depth, err := meter.Int64ObservableGauge("imcluster_store_lane_depth",
		metric.WithDescription("Operations that wait in the lanes to Redis or are on their way."))
	errs[4] = err
	age, err := meter.Float64ObservableGauge("imcluster_store_lease_age", metric.WithUnit("s"),
		metric.WithDescription("Time since the gateway's lease was last renewed."))
	errs[5] = err
	m.registration, errs[6] = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		s.mu.Lock()
		members := s.members
		s.mu.Unlock()
		for _, member := range members {
			o.ObserveInt64(depth, int64(member.lanes.waiting()))
			o.ObserveFloat64(age, time.Since(member.lease.Load().renewed).Seconds())
		}
		return nil
	}, depth, age)
	for k, op := range kindNames {
		for r, result := range resultNames {
			m.ops[k][r] = opAttributes(op, result)
		}
	}
	m.queries[0], m.queries[1] = opAttributes("users", "ok"), opAttributes("users", "degraded")
	return m, errors.Join(errs[:]...)
}

func opAttributes(op, result string) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(attribute.String("op", op), attribute.String("result", result)))
}

// op records an operation that went through a lane.
func (m *metrics) op(k kind, took time.Duration, err error) {
	result := resultOK
	if err != nil {
		result = resultError
		if errors.Is(err, ErrUnavailable) {
			result = resultUnavailable
		}
	}
	m.duration.Record(context.Background(), took.Seconds(), m.ops[k][result])
}

// query records a call of Users.
func (m *metrics) query(took time.Duration, degraded bool) {
	result := m.queries[0]
	if degraded {
		result = m.queries[1]
	}
	m.duration.Record(context.Background(), took.Seconds(), result)
}

func (m *metrics) close() error {
	if err := m.registration.Unregister(); err != nil {
		return fmt.Errorf("unregister metrics: %w", err)
	}
	return nil
}

func (l *lanes) waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.depth
}
