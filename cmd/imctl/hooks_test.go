package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/imcluster/imcluster/internal/secretdir"
	"github.com/imcluster/imcluster/presence/hooks"
)

func TestHooksArePrintedOnlyIfSigned(t *testing.T) {
	key := []byte("the key")
	var out, warnings bytes.Buffer
	r := &hookReceiver{p: &printer{std: streams{out: &out, err: &warnings}}, secret: secretdir.Static(key), seen: map[string]int64{}}
	post := func(body string, key []byte) int {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
		req.Header.Set(hooks.SignatureHeader, hooks.Sign([]byte(body), time.Now(), [][]byte{key}))
		w := httptest.NewRecorder()
		r.ServeHTTP(w, req)
		return w.Code
	}
	const came = `{"events":[{"hook":"_clientOnline","peerId":"al\u001bice","timestamp":0,"seq":2,"sourceIP":"192.0.2.7"}]}`
	const left = `{"events":[{"hook":"_clientOffline","peerId":"bob","timestamp":0,"seq":3,"reason":"closed"}]}`
	if code := post(came, key); code != http.StatusNoContent {
		t.Errorf("signed: %d", code)
	}
	if code := post(left, []byte("another key")); code != http.StatusUnauthorized || !strings.Contains(warnings.String(), "Refused") {
		t.Errorf("signed by somebody else: %d, %q", code, warnings.String())
	}
	post(left, key)
	post(left, key)
	if code := post("{", key); code != http.StatusBadRequest {
		t.Errorf("not JSON: %d", code)
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		_, text, _ := strings.Cut(strings.TrimSpace(line), "  ")
		got = append(got, text)
	}
	want := []string{"al�ice came online, from 192.0.2.7", "bob went offline: closed", "bob went offline: closed (told before)"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("printed:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
