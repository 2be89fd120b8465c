package auth

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/imcluster/imcluster/api/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hook is a webhook of the user: it knows alice's token.
type hook struct {
	*httptest.Server
	asked atomic.Int32
	clock *clock

	mu     sync.Mutex
	answer http.HandlerFunc
}

func newHook(t *testing.T) *hook {
	t.Helper()
	h := &hook{clock: newClock()}
	h.behave(func(w http.ResponseWriter, r *http.Request) {
		var asks map[string]string
		if err := json.NewDecoder(r.Body).Decode(&asks); err != nil || asks["token"] != "alice's" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, `{"userId":"alice","role":"admin"}`)
	})
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.asked.Add(1)
		// All of it is read first: only then does the server notice that the client went away.
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		h.mu.Lock()
		answer := h.answer
		h.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hook) behave(answer http.HandlerFunc) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answer = answer
}

func (h *hook) authenticator(t *testing.T, change ...func(*WebhookConfig)) *Webhook {
	t.Helper()
	cfg := WebhookConfig{URL: h.URL + "/check?key=hidden", CacheFor: time.Minute, now: h.clock.now}
	for _, f := range change {
		f(&cfg)
	}
	w, err := NewWebhook(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.caller.client.CloseIdleConnections)
	return w
}

func TestWebhookAnswers(t *testing.T) {
	c := newClock()
	for _, tc := range []struct {
		name   string
		status int
		body   string
		want   string // "" accepted, a code, or "later"
	}{
		{"the least", 200, `{"userId":"alice"}`, ""},
		{"unknown fields", 200, `{"userId":"alice","x":{"y":[1]}}`, ""},
		{"401", 401, `{"userId":"alice"}`, "301"},
		{"expired", 200, fmt.Sprintf(`{"userId":"alice","expires":%d}`, c.now().Unix()-1), "302"},
		{"403", 403, ``, "later"},
		{"404", 404, ``, "later"},
		{"201", 201, `{"userId":"alice"}`, "later"},
		{"500", 500, `{"userId":"alice"}`, "later"},
		{"no user", 200, `{}`, "later"},
		{"user is empty", 200, `{"userId":""}`, "later"},
		{"user is no user id", 200, `{"userId":"a\nb"}`, "later"},
		{"user is a number", 200, `{"userId":7}`, "later"},
		{"expires is text", 200, `{"userId":"alice","expires":"tomorrow"}`, "later"},
		{"token id is too long", 200, `{"userId":"alice","tokenId":"` + strings.Repeat("x", 129) + `"}`, "later"},
		{"HTML", 200, `<html>`, "later"},
		{"two answers", 200, `{"userId":"alice"}{"userId":"bob"}`, "later"},
		{"huge", 200, `{"userId":"alice","x":"` + strings.Repeat("x", maxAnswerBytes) + `"}`, "later"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHook(t)
			h.behave(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tc.status)
				_, _ = w.Write([]byte(tc.body))
			})
			if got := outcome(t, h.authenticator(t), "a token"); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestWebhookIsAskedWhatTheClientSaid(t *testing.T) {
	h := newHook(t)
	var got map[string]any
	var header http.Header
	h.behave(func(w http.ResponseWriter, r *http.Request) {
		header = r.Header
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil || r.Method != http.MethodPost || r.URL.Path != "/check" {
			t.Errorf("%s %s, %v", r.Method, r.URL, err)
		}
		fmt.Fprint(w, `{"userId":"alice","expires":4000000000,"issued":1700000000,"tokenId":"id7"}`)
	})
	id, err := h.authenticator(t).Authenticate(t.Context(), Credentials{Token: `"t"`, DeviceID: "d", Platform: "p", Address: "::1"})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 4 || got["token"] != `"t"` || got["deviceId"] != "d" || got["platform"] != "p" || got["address"] != "::1" {
		t.Errorf("asked %v", got)
	}
	if header.Get("Content-Type") != "application/json" || header.Get(SignatureHeader) != "" {
		t.Errorf("headers %v", header)
	}
	if id.Expires.Unix() != 4000000000 || id.Issued.Unix() != 1700000000 || id.TokenID != "id7" {
		t.Errorf("got %+v", id)
	}
}

func TestRequestsAreSigned(t *testing.T) {
	h := newHook(t)
	h.behave(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		mac := hmac.New(sha256.New, []byte(current))
		fmt.Fprintf(mac, "%s.%s", r.Header.Get("X-IMCluster-Timestamp"), body)
		if want := "v1=" + hex.EncodeToString(mac.Sum(nil)); r.Header.Get("X-IMCluster-Signature") != want {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, `{"userId":"alice"}`)
	})
	sign := func(k ...string) func(*WebhookConfig) { return func(c *WebhookConfig) { c.Secret = keys(k) } }
	if got := outcome(t, h.authenticator(t, sign(current, previous)), "a-token"); got != "" {
		t.Errorf("signed: %q", got)
	}
	if got := outcome(t, h.authenticator(t, sign(previous)), "a-token"); got != "301" {
		t.Errorf("signed with another key: %q", got)
	}
}

