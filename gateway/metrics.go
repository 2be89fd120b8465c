package gateway

import (
	"context"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/internal/peer"
)

const scope = "github.com/imcluster/imcluster/gateway"

// metrics are counted in place, by atomics, and read when somebody collects: an instrument with attributes costs 100 ns
// a call, and there are several calls for a frame.
type metrics struct {
	received, sent [256]atomic.Int64 // by frame type
	logins         [numLoginResults]atomic.Int64
	stores         [numStoreResults]atomic.Int64
	pushes         [numRoutes]atomic.Int64
	closes         [numReasons]atomic.Int64
	queuedBytes    atomic.Int64
	panics         atomic.Int64

	delivered, missed, redelivered atomic.Int64 // messages
	gaps, reads, hints             atomic.Int64
	sweeps, swept                  atomic.Int64
	acks, ackFlushes               atomic.Int64
	fanOuts                        atomic.Int64

	registration metric.Registration
}

func (m *metrics) close() {
	if m != nil && m.registration != nil {
		_ = m.registration.Unregister() // only fails for registrations of others
	}
}

// countedBy is a counter without attributes.
type countedBy struct {
	counter metric.Int64ObservableCounter
	value   *atomic.Int64
}

// instruments are what is exported.
type instruments struct {
	connections, sessions, queued, ready, held, draining, links metric.Int64ObservableGauge
	watch                                                       watchInstruments
	frames, logins, stores, pushes, closes, drops, panics       metric.Int64ObservableCounter
	counters                                                    []countedBy
}

func newMetrics(g *Gateway) (*metrics, error) {
	m := &metrics{}
	meter := g.cfg.Meters.Meter(scope)
	var i instruments
	var all []metric.Observable
	var firstErr error
	keep := func(err error) {
		if firstErr == nil {
			firstErr = err
		}
	}
	gauge := func(to *metric.Int64ObservableGauge, name, unit, description string) {
		o, err := meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(description))
		keep(err)
		*to, all = o, append(all, o)
	}
	counter := func(to *metric.Int64ObservableCounter, name, unit, description string) {
		o, err := meter.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(description))
		keep(err)
		*to, all = o, append(all, o)
	}
	gauge(&i.connections, "imcluster.gateway.connections", "{connection}", "WebSocket connections.")
	gauge(&i.sessions, "imcluster.gateway.sessions", "{session}", "Sessions, those in their grace included.")
	gauge(&i.queued, "imcluster.gateway.outbox", "By", "Bytes that wait for clients to read.")
	gauge(&i.ready, "imcluster.gateway.ready", "1", "1 while clients should be sent to this gateway.")
	gauge(&i.held, "imcluster.gateway.held.sessions", "{session}", "Sessions on draining gateways that this one waits for before it is ready.")
	gauge(&i.draining, "imcluster.gateway.draining.connections", "{connection}", "Connections still to move while draining.")
	gauge(&i.links, "imcluster.gateway.peers", "{peer}", "Gateways that this one sends to.")
	i.watch.make(gauge, counter)
	counter(&i.frames, "imcluster.gateway.frames", "{frame}", "Frames, by type and direction.")
	counter(&i.logins, "imcluster.gateway.logins", "{login}", "Logins, by result.")
	counter(&i.stores, "imcluster.gateway.stores", "{message}", "Messages for mailboxes, by result: once for each recipient.")
	counter(&i.pushes, "imcluster.gateway.pushes", "{push}", "Messages and hints on the way to sessions, by where they went: once for each gateway.")
	counter(&i.closes, "imcluster.gateway.closes", "{connection}", "Connections closed, by reason.")
	counter(&i.drops, "imcluster.gateway.push.drops", "{push}", "Messages for other gateways that were dropped, by reason.")
	counter(&i.panics, "imcluster.gateway.panics", "{panic}", "Faults while handling a frame; each closed one connection.")
	for _, c := range []struct {
		value                   *atomic.Int64
		name, unit, description string
	}{
		{&m.delivered, "delivered", "{message}", "Stored messages that were sent to sessions for the first time."},
		{&m.redelivered, "redelivered", "{message}", "Stored messages that were sent again because they were not acknowledged."},
		{&m.missed, "missed", "{message}", "Messages that sessions were told were dropped before they could be sent."},
		{&m.acks, "acks", "{message}", "Acknowledged messages whose cursor was written."},
		{&m.ackFlushes, "ack.flushes", "{write}", "Cursors that were written."},
		{&m.gaps, "gaps", "{gap}", "Pushes that came without the one before."},
		{&m.reads, "mailbox.reads", "{read}", "Pages read from mailboxes."},
		{&m.hints, "hints", "{message}", "Messages whose storing had an unknown outcome; the recipient's sessions were told to look."},
		{&m.sweeps, "sweeps", "{sweep}", "Comparisons of the mailboxes of all sessions, because pushes may have been lost."},
		{&m.swept, "swept", "{session}", "Sessions that a sweep found behind their mailbox."},
		{&m.fanOuts, "group.fanouts", "{message}", "Messages to groups that were stored for the members, resends included."},
	} {
		var o metric.Int64ObservableCounter
		counter(&o, "imcluster.gateway."+c.name, c.unit, c.description)
		i.counters = append(i.counters, countedBy{o, c.value})
	}
	if firstErr != nil {
		return nil, firstErr
	}
	var err error
	m.registration, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		g.observe(o, &i)
		return nil
	}, all...)
	return m, err
}

