package auth

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-jose/go-jose/v4"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// TestServicesWithACertificateOfTheirOwnAuthority are asked if that is trusted, and only then.
func TestServicesWithACertificateOfTheirOwnAuthority(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			if err := json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{public("k", ecKey())}}); err != nil {
				t.Error(err)
			}
			return
		}
		fmt.Fprint(w, `{"userId":"alice"}`)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that fail
	server.StartTLS()
	defer server.Close()
	trusted := x509.NewCertPool()
	trusted.AddCert(server.Certificate())
	for name, cas := range map[string]*x509.CertPool{"trusted": trusted, "not trusted": nil} {
		t.Run(name, func(t *testing.T) {
			hook, err := NewWebhook(WebhookConfig{URL: server.URL, Service: Service{CAs: cas}})
			if err != nil {
				t.Fatal(err)
			}
			defer hook.caller.client.CloseIdleConnections()
			if _, err := hook.Authenticate(t.Context(), Credentials{Token: "t"}); (err == nil) != (cas != nil) {
				t.Errorf("the webhook: %v", err)
			}
			keys, err := NewKeySet(KeySetConfig{URL: server.URL, Service: Service{CAs: cas}})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := keys.fetch(t.Context()); (err == nil) != (cas != nil) {
				t.Errorf("the key set: %v", err)
			}
		})
	}
}

// TestRequestsAreMeasured by service and result.
func TestRequestsAreMeasured(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	service := Service{Meters: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))}
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, `{"userId":"alice"}`)
	}))
	hook, err := NewWebhook(WebhookConfig{URL: server.URL, Service: service})
	if err != nil {
		t.Fatal(err)
	}
	defer hook.caller.client.CloseIdleConnections()
	ask := func() { _, _ = hook.Authenticate(t.Context(), Credentials{Token: "t"}) }
	ask()
	status = http.StatusUnauthorized
	ask()
	ask()
	server.Close()
	ask()

	var got metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &got); err != nil {
		t.Fatal(err)
	}
	counts := map[string]uint64{}
	for _, p := range got.ScopeMetrics[0].Metrics[0].Data.(metricdata.Histogram[float64]).DataPoints {
		what, _ := p.Attributes.Value("service")
		result, _ := p.Attributes.Value("result")
		counts[what.AsString()+" "+result.AsString()] = p.Count
	}
	if want := map[string]uint64{"webhook 200": 1, "webhook 401": 2, "webhook failed": 1}; fmt.Sprint(counts) != fmt.Sprint(want) {
		t.Errorf("measured %v, want %v", counts, want)
	}
}