// The token must not go anywhere else than where the configuration says.
func TestRedirectsAreNotFollowed(t *testing.T) {
	h, mallory := newHook(t), newHook(t)
	for _, status := range []int{301, 302, 303, 307, 308} {
		h.behave(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, mallory.URL, status) })
		if got := outcome(t, h.authenticator(t), "alice's"); got != "later" {
			t.Errorf("%d: %q", status, got)
		}
	}
	if n := mallory.asked.Load(); n != 0 {
		t.Errorf("somebody else was asked %d times", n)
	}
}

func TestPositiveAnswersAreUsedAgainForAWhile(t *testing.T) {
	h := newHook(t)
	a := h.authenticator(t)
	good := Credentials{Token: "alice's", DeviceID: "d", Platform: "p", Address: "192.0.2.1"}
	ask := func(what string, c Credentials, asked int32) Identity {
		t.Helper()
		id, _ := a.Authenticate(t.Context(), c)
		if n := h.asked.Load(); n != asked {
			t.Errorf("%s: %d requests, want %d", what, n, asked)
		}
		return id
	}
	first := ask("at first", good, 1)
	h.clock.advance(time.Minute - time.Second)
	if again := ask("again", good, 1); again != first || first.User != "alice" || first.Issued.IsZero() {
		t.Errorf("got %+v, then %+v", first, again)
	}
	for i, change := range []func(*Credentials){
		func(c *Credentials) { c.DeviceID = "e" }, func(c *Credentials) { c.Platform = "q" },
		func(c *Credentials) { c.Address = "192.0.2.2" }, func(c *Credentials) { c.Token = "alice's " },
	} {
		other := good
		change(&other)
		ask(fmt.Sprint("another question ", i), other, int32(i)+2)
	}
	h.clock.advance(time.Second)
	if later := ask("later", good, 6); !later.Issued.After(first.Issued) {
		t.Error("an answer without issued counts from when it was given")
	}
	bad := Credentials{Token: "mallory's"}
	ask("refused", bad, 7)
	ask("refused again", bad, 8)
}

