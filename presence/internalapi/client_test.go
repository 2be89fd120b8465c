package internalapi_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imcluster/imcluster/presence/internalapi"
)

func newServer(t *testing.T, handler http.HandlerFunc) *internalapi.Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return &internalapi.Client{BaseURL: server.URL, Key: "secret", HTTP: server.Client()}
}

func TestIncarnationsAreDecoded(t *testing.T) {
	client := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.Path != "/internal/incarnations" || r.Header.Get("Authorization") != "Bearer secret" {
			t.Errorf("unexpected request %s %s %v", r.Method, r.URL, r.Header)
		}
		_, _ = w.Write([]byte(`{"asOf":"2026-01-02T03:04:05.678Z","degraded":true,"connections":3,"onlineUsers":2,
			"incarnations":[{"epoch":"e1","podName":"p","podUID":"u","address":"10.0.0.1:9091","state":"draining","leaseRemainingMs":9000,"connections":3}]}`))
	})
	got, err := client.Incarnations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := &internalapi.IncarnationList{
		AsOf: time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC), Degraded: true, Connections: 3, OnlineUsers: 2,
		Incarnations: []internalapi.Incarnation{{Epoch: "e1", PodName: "p", PodUID: "u", Address: "10.0.0.1:9091",
			State: internalapi.StateDraining, LeaseRemainingMs: 9000, Connections: 3}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestFenceSendsEpochsAndBans(t *testing.T) {
	want := internalapi.FenceRequest{Epochs: []string{"e1", "e2"}, BanPodUIDs: []string{"u"}}
	client := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		var got internalapi.FenceRequest
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(want, got); diff != "" || r.Method != http.MethodPost || r.URL.Path != "/internal/fence" {
			t.Errorf("%s %s: %s", r.Method, r.URL.Path, diff)
		}
		_, _ = w.Write([]byte(`{"fenced":["e1"],"unknown":["e2"]}`))
	})
	got, err := client.Fence(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&internalapi.FenceResponse{Fenced: []string{"e1"}, Unknown: []string{"e2"}}, got); diff != "" {
		t.Error(diff)
	}
}

func TestRefusalsAreTyped(t *testing.T) {
	for _, tc := range []struct {
		name string
		code int
		want error
	}{
		{"wrong key", http.StatusUnauthorized, internalapi.ErrUnauthenticated},
		{"Redis away", http.StatusServiceUnavailable, internalapi.ErrUnavailable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			client := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tc.code)
				_, _ = w.Write([]byte(`{"error":{"code":"x","message":"why"}}`))
			})
			if _, err := client.Incarnations(t.Context()); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}
