package client_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imcluster/imcluster/client"
)

// streams answers watches one after the other, each with the next text, and notes where they went on.
type streams struct {
	texts  []string
	asked  int
	tokens []string
}

func (s *streams) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.tokens = append(s.tokens, r.Header.Get("Last-Event-ID"))
	if s.asked >= len(s.texts) {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error":{"code":"unauthenticated","message":"the key is not accepted"}}`)
		return
	}
	s.asked++
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprint(w, s.texts[s.asked-1])
}

// watchAll watches until the watch ends, and returns what it told, and how it ended.
func watchAll(t *testing.T, s *streams, o client.WatchOptions) (told []string, err error) {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	presence := client.Presence{URL: server.URL, Key: "k", HTTP: server.Client()}
	for e, err := range presence.Watch(t.Context(), o) {
		if err != nil {
			return told, err
		}
		line := e.Kind + " " + e.Token
		for _, u := range e.Users {
			line += fmt.Sprintf(" %s:%s", u.User, u.State)
		}
		told = append(told, line)
	}
	return told, nil
}

func TestWatchGoesOnWhereItWas(t *testing.T) {
	s := &streams{texts: []string{
		":\n\nevent: snapshot\nid: t1\ndata: {\"users\":[{\"user\":\"a\",\"state\":\"online\"}],\"asOf\":\"2026-03-01T12:00:00.000Z\",\"degraded\":false}\n\nretry: 1\n\n",
		"event: change\nid: t2\ndata: {\"users\":[{\"user\":\"a\",\"state\":\"offline\"}],\"asOf\":\"2026-03-01T12:00:01.000Z\",\"degraded\":true}\n\nevent: bookmark\nid: t3\ndata: {}\n\nretry: 1\n\n",
		"event: relist\nid:\ndata: {}\n\nretry: 1\n\n",
	}}
	var pauses []time.Duration
	told, err := watchAll(t, s, client.WatchOptions{Users: []string{"a"}, Token: "t0",
		Interrupted: func(_ error, pause time.Duration) { pauses = append(pauses, pause) }})
	want := []string{"snapshot t1 a:online", "change t2 a:offline", "bookmark t3", "relist "}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"t0", "t1", "t3", ""}, s.tokens); diff != "" {
		t.Errorf("went on from: %s", diff)
	}
	if diff := cmp.Diff([]time.Duration{time.Millisecond, time.Millisecond, time.Millisecond}, pauses); diff != "" {
		t.Errorf("pauses: %s", diff)
	}
	var refused *client.APIError
	if !errors.As(err, &refused) || refused.Code != "unauthenticated" {
		t.Errorf("ended with %v", err)
	}
}

func TestWatchThatIsBrokenOffIsNotTakenForItsEnd(t *testing.T) {
	cut := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if cut {
			if got := r.Header.Get("Last-Event-ID"); got != "t1" {
				t.Errorf("went on from %q", got)
			}
			fmt.Fprint(w, "event: change\nid: t3\ndata: {\"users\":[]}\n\n")
			return
		}
		cut = true
		fmt.Fprint(w, "event: snapshot\nid: t1\ndata: {\"users\":[]}\n\nevent: change\nid: t2\ndata: {\"users\":[{")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(server.Close)
	presence := client.Presence{URL: server.URL, HTTP: server.Client()}
	var told []string
	var reason error
	for e, err := range presence.Watch(t.Context(), client.WatchOptions{All: true, Interrupted: func(err error, _ time.Duration) { reason = err }}) {
		if err != nil {
			t.Fatal(err)
		}
		if told = append(told, e.Token); len(told) == 2 {
			break
		}
	}
	if diff := cmp.Diff([]string{"t1", "t3"}, told); diff != "" || reason == nil {
		t.Errorf("%s, interrupted because of %v", diff, reason)
	}
}
