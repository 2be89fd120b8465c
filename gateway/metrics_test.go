package gateway

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/imcluster/imcluster/internal/telemetry"
)

func TestMetricsTellWhatHappened(t *testing.T) {
	tel, err := telemetry.Start(t.Context(), telemetry.Config{Service: "gateway"})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld()
	withMetrics := func(c *Config) {
		c.OpsListen, c.Meters, c.MetricsHandler = "127.0.0.1:0", tel.Meters(), tel.Handler()
	}
	a, b := startGateway(t, w, withMetrics), startGateway(t, w)
	alice, bob := login(t, a, "alice", "d"), login(t, b, "bob", "d")
	for _, to := range []string{"alice", "bob", "nobody"} {
		alice.send(`{"type":"80","toId":%q,"content":1}`, to)
		alice.expect(frame{"type": "81"})
		if to == "alice" {
			alice.expect(frame{"type": "80"})
		}
	}
	bob.expect(frame{"type": "80"})
	login(t, a, "alice", "d")
	alice.expectClose(4304)
	stranger := dial(t, a, "?token=%01", nil)
	stranger.expectClose(4301)

	wants := []string{
		"\nimcluster_gateway_connections 1\n",
		`imcluster_gateway_sessions`, `imcluster_gateway_outbox_bytes`, `imcluster_gateway_peers`,
		`imcluster_gateway_logins_total{result="ok"} 2`, `imcluster_gateway_logins_total{result="refused"} 1`,
		`imcluster_gateway_stores_total{result="stored"} 3`, `imcluster_gateway_stores_total{result="duplicate"} 0`,
		`imcluster_gateway_pushes_total{route="local"} 1`, `imcluster_gateway_pushes_total{route="remote"} 1`, `imcluster_gateway_pushes_total{route="none"} 1`,
		`imcluster_gateway_delivered_total 2`, `imcluster_gateway_sweeps_total 0`,
		`imcluster_gateway_closes_total{reason="replaced"} 1`, `imcluster_gateway_closes_total{reason="login_refused"} 1`,
		`imcluster_gateway_frames_total{direction="in",type="CHAT"} 3`, `imcluster_gateway_push_drops_total{reason="overflow"} 0`,
	}
	var text string
	var lacking []string
	complete := func() bool { // what ends is counted a moment after the client sees it
		text, lacking = scrape(t, a), nil
		for _, want := range wants {
			if !strings.Contains(text, want) {
				lacking = append(lacking, want)
			}
		}
		return len(lacking) == 0
	}
	for deadline := time.Now().Add(testTimeout); !complete() && time.Now().Before(deadline); {
		<-time.After(5 * time.Millisecond)
	}
	if len(lacking) > 0 {
		t.Errorf("the metrics lack %s", strings.Join(lacking, ", "))
	}
	if t.Failed() {
		t.Log(text)
	}
}

func scrape(t *testing.T, g *Gateway) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://%s/metrics", g.OpsAddr()), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
