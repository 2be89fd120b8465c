package hooks_test

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/imcluster/imcluster/internal/testredis"
	"github.com/imcluster/imcluster/presence/hooks"
)

func TestAnyPodCanTellWhyTheReceiverTakesNothing(t *testing.T) {
	world, r, redis := newPeople(), newReceiver(t), testredis.Start(t)
	pod(t, r.url, world, openStore(t, redis))
	r.answering(func(w http.ResponseWriter) bool {
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return false
	})
	world.set(true, "alice")
	other := openStore(t, redis)
	reported := func() hooks.Status {
		t.Helper()
		reports, err := other.HookReports(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		statuses := make([]hooks.Status, len(reports))
		for i, report := range reports {
			if err := json.Unmarshal(report, &statuses[i]); err != nil {
				t.Fatal(err)
			}
		}
		return hooks.Sum(statuses)
	}
	soon(t, "the refusal is reported", func() bool {
		s := reported()
		return s.Pending == 1 && !s.OldestPending.IsZero() && s.Refusal == http.StatusUnauthorized && strings.Contains(s.LastError, "who are you?")
	})
	r.answering(nil)
	soon(t, "that it is over is reported", func() bool {
		s := reported()
		return s.Pending == 0 && s.LastError == "" && s.Refusal == 0 && !s.LastSuccess.IsZero()
	})
}

func TestFailuresAreToldWithoutWhatChangesOrIsSecret(t *testing.T) {
	// It resets connections after the request: the error of net/http names the port that the request came from.
	rude := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if tcp, ok := conn.(*net.TCPConn); err == nil && ok {
			_ = tcp.SetLinger(0)
			tcp.Close()
		}
	}))
	t.Cleanup(rude.Close)
	gone := httptest.NewServer(nil)
	gone.Close()
	for url, want := range map[string]string{
		rude.URL + "/?token=secret": "read: connection reset by peer",
		gone.URL:                    "dial tcp " + gone.Listener.Addr().String() + ": connect: connection refused",
	} {
		world := newPeople()
		d, _ := pod(t, url, world, openStore(t, testredis.Start(t)))
		world.set(true, "alice")
		soon(t, "a failure", func() bool { return d.Status().LastError != "" })
		if s := d.Status(); s.LastError != want || s.Refusal != 0 {
			t.Errorf("%+v, want %q", s, want)
		}
	}
}
