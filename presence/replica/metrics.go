package replica

import (
	"context"
	"errors"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

const scope = "github.com/imcluster/imcluster/presence/replica"

// metrics of the replica. What happens for every lookup is counted here, and observed when somebody scrapes.
type metrics struct {
	hits, misses        atomic.Int64
	polls, pollFailures atomic.Int64
	facts, loads, gaps  atomic.Int64
	events, told        atomic.Int64
}

func (m *metrics) looked(hits, misses int) {
	m.hits.Add(int64(hits))
	if misses > 0 {
		m.misses.Add(int64(misses))
	}
}

func (m *metrics) polled(ok bool) {
	if ok {
		m.polls.Add(1)
	} else {
		m.pollFailures.Add(1)
	}
}

func (m *metrics) event(e *Event) {
	m.events.Add(1)
	m.told.Add(int64(len(e.Users)))
}

// vitals is the condition of the replica.
type vitals struct {
	age                float64 // s since the poll of the partition that was polled longest ago
	degraded           int64   // partitions
	online, remembered int64   // users
	subs, pairs        int64
}

func (r *Replica) vitals() (v vitals) {
	r.mu.RLock()
	now := r.now()
	for _, p := range r.parts {
		if !p.fresh(now) || !p.complete {
			v.degraded++
		}
		if p != nil {
			v.age = max(v.age, (now - p.polled).Seconds())
			v.online += int64(len(p.table.index) - p.table.remembered)
			v.remembered += int64(p.table.remembered)
		}
	}
	r.mu.RUnlock()
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	v.subs, v.pairs = int64(len(r.hub.subs)), int64(r.hub.members)
	return v
}

// newMetrics registers the metrics.
func newMetrics(meters metric.MeterProvider, r *Replica) (*metrics, error) {
	m := &metrics{}
	meter := meters.Meter(scope)
	var errs []error
	var all []metric.Observable
	counter := func(name, what string) metric.Int64ObservableCounter {
		c, err := meter.Int64ObservableCounter(name, metric.WithDescription(what))
		errs, all = append(errs, err), append(all, c)
		return c
	}
	gauge := func(name, what string) metric.Int64ObservableGauge {
		g, err := meter.Int64ObservableGauge(name, metric.WithDescription(what))
		errs, all = append(errs, err), append(all, g)
		return g
	}
	lookups := counter("imcluster_replica_lookups", "Users asked for, by whether memory knew: hit, or miss, for which Redis was asked.")
	polls := counter("imcluster_replica_polls", "Polls of the feed, by result.")
	facts := counter("imcluster_replica_facts", "Facts that were applied.")
	loads := counter("imcluster_replica_loads", "Partitions that were loaded whole: at the start, and after a loss of data or of facts.")
	gaps := counter("imcluster_replica_gaps", "Times that facts of a partition were missing.")
	events := counter("imcluster_replica_events", "Events that subscriptions were given.")
	told := counter("imcluster_replica_event_users", "Users in those events.")
	degraded := gauge("imcluster_replica_degraded_partitions", "Partitions, of 128, that are answered by asking Redis.")
	users := gauge("imcluster_replica_users", "Users in memory, by what is kept of them: sessions, or last_seen.")
	subs := gauge("imcluster_replica_subscriptions", "Open subscriptions.")
	watched := gauge("imcluster_replica_watched_users", "Users whom subscriptions are for, once for each subscription.")
	age, err := meter.Float64ObservableGauge("imcluster_replica_age", metric.WithUnit("s"),
		metric.WithDescription("Since the last poll of the partition that was polled longest ago. From 1 s on, Redis is asked instead."))
	errs, all = append(errs, err), append(all, age)

	label := func(key, value string) metric.MeasurementOption {
		return metric.WithAttributes(attribute.String(key, value))
	}
	_, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveInt64(lookups, m.hits.Load(), label("result", "hit"))
		o.ObserveInt64(lookups, m.misses.Load(), label("result", "miss"))
		o.ObserveInt64(polls, m.polls.Load(), label("result", "ok"))
		o.ObserveInt64(polls, m.pollFailures.Load(), label("result", "unavailable"))
		o.ObserveInt64(facts, m.facts.Load())
		o.ObserveInt64(loads, m.loads.Load())
		o.ObserveInt64(gaps, m.gaps.Load())
		o.ObserveInt64(events, m.events.Load())
		o.ObserveInt64(told, m.told.Load())
		v := r.vitals()
		o.ObserveInt64(degraded, v.degraded)
		o.ObserveInt64(users, v.online, label("kept", "sessions"))
		o.ObserveInt64(users, v.remembered, label("kept", "last_seen"))
		o.ObserveInt64(subs, v.subs)
		o.ObserveInt64(watched, v.pairs)
		o.ObserveFloat64(age, v.age)
		return nil
	}, all...)
	return m, errors.Join(append(errs, err)...)
}
