package presence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imcluster/imcluster/internal/secretdir"
	"github.com/imcluster/imcluster/presence/internalapi"
	"github.com/imcluster/imcluster/presence/store"
)

var loginTime = time.Date(2026, 3, 1, 12, 0, 0, 250e6, time.UTC)

// fakeModel knows the users on.. (online), off.. (offline); it panics when asked for "panic".
type fakeModel struct {
	externals // nobody asks for them here

	err  error
	did  []string // changes that were asked for
	keys []string // of the groups that were created
}

func (f *fakeModel) Users(_ context.Context, ids []string) ([]store.User, time.Time, bool) {
	users := make([]store.User, len(ids))
	for i, id := range ids {
		u := store.User{ID: id, State: store.Unknown, Reason: store.NeverSeen}
		switch {
		case id == "panic":
			panic("boom")
		case strings.HasPrefix(id, "on"):
			u.State, u.Reason = store.Online, ""
			u.Devices = []store.Device{{ID: "phone", Platform: "ios", Gateway: "gw-1", LoginTime: loginTime}}
			if id == "onbusy" {
				u.Status, u.Text = "busy", "in a meeting"
			}
		case strings.HasPrefix(id, "off"):
			u.State, u.Reason, u.LastSeen = store.Offline, "", loginTime.Truncate(time.Second)
		}
		users[i] = u
	}
	return users, loginTime, f.err != nil
}

func (f *fakeModel) Briefs(ctx context.Context, ids []string, into []store.Brief) bool {
	users, _, degraded := f.Users(ctx, ids)
	for i := range users {
		u := &users[i]
		into[i] = store.Brief{Known: u.State != store.Unknown || u.Reason == store.NeverSeen, Online: u.State == store.Online}
		if u.State == store.Offline {
			into[i].LastSeen = u.LastSeen.Unix()
		}
	}
	return degraded
}

func (f *fakeModel) Online(_ context.Context, cursor string, limit int) (store.Page, error) {
	if cursor == "bad" {
		return store.Page{}, fmt.Errorf("list: %w", store.ErrInvalidCursor)
	}
	return store.Page{Users: []string{"on1", cursor}, Next: fmt.Sprint("after", limit), AsOf: loginTime}, f.err
}

func (f *fakeModel) Counts(context.Context) (store.Counts, error) {
	return store.Counts{Users: 2, Sessions: 3, Gateways: []store.GatewayCount{{Pod: "gw-1", Sessions: 3}}, AsOf: loginTime}, f.err
}

func (f *fakeModel) Incarnations(context.Context) ([]store.Incarnation, bool, error) {
	return []store.Incarnation{
		{Epoch: "aaaaaaaa", PodName: "gw-1", PodUID: "u1", Address: "10.0.0.1:9091", LeaseRemaining: 9 * time.Second, Sessions: 3},
		{Epoch: "bbbbbbbb", PodName: "gw-2", PodUID: "u2", Address: "10.0.0.2:9091", Draining: true, LeaseRemaining: -time.Second, Sessions: 7},
	}, false, f.err
}

func (f *fakeModel) Fence(_ context.Context, epochs []store.Epoch, _ []string) (fenced, unknown []store.Epoch, err error) {
	return epochs[:1], epochs[1:], f.err
}

// newTestServer returns a server on m that is not run, and a function that sends requests to one of its handlers.
func newTestServer(t *testing.T, m model) *Server {
	t.Helper()
	s, err := New(Config{Listen: "127.0.0.1:0", InternalListen: "127.0.0.1:0", OpsListen: "127.0.0.1:0",
		APIKey: secretdir.Static([]byte("api")), PeerKey: secretdir.Static([]byte("peer")), MaxQueryUsers: 5})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.eachEndpoint(func(e *endpoint) { _ = e.listener.Close() }) })
	if m != nil {
		s.model.set(m.(redisModel))
	}
	return s
}

type request struct {
	method, target, key, contentType, body string
	header                                 map[string]string
}

// answer is what a request got.
type answer struct {
	status int
	header http.Header
	body   string
}

