package presence

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/imcluster/imcluster/presence/replica"
	"github.com/imcluster/imcluster/presence/store"
)

// streamed serves h with limits that are shorter than it takes, and returns what a request is sent.
func streamed(t *testing.T, limit time.Duration, h http.HandlerFunc) io.Reader {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.Config.ReadTimeout, server.Config.WriteTimeout = limit, limit
	server.Start()
	t.Cleanup(server.Close)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp.Body
}

func TestStreamsOutliveTheLimitsOfTheServer(t *testing.T) {
	const limit = 50 * time.Millisecond
	stream := streamed(t, limit, func(w http.ResponseWriter, r *http.Request) {
		s := newEventStream(w)
		select {
		case <-r.Context().Done():
			t.Error("the request was given up while its stream was idle")
		case <-time.After(4 * limit):
		}
		s.event(&replica.Event{Bookmark: true, Token: "t"})
		if s.err != nil {
			t.Errorf("write: %v", s.err)
		}
	})
	for lines := bufio.NewScanner(stream); lines.Scan(); {
		if lines.Text() == "event: bookmark" {
			return
		}
	}
	t.Error("the event did not arrive")
}

func TestStreamOfWhoReadsNothingIsCutOff(t *testing.T) {
	ended := make(chan error)
	streamed(t, time.Minute, func(w http.ResponseWriter, _ *http.Request) {
		s := newEventStream(w)
		s.timeout = 50 * time.Millisecond
		e := &replica.Event{Users: []store.User{{ID: strings.Repeat("x", 1<<20), State: store.Offline}}}
		for s.err == nil {
			s.event(e)
		}
		ended <- s.err
	})
	select {
	case err := <-ended:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("still being written to")
	}
}
