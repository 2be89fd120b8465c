package gateway

import (
	"go.opentelemetry.io/otel/metric"

	"github.com/imcluster/imcluster/gateway/watch"
)

// watchInstruments export what the watch of presence does.
type watchInstruments struct {
	up, users, subscriptions metric.Int64ObservableGauge
	streams, changes         metric.Int64ObservableCounter
}

// make makes the instruments.
func (w *watchInstruments) make(
	gauge func(to *metric.Int64ObservableGauge, name, unit, description string),
	counter func(to *metric.Int64ObservableCounter, name, unit, description string),
) {
	gauge(&w.up, "imcluster.gateway.watch.up", "1", "1 while presence tells of changes.")
	gauge(&w.users, "imcluster.gateway.watch.users", "{user}", "Users about whom presence is asked.")
	gauge(&w.subscriptions, "imcluster.gateway.watch.subscriptions", "{subscription}", "Subscriptions of clients.")
	counter(&w.streams, "imcluster.gateway.watch.streams", "{stream}", "Times that the watch of presence was begun.")
	counter(&w.changes, "imcluster.gateway.watch.changes", "{change}", "Changes of users that at least one client was told of.")
}

// observe reports the figures; the hub is nil where clients may not ask for presence.
func (w *watchInstruments) observe(o metric.Observer, hub *watch.Hub) {
	var s watch.Stats
	if hub != nil {
		s = hub.Stats()
	}
	o.ObserveInt64(w.up, boolean(s.Live))
	o.ObserveInt64(w.users, s.Users)
	o.ObserveInt64(w.subscriptions, s.Subscriptions)
	o.ObserveInt64(w.streams, s.Streams)
	o.ObserveInt64(w.changes, s.Changes)
}