func (q request) do(t *testing.T, h http.Handler) answer {
	t.Helper()
	if path := q.target; strings.HasPrefix(path, "/v1/") || strings.HasPrefix(path, "/1.1/") {
		h = document(t).Handler(h, func(err error) { t.Error(err) })
	}
	server := httptest.NewServer(h)
	defer server.Close()
	r, err := http.NewRequestWithContext(t.Context(), q.method, server.URL+q.target, strings.NewReader(q.body))
	if err != nil {
		t.Fatal(err)
	}
	if q.key != "" {
		r.Header.Set("Authorization", "Bearer "+q.key)
	}
	if q.contentType != "" {
		r.Header.Set("Content-Type", q.contentType)
	}
	for name, value := range q.header {
		r.Header.Set(name, value)
	}
	resp, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

func TestAnswersAreAsDocumented(t *testing.T) {
	s := newTestServer(t, &fakeModel{})
	for _, tc := range []struct {
		name, method, target, body, want string
	}{
		{"online", "GET", "/v1/presence/on1", "",
			`{"user":"on1","state":"online","status":"online","devices":[{"id":"phone","platform":"ios","gateway":"gw-1","loginTime":"2026-03-01T12:00:00.250Z"}],"asOf":"2026-03-01T12:00:00.250Z","degraded":false}`},
		{"offline", "GET", "/v1/presence/off", "",
			`{"user":"off","state":"offline","lastSeen":"2026-03-01T12:00:00.000Z","devices":[],"asOf":"2026-03-01T12:00:00.250Z","degraded":false}`},
		{"never seen", "GET", "/v1/presence/x", "",
			`{"user":"x","state":"unknown","reason":"never_seen","devices":[],"asOf":"2026-03-01T12:00:00.250Z","degraded":false}`},
		{"batch in order with a duplicate", "POST", "/v1/presence:batchGet", `{"users":["x","off","x"]}`,
			`{"users":[{"user":"x","state":"unknown","reason":"never_seen","devices":[]},{"user":"off","state":"offline","lastSeen":"2026-03-01T12:00:00.000Z","devices":[]},{"user":"x","state":"unknown","reason":"never_seen","devices":[]}],"asOf":"2026-03-01T12:00:00.250Z","degraded":false}`},
		{"empty batch", "POST", "/v1/presence:batchGet", `{"users":[]}`, `{"users":[],"asOf":"2026-03-01T12:00:00.250Z","degraded":false}`},
		{"list", "GET", "/v1/online?limit=7&cursor=c", "", `{"users":["on1","c"],"nextCursor":"after7","asOf":"2026-03-01T12:00:00.250Z","degraded":false}`},
		{"count", "GET", "/v1/online/count", "", `{"users":2,"sessions":3,"gateways":[{"pod":"gw-1","sessions":3}],"asOf":"2026-03-01T12:00:00.250Z","degraded":false}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			resp := request{tc.method, tc.target, "api", "", tc.body, nil}.do(t, s.publicHandler())
			if resp.status != 200 || resp.body != tc.want {
				t.Errorf("status %d\n got %s\nwant %s", resp.status, resp.body, tc.want)
			}
		})
	}
}

func TestUserIDsOfAllKindsInThePath(t *testing.T) {
	s := newTestServer(t, &fakeModel{})
	for _, id := range []string{"a:b", "a/b", "//", "{x}", "测试", "😀", "a b", "a+b", "a%2Fb", "?", "#", ".", "..", `"\`, "<&>", "presence:batchGet", strings.Repeat("😀", 32)} {
		resp := request{"GET", "/v1/presence/" + strings.ReplaceAll(url.PathEscape(id), ".", "%2E"), "api", "", "", nil}.do(t, s.publicHandler())
		var got struct{ User string }
		if err := json.Unmarshal([]byte(resp.body), &got); err != nil || resp.status != 200 || got.User != id {
			t.Errorf("%q: status %d, body %s, %v", id, resp.status, resp.body, err)
		}
	}
}

func TestMistakesAreAnsweredWithWhatToDo(t *testing.T) {
	s := newTestServer(t, &fakeModel{})
	const batch = "/v1/presence:batchGet"
	for _, tc := range []struct {
		name   string
		q      request
		status int
		code   string
		says   string
	}{
		{"no key", request{method: "GET", target: "/v1/online"}, 401, "unauthenticated", "Authorization: Bearer"},
		{"wrong key", request{method: "GET", target: "/v1/online", key: "apj"}, 401, "unauthenticated", "not accepted"},
		{"the other key", request{method: "GET", target: "/v1/online", key: "peer"}, 401, "unauthenticated", "not accepted"},
		{"unknown path", request{method: "GET", target: "/v1/presences", key: "api"}, 404, "not_found", "/v1/presence/{user}"},
		{"internal path", request{method: "GET", target: "/internal/incarnations", key: "peer"}, 404, "not_found", "/v1/online"},
		{"wrong method", request{method: "DELETE", target: "/v1/presence/u", key: "api"}, 405, "method_not_allowed", "GET"},
		{"GET of a batch", request{method: "GET", target: batch, key: "api"}, 405, "method_not_allowed", "POST"},
		{"id too long", request{method: "GET", target: "/v1/presence/" + strings.Repeat("u", 129), key: "api"}, 400, "invalid_argument", "user: user id must have at most 128 bytes"},
		{"control character", request{method: "GET", target: "/v1/presence/a%00", key: "api"}, 400, "invalid_argument", "control"},
		{"not UTF-8", request{method: "GET", target: "/v1/presence/%ff", key: "api"}, 400, "invalid_argument", "UTF-8"},
		{"unknown parameter", request{method: "GET", target: "/v1/online?limt=3", key: "api"}, 400, "invalid_argument", `"limt"`},
		{"limit", request{method: "GET", target: "/v1/online?limit=1001", key: "api"}, 400, "invalid_argument", "limit: must be a number from 1 to 1000"},
		{"cursor", request{method: "GET", target: "/v1/online?cursor=bad", key: "api"}, 400, "invalid_argument", "cursor"},
		{"form", request{method: "POST", target: batch, key: "api", contentType: "application/x-www-form-urlencoded", body: `{"users":[]}`}, 415, "unsupported_media_type", "application/json"},
		{"too many users", request{method: "POST", target: batch, key: "api", body: `{"users":["1","2","3","4","5","6"]}`}, 400, "too_many_users", "at most 5"},
		{"too large", request{method: "POST", target: batch, key: "api", body: strings.Repeat(" ", 10000)}, 413, "too_large", "bytes"},
		{"bad id in the middle", request{method: "POST", target: batch, key: "api", body: `{"users":["1",""]}`}, 400, "invalid_argument", "users[1]: user id is empty"},
		{"number in the list", request{method: "POST", target: batch, key: "api", body: `{"users":["1",2]}`}, 400, "invalid_argument", "users: must be a list of strings"},
		{"null in the list", request{method: "POST", target: batch, key: "api", body: `{"users":[null]}`}, 400, "invalid_argument", "users: must be a list of strings"},
		{"unknown field", request{method: "POST", target: batch, key: "api", body: `{"user":["1"]}`}, 400, "invalid_argument", `"user"`},
		{"missing field", request{method: "POST", target: batch, key: "api", body: `{}`}, 400, "invalid_argument", "users: is missing"},
		{"not an object", request{method: "POST", target: batch, key: "api", body: `["1"]`}, 400, "invalid_argument", "JSON object"},
		{"broken JSON", request{method: "POST", target: batch, key: "api", body: `{"users":["1"`}, 400, "invalid_argument", "cannot be read"},
		{"trailing data", request{method: "POST", target: batch, key: "api", body: `{"users":["1"]}{}`}, 400, "invalid_argument", "goes on"},
		{"empty body", request{method: "POST", target: batch, key: "api"}, 400, "invalid_argument", "empty"},
		{"not UTF-8 body", request{method: "POST", target: batch, key: "api", body: "{\"users\":[\"\xff\"]}"}, 400, "invalid_argument", "UTF-8"},
		{"panic", request{method: "GET", target: "/v1/presence/panic", key: "api"}, 500, "internal", "log"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			resp := tc.q.do(t, s.publicHandler())
			checkError(t, resp, tc.status, tc.code, tc.says)
		})
	}
}

// checkError checks that resp is a well-formed error.
func checkError(t *testing.T, resp answer, status int, code, says string) {
	t.Helper()
	var body internalapi.ErrorBody
	if err := json.Unmarshal([]byte(resp.body), &body); err != nil {
		t.Fatalf("status %d: %v", resp.status, err)
	}
	if resp.status != status || body.Error.Code != code || !strings.Contains(body.Error.Message, says) {
		t.Errorf("got %d %+v, want %d %s saying %q", resp.status, body.Error, status, code, says)
	}
	if ct := resp.header.Get("Content-Type"); ct != "application/json" {
		t.Errorf("content type %q", ct)
	}
	switch status {
	case 401:
		if resp.header.Get("WWW-Authenticate") == "" {
			t.Error("401 without WWW-Authenticate")
		}
	case 405:
		if resp.header.Get("Allow") == "" {
			t.Error("405 without Allow")
		}
	case 503:
		if resp.header.Get("Retry-After") == "" {
			t.Error("503 without Retry-After")
		}
	}
}

func TestHeadIsGetWithoutBody(t *testing.T) {
	s := newTestServer(t, &fakeModel{})
	get := request{"GET", "/v1/presence/on1", "api", "", "", nil}.do(t, s.publicHandler())
	head := request{"HEAD", "/v1/presence/on1", "api", "", "", nil}.do(t, s.publicHandler())
	if head.status != 200 || head.header.Get("Content-Length") != get.header.Get("Content-Length") || head.body != "" {
		t.Errorf("HEAD answered %+v", head)
	}
}

func TestListAndCountAreUnavailableWithoutRedis(t *testing.T) {
	for name, m := range map[string]model{
		"failing":       &fakeModel{err: fmt.Errorf("read: %w", store.ErrUnavailable)},
		"timed out":     &fakeModel{err: fmt.Errorf("read: %w", context.DeadlineExceeded)},
		"not connected": nil,
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t, m)
			for _, target := range []string{"/v1/online", "/v1/online/count"} {
				checkError(t, request{"GET", target, "api", "", "", nil}.do(t, s.publicHandler()), 503, "unavailable", "try again")
			}
			checkError(t, request{"GET", "/internal/incarnations", "peer", "", "", nil}.do(t, s.internalHandler()), 503, "unavailable", "try again")
			checkError(t, request{"POST", "/internal/fence", "peer", "", `{"epochs":["a"]}`, nil}.do(t, s.internalHandler()), 503, "unavailable", "try again")
		})
	}
	s := newTestServer(t, &fakeModel{err: errors.New("a bug")})
	checkError(t, request{"GET", "/v1/online", "api", "", "", nil}.do(t, s.publicHandler()), 500, "internal", "log")
}

