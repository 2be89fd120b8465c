package client_test

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/imcluster/imcluster/client"
	"github.com/imcluster/imcluster/presence/hooks"
)

func TestHooksAreReadOnlyIfTheSignatureFits(t *testing.T) {
	const body = `{"events":[{"hook":"_clientOffline","peerId":"bob","timestamp":1795285170184,"seq":7,"reason":"closed"}]}`
	ours, before, foreign := []byte("current"), []byte("previous"), []byte("foreign")
	now := time.Now()
	sign := func(at time.Time, keys ...[]byte) string { return hooks.Sign([]byte(body), at, keys) }
	for name, c := range map[string]struct {
		header string
		body   string
		want   error
	}{
		"signed with the current key":       {header: sign(now, ours)},
		"signed with both, during rotation": {header: sign(now, foreign, before)},
		"signed four minutes ago":           {header: sign(now.Add(-4*time.Minute), ours)},
		"signed six minutes ago":            {header: sign(now.Add(-6*time.Minute), ours), want: client.ErrNotSigned},
		"signed in the future":              {header: sign(now.Add(6*time.Minute), ours), want: client.ErrNotSigned},
		"signed with a foreign key":         {header: sign(now, foreign), want: client.ErrNotSigned},
		"not signed":                        {want: client.ErrNotSigned},
		"a signature of nothing":            {header: "t=,v1=", want: client.ErrNotSigned},
		"the time was changed":              {header: strings.Replace(sign(now.Add(-time.Second), ours), "t=", "t=1", 1), want: client.ErrNotSigned},
		"the body was changed":              {header: sign(now, ours), body: strings.Replace(body, "bob", "eve", 1), want: client.ErrNotSigned},
	} {
		t.Run(name, func(t *testing.T) {
			if c.body == "" {
				c.body = body
			}
			r := httptest.NewRequestWithContext(t.Context(), "POST", "/hooks", strings.NewReader(c.body))
			r.Header.Set(hooks.SignatureHeader, c.header)
			events, err := client.ReadHooks(r, ours, before)
			if !errors.Is(err, c.want) {
				t.Fatalf("error %v, want %v", err, c.want)
			}
			want := client.HookEvent{Hook: client.ClientOffline, PeerID: "bob", Timestamp: 1795285170184, Seq: 7, Reason: "closed"}
			if c.want == nil && (len(events) != 1 || events[0] != want) {
				t.Errorf("read %+v", events)
			}
		})
	}
}
