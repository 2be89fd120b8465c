package telemetry

import (
	"bytes"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestMetricsAreServedForPrometheus(t *testing.T) {
	tel, err := Start(t.Context(), Config{Service: "test"})
	if err != nil {
		t.Fatal(err)
	}
	counter, err := tel.Meters().Meter("m").Int64Counter("imcluster_test_frames")
	if err != nil {
		t.Fatal(err)
	}
	counter.Add(t.Context(), 3)

	rec := httptest.NewRecorder()
	tel.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{"imcluster_test_frames_total 3", "go_goroutines"} {
		if !strings.Contains(rec.Body.String(), want) {
			t.Errorf("/metrics lacks %q", want)
		}
	}
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestUnreachableTraceReceiverIsNoError(t *testing.T) {
	tel, err := Start(t.Context(), Config{Service: "test", OTLPEndpoint: "127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestLogLevels(t *testing.T) {
	var out bytes.Buffer
	log, err := NewLogger(&out, "warn")
	if err != nil {
		t.Fatal(err)
	}
	log.Info("quiet")
	log.Warn("loud")
	if s := out.String(); strings.Contains(s, "quiet") || !strings.Contains(s, `"msg":"loud"`) {
		t.Errorf("log is %q", s)
	}
	if _, err := NewLogger(&out, "verbose"); err == nil {
		t.Error("level verbose was accepted")
	}
}