// observe reports all metrics.
func (g *Gateway) observe(o metric.Observer, i *instruments) {
	m := g.metrics
	if m == nil || g.peers == nil {
		return // not constructed yet
	}
	connections := int64(g.connections())
	o.ObserveInt64(i.connections, connections)
	o.ObserveInt64(i.sessions, g.table.count.Load())
	o.ObserveInt64(i.queued, m.queuedBytes.Load())
	o.ObserveInt64(i.ready, boolean(g.Ready()))
	o.ObserveInt64(i.held, g.heldBy.Load())
	o.ObserveInt64(i.draining, connections*boolean(g.draining.Load()))
	o.ObserveInt64(i.links, int64(g.peers.Links()))
	o.ObserveInt64(i.panics, m.panics.Load())
	i.watch.observe(o, g.hub)
	for t := range 256 {
		if typ := wire.Type(t); typ.Known() {
			in := metric.WithAttributes(attribute.String("type", typ.String()), attribute.String("direction", "in"))
			out := metric.WithAttributes(attribute.String("type", typ.String()), attribute.String("direction", "out"))
			o.ObserveInt64(i.frames, m.received[t].Load(), in)
			o.ObserveInt64(i.frames, m.sent[t].Load(), out)
		}
	}
	for r := range numLoginResults {
		o.ObserveInt64(i.logins, m.logins[r].Load(), metric.WithAttributes(attribute.String("result", r.String())))
	}
	for r := range numStoreResults {
		o.ObserveInt64(i.stores, m.stores[r].Load(), metric.WithAttributes(attribute.String("result", r.String())))
	}
	for r := range numRoutes {
		o.ObserveInt64(i.pushes, m.pushes[r].Load(), metric.WithAttributes(attribute.String("route", r.String())))
	}
	for _, c := range i.counters {
		o.ObserveInt64(c.counter, c.value.Load())
	}
	for r := reasonNone + 1; r < numReasons; r++ {
		o.ObserveInt64(i.closes, m.closes[r].Load(), metric.WithAttributes(attribute.String("reason", r.String())))
	}
	for _, d := range peer.Drops() {
		o.ObserveInt64(i.drops, g.peers.Dropped(d), metric.WithAttributes(attribute.String("reason", d.String())))
	}
}

func boolean(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