func TestAnswersEndWithTheirToken(t *testing.T) {
	h := newHook(t)
	a := h.authenticator(t)
	h.behave(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"userId":"alice","expires":%d}`, h.clock.now().Add(10*time.Second).Unix())
	})
	if got := outcome(t, a, "a-token"); got != "" {
		t.Fatal(got)
	}
	h.clock.advance(11 * time.Second)
	h.behave(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
	if got := outcome(t, a, "a-token"); got != "301" {
		t.Errorf("an expired answer was used: %q", got)
	}
}

func TestNothingIsRememberedWithoutACache(t *testing.T) {
	h := newHook(t)
	a := h.authenticator(t, func(c *WebhookConfig) { c.CacheFor = 0 })
	for range 3 {
		if got := outcome(t, a, "alice's"); got != "" {
			t.Fatal(got)
		}
	}
	if n := h.asked.Load(); n != 3 {
		t.Errorf("%d requests, want 3", n)
	}
}

func TestCacheIsBounded(t *testing.T) {
	c, now := newCache(time.Minute), time.Now()
	question := func(i int) [sha256.Size]byte { return sha256.Sum256(fmt.Append(nil, i)) }
	for i := range maxCached + 500 {
		c.put(question(i), Identity{User: "u"}, now)
	}
	if len(c.answers) != maxCached || c.byAge.Len() != maxCached {
		t.Errorf("%d and %d answers are kept, want %d", len(c.answers), c.byAge.Len(), maxCached)
	}
	if _, ok := c.get(question(499), now); ok {
		t.Error("the oldest was kept")
	}
	if _, ok := c.get(question(500), now); !ok {
		t.Error("a newer one was not kept")
	}
	c.put(question(500), Identity{User: "v"}, now)
	if id, _ := c.get(question(500), now); id.User != "v" || c.byAge.Len() != maxCached {
		t.Errorf("a newer answer: %+v, %d kept", id, c.byAge.Len())
	}
	if _, ok := c.get(question(600), now.Add(time.Minute)); ok || len(c.answers) != 0 {
		t.Errorf("%d answers are kept after their time", len(c.answers))
	}
}

// A crowd with the same token, as after a fault of an application, is one question.
func TestTheSameQuestionIsAskedOnce(t *testing.T) {
	h := newHook(t)
	entered, release := make(chan struct{}), make(chan struct{})
	h.behave(func(w http.ResponseWriter, _ *http.Request) {
		entered <- struct{}{}
		<-release
		fmt.Fprint(w, `{"userId":"alice"}`)
	})
	a := h.authenticator(t)
	// The first one gives up: the others get the answer all the same.
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error, 1)
	go func() {
		_, err := a.Authenticate(ctx, Credentials{Token: "t"})
		gaveUp <- err
	}()
	<-entered
	results := make(chan error, 50)
	for range 50 {
		go func() {
			_, err := a.Authenticate(t.Context(), Credentials{Token: "t"})
			results <- err
		}()
	}
	cancel()
	if err := <-gaveUp; !errors.Is(err, context.Canceled) {
		t.Errorf("the one that gave up: %v", err)
	}
	close(release)
	for range 50 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if n := h.asked.Load(); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

func TestSlowWebhookIsGivenUp(t *testing.T) {
	h := newHook(t)
	h.behave(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	a := h.authenticator(t, func(c *WebhookConfig) { c.Timeout = 20 * time.Millisecond })
	if got := outcome(t, a, "alice's"); got != "later" {
		t.Errorf("got %q", got)
	}
	// One that sends its answer byte by byte, too.
	h.behave(func(w http.ResponseWriter, r *http.Request) {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for r.Context().Err() == nil {
			_, _ = w.Write([]byte(" "))
			w.(http.Flusher).Flush()
			<-tick.C
		}
	})
	if got := outcome(t, a, "alice's"); got != "later" {
		t.Errorf("an endless answer: %q", got)
	}
}

// What is logged of a failure tells neither the token nor the URL's query, which may hold a secret.
func TestErrorsTellNoSecrets(t *testing.T) {
	h := newHook(t)
	a := h.authenticator(t)
	h.Close() // nobody listens
	_, err := a.Authenticate(t.Context(), Credentials{Token: "secret-token"})
	var e *wire.Error
	if err == nil || errors.As(err, &e) {
		t.Fatalf("got %v, want an error that lets the client try again", err)
	}
	if text := err.Error(); strings.Contains(text, "secret-token") || strings.Contains(text, "hidden") {
		t.Errorf("the error says %q", text)
	}
	if got := withoutQuery("https://u:p@host/path?key=hidden#f"); got != "https://host/path" {
		t.Errorf("logged as %s", got)
	}
}
