package presence

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/imcluster/imcluster/presence/internalapi"
)

func (f *fakeModel) HookReports(context.Context) ([]json.RawMessage, error) {
	return []json.RawMessage{
		json.RawMessage(`{"partitions":64,"pending":3,"oldestPending":"2026-01-02T03:04:05Z","lastError":"the receiver answered 401","refusal":401}`),
		json.RawMessage(`{"partitions":"another version"}`),
		json.RawMessage(`{"partitions":64,"pending":2,"oldestPending":"2026-01-02T03:04:01Z","lastSuccess":"2026-01-02T03:04:00Z"}`),
	}, f.err
}

func TestOperatorIsToldHowFarTheReceiverOfHooksIsBehind(t *testing.T) {
	model := &fakeModel{}
	s := newTestServer(t, model)
	server := httptest.NewServer(s.internalHandler())
	defer server.Close()
	client := internalapi.Client{BaseURL: server.URL, Key: "peer", HTTP: server.Client()}
	got := func() *internalapi.HookDelivery {
		t.Helper()
		d, err := client.Hooks(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if time.Since(d.AsOf).Abs() > time.Minute {
			t.Errorf("asked at %s", d.AsOf)
		}
		return d
	}
	ignore := cmpopts.IgnoreFields(internalapi.HookDelivery{}, "AsOf")
	if diff := cmp.Diff(&internalapi.HookDelivery{}, got(), ignore); diff != "" {
		t.Errorf("without hooks: %s", diff)
	}
	s.cfg.Hooks.URL = "https://backend.example.com"
	want := &internalapi.HookDelivery{
		Pods: 2, Pending: 5, OldestPending: time.Date(2026, 1, 2, 3, 4, 1, 0, time.UTC),
		LastSuccess: time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC), LastError: "the receiver answered 401", Refusal: 401,
	}
	if diff := cmp.Diff(want, got(), ignore); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	model.err = errors.New("Redis is away")
	if d, err := client.Hooks(t.Context()); err == nil {
		t.Errorf("without Redis: %+v", d)
	}
}