func TestBeforeTheFirstContactUsersAreUnknown(t *testing.T) {
	s := newTestServer(t, nil)
	resp := request{"POST", "/v1/presence:batchGet", "api", "application/json; charset=utf-8", `{"users":["on1","x"]}`, nil}.do(t, s.publicHandler())
	if resp.status != 200 || strings.Count(resp.body, `"state":"unknown","reason":"unavailable"`) != 2 || !strings.Contains(resp.body, `"degraded":true`) {
		t.Errorf("status %d, %s", resp.status, resp.body)
	}
}

func TestInternalAPIServesTheOperator(t *testing.T) {
	s := newTestServer(t, &fakeModel{})
	server := httptest.NewServer(s.internalHandler())
	defer server.Close()
	client := internalapi.Client{BaseURL: server.URL, Key: "peer", HTTP: server.Client()}
	list, err := client.Incarnations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := &internalapi.IncarnationList{AsOf: loginTime, Connections: 3, OnlineUsers: 2, Incarnations: []internalapi.Incarnation{
		{Epoch: "aaaaaaaa", PodName: "gw-1", PodUID: "u1", Address: "10.0.0.1:9091", State: internalapi.StateActive, LeaseRemainingMs: 9000, Connections: 3},
		{Epoch: "bbbbbbbb", PodName: "gw-2", PodUID: "u2", Address: "10.0.0.2:9091", State: internalapi.StateDraining, LeaseRemainingMs: -1000, Connections: 7},
	}}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Error(diff)
	}
	fence, err := client.Fence(t.Context(), internalapi.FenceRequest{Epochs: []string{"a", "b"}, BanPodUIDs: []string{"u1"}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&internalapi.FenceResponse{Fenced: []string{"a"}, Unknown: []string{"b"}}, fence); diff != "" {
		t.Error(diff)
	}
	client.Key = "api"
	if _, err := client.Incarnations(t.Context()); !errors.Is(err, internalapi.ErrUnauthenticated) {
		t.Errorf("with the API key: %v", err)
	}
	checkError(t, request{"POST", "/internal/fence", "peer", "", `{"epochs":["a",""]}`, nil}.do(t, s.internalHandler()), 400, "invalid_argument", "epochs[1]")
	checkError(t, request{"POST", "/internal/fence", "peer", "", `{"epochs":7}`, nil}.do(t, s.internalHandler()), 400, "invalid_argument", "epochs")
}
