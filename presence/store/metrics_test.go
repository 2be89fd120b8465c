package store

import (
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

func TestMetrics(t *testing.T) {
	r := startRedis(t)
	reader := sdkmetric.NewManualReader()
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	t.Cleanup(func() { _ = provider.Shutdown(t.Context()) })
	g := startGateway(t, Config{LeaseTTL: 15 * time.Second, Meter: provider}, "gw-1", r.Addr)
	s, _ := g.login("alice", "d")
	is(t, g.store, "alice", Online)
	g.logout(s)
	g.flush()

	var data metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &data); err != nil {
		t.Fatal(err)
	}
	ops := map[string]uint64{}
	names := map[string]bool{}
	for _, m := range data.ScopeMetrics[0].Metrics {
		names[m.Name] = true
		if h, ok := m.Data.(metricdata.Histogram[float64]); ok {
			for _, p := range h.DataPoints {
				op, _ := p.Attributes.Value("op")
				result, _ := p.Attributes.Value("result")
				ops[op.AsString()+" "+result.AsString()] = p.Count
			}
		}
	}
	for _, op := range []string{"register ok", "users ok", "unregister ok"} {
		if ops[op] != 1 {
			t.Errorf("%s was counted %d times: %v", op, ops[op], ops)
		}
	}
	for _, name := range []string{"imcluster_store_lane_depth", "imcluster_store_lease_age"} {
		if !names[name] {
			t.Errorf("no %s", name)
		}
	}
}
