package presence

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	peerv1 "github.com/imcluster/imcluster/api/peer/v1"
	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/internal/peer"
	"github.com/imcluster/imcluster/presence/feed"
	"github.com/imcluster/imcluster/presence/internal/contract"
	"github.com/imcluster/imcluster/presence/store"
)

// document is openapi.yaml.
func document(t *testing.T) *contract.Document {
	t.Helper()
	doc, err := contract.Load(openAPI)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func (f *fakeModel) Explain(context.Context, string) (*store.Explanation, error) {
	session := feed.Session{Device: "phone", Platform: "ios", Epoch: "aaaaaaaa", Conn: 7, Since: loginTime.UnixMilli(), Addr: "192.0.2.1"}
	status := feed.Standing{Status: feed.Status{Show: feed.ShowAway, Text: "out"}, Set: loginTime.UnixMilli()}
	return &store.Explanation{
		Status: status, Partition: 3, Generation: "g", Revision: 4, Complete: true, Settled: true, AsOf: loginTime,
		Sessions: []store.ExplainedSession{
			{Session: session, Lease: store.Lease{Known: true, Gateway: "gw-1", PodUID: "u1", Address: "10.0.0.1:9091", Draining: true, Fenced: true,
				Renewed: loginTime, Left: 9 * time.Second}},
			{Session: session},
		},
		Transitions: []feed.Fact{
			{Revision: 4, Kind: feed.EpochDead, Epoch: "aaaaaaaa", At: loginTime, Cause: feed.CauseFenced},
			{Revision: 3, Kind: feed.StatusSet, Status: status},
			{Revision: 2, Kind: feed.Ended, Session: feed.Session{Device: "phone"}, At: loginTime, Cause: feed.CauseLogout},
			{Revision: 1, Kind: feed.Put, Session: session},
		},
	}, f.err
}

func (f *fakeModel) Status(context.Context, string) (feed.Standing, error) {
	return feed.Standing{Status: feed.Status{Show: feed.ShowInvisible, Text: "hush"}, Set: loginTime.UnixMilli()}, f.err
}

func (f *fakeModel) SetStatus(context.Context, string, store.Status) (store.StatusChange, error) {
	return store.StatusChange{}, f.err
}

// exchange is a request of an operation that is answered with want.
type exchange struct {
	operation, target, body string
	want                    int
	model                   error     // of the model
	message                 wire.Code // what the gateway says of a message
	header                  map[string]string
}

// goodRequests are at least one for each operation, with all that it takes.
var goodRequests = []exchange{
	{operation: "GET /v1/presence/{user}", target: "/v1/presence/on%2F1"},
	{operation: "GET /v1/presence/{user}", target: "/v1/presence/onbusy"},
	{operation: "GET /v1/presence/{user}", target: "/v1/presence/off"},
	{operation: "GET /v1/presence/{user}", target: "/v1/presence/x"},
	{operation: "POST /v1/presence:batchGet", body: `{"users":["on1","off","x","onbusy"]}`},
	{operation: "GET /v1/online", target: "/v1/online?limit=7&cursor=c"},
	{operation: "GET /v1/online/count"},
	{operation: "GET /v1/users/{user}/status"},
	{operation: "PUT /v1/users/{user}/status", body: `{"status":"busy","text":"hm"}`},
	{operation: "GET /v1/users/{user}/why", target: "/v1/users/onbusy/why"},
	{operation: "GET /v1/users/{user}/why", target: "/v1/users/off/why"},
	{operation: "GET /v1/users/{user}/why"},
	{operation: "POST /v1/users/{user}/disconnect"},
	{operation: "POST /v1/users/{user}/disconnect", body: `{"device":"d","until":"2020-01-01T00:00:00Z","reason":"r"}`},
	{operation: "POST /v1/users/{user}/disconnect", body: `{"tokenId":"t"}`},
	{operation: "DELETE /v1/users/{user}/disconnect"},
	{operation: "GET /v1/users/{user}/groups", target: "/v1/users/u/groups?limit=7&cursor=c"},
	{operation: "DELETE /v1/users/{user}/groups"},
	{operation: "POST /v1/messages", body: `{"from":"a","user":"b","content":{"x":[1]},"id":"i"}`},
	{operation: "POST /v1/messages", body: `{"from":"a","users":["b","c"],"content":null}`, header: map[string]string{"Idempotency-Key": "k"}},
	{operation: "POST /v1/messages", body: `{"from":"a","group":"g","content":"x"}`},
	{operation: "POST /v1/messages", body: `{"from":"a","everyone":true,"content":1}`},
	{operation: "POST /v1/groups", body: `{"group":"g","owner":"o","members":["a"]}`, header: map[string]string{"Idempotency-Key": "k"}},
	{operation: "GET /v1/groups/{group}"},
	{operation: "DELETE /v1/groups/{group}"},
	{operation: "GET /v1/groups/{group}/members", target: "/v1/groups/g/members?limit=7&cursor=c"},
	{operation: "POST /v1/groups/{group}/members:add", body: `{"users":["a"]}`},
	{operation: "POST /v1/groups/{group}/members:remove", body: `{"users":["a"]}`},
	{operation: "POST /1.1/functions/getOnOffStatus", body: `{"peerIds":["on1","off","x"]}`},
	{operation: "POST /1.1/call/getOnOffStatus", body: `{"peerIds":["on1","off","x"]}`},
	{operation: "OPTIONS /1.1/functions/getOnOffStatus", want: 204},
	{operation: "OPTIONS /1.1/call/getOnOffStatus", want: 204},
	{operation: "GET /openapi.json"},
	{operation: "GET /openapi.yaml"},
	// That these are answered is shown on a server that runs.
	{operation: "GET /v1/presence:watch", target: "/v1/presence:watch?user=a&user=b", want: -1},
	{operation: "POST /v1/presence:watch", body: `{"users":["a"]}`, want: -1},
}

// badRequests are what only some operations answer.
var badRequests = []exchange{
	{operation: "GET /v1/presence/{user}", target: "/v1/presence/panic", want: 500},
	{operation: "POST /v1/presence:batchGet", body: `{"users":["panic"]}`, want: 500},
	{operation: "GET /v1/groups/{group}", model: store.ErrNoGroup, want: 404},
	{operation: "DELETE /v1/groups/{group}", model: store.ErrNoGroup, want: 404},
	{operation: "GET /v1/groups/{group}/members", model: store.ErrNoGroup, want: 404},
	{operation: "POST /v1/groups/{group}/members:add", body: `{"users":["a"]}`, model: store.ErrNoGroup, want: 404},
	{operation: "POST /v1/groups/{group}/members:add", body: `{"users":["a"]}`, model: store.ErrTooManyMembers, want: 400},
	{operation: "POST /v1/groups/{group}/members:remove", body: `{"users":["a"]}`, model: store.ErrNoGroup, want: 404},
	{operation: "POST /v1/groups", body: `{"group":"g"}`, model: store.ErrGroupExists, want: 409},
	{operation: "POST /v1/groups", body: `{"group":"g"}`, model: store.ErrStoreFull, want: 503},
	{operation: "POST /v1/users/{user}/disconnect", model: store.ErrTooManyRevocations, want: 409},
	{operation: "POST /v1/presence:batchGet", body: `{"users":["1","2","3","4","5","6"]}`, want: 400},
	{operation: "POST /1.1/functions/getOnOffStatus", body: `{"peerIds":["1","2","3","4","5","6"]}`, want: 400},
	{operation: "POST /v1/messages", body: `{"from":"a","user":"b","content":1}`, message: wire.CodeForbidden, want: 403},
	{operation: "POST /v1/messages", body: `{"from":"a","group":"b","content":1}`, message: wire.CodeNotFound, want: 404},
	{operation: "POST /v1/messages", body: `{"from":"a","user":"b","content":1}`, message: wire.CodeMailboxFull, want: 429},
	{operation: "POST /v1/messages", body: `{"from":"a","user":"b","content":1}`, message: wire.CodeStoreFull, want: 503},
	{operation: "POST /v1/messages", body: `{"from":"a","user":"b","content":1}`, message: wire.CodeInternal, want: 500},
	{operation: "POST /v1/messages", body: `{"from":"a","group":"b","content":1}`, message: wire.CodeTooMuch, want: 400},
}

// send sends the request to a server whose model, and gateways, answer as the exchange says, and checks both directions.
func (x exchange) send(t *testing.T, doc *contract.Document, m model) answer {
	t.Helper()
	s := leanServer(t, m)
	s.cfg.MaxHTTPWatchUsers = 5
	x.message = cmp.Or(x.message, wire.CodeOK)
	published := &peerv1.Published{Code: uint32(x.message), MsgId: "m", Time: 1, Gateways: 2, Reached: 2}
	for _, user := range []string{"b", "c"} {
		published.Outcomes = append(published.Outcomes, &peerv1.Outcome{User: user, Code: uint32(x.message), MsgId: "m"})
	}
	if strings.Contains(x.body, `"user":`) {
		published.Outcomes = published.Outcomes[:1]
	}
	s.publisher = &fakePublisher{published: published}
	if m == nil {
		s.publisher = &fakePublisher{err: peer.ErrNoGateway}
	}
	method, path, _ := strings.Cut(x.operation, " ")
	q := request{method: method, target: x.target, key: "api", contentType: "application/json", body: x.body, header: map[string]string{"X-LC-Id": "app", "X-LC-Key": "now"}}
	if q.target == "" {
		q.target = strings.NewReplacer("{user}", "u", "{group}", "g").Replace(path)
	}
	maps.Copy(q.header, x.header)
	if value, ok := x.header["Authorization"]; ok {
		q.key = strings.TrimPrefix(value, "Bearer ")
	}
	got := q.do(t, doc.Handler(s.publicHandler(), func(err error) { t.Errorf("%s: %v", x.operation, err) }))
	if got.status != x.want {
		t.Errorf("%s %s %s: answered %d %s, want %d", method, q.target, x.body, got.status, got.body, x.want)
	}
	return got
}

// Whoever changes a route, a parameter, a field or a status of the API, or of the document, changes the other too.
func TestAPIIsAsItsDocumentSays(t *testing.T) {
	doc := document(t)
	var routes []string
	for _, rt := range leanServer(t, &fakeModel{}).publicRoutes() {
		routes = append(routes, rt.method+" "+rt.path)
	}
	slices.Sort(routes)
	if diff := gocmp.Diff(doc.Operations(), routes); diff != "" {
		t.Fatalf("operations of the document and routes of the server (-document +server):\n%s", diff)
	}
	done := map[string]bool{}
	for _, x := range goodRequests {
		if x.want == 0 {
			x.want = http.StatusOK
		}
		if x.want > 0 {
			x.send(t, doc, &fakeModel{})
		}
		if !done[x.operation] {
			checkRefusals(t, doc, x)
		}
		done[x.operation] = true
	}
	for _, operation := range doc.Operations() {
		if !done[operation] {
			t.Errorf("%s has no good request here", operation)
		}
	}
	for _, x := range badRequests {
		m := &fakeModel{}
		if x.model != nil {
			m.err = fmt.Errorf("fake: %w", x.model)
		}
		x.send(t, doc, m)
	}
	// Of a watch it is shown where servers run.
	if diff := gocmp.Diff([]string{"GET /v1/presence:watch 200", "POST /v1/presence:watch 200"}, doc.Unseen()); diff != "" {
		t.Errorf("promised by the document and never answered (-allowed +unseen):\n%s", diff)
	}
}

// checkRefusals sends a good request in all the ways in which every operation of its kind refuses it.
func checkRefusals(t *testing.T, doc *contract.Document, x exchange) {
	t.Helper()
	method, path, _ := strings.Cut(x.operation, " ")
	if method == http.MethodOptions {
		return
	}
	lean, public := strings.HasPrefix(path, "/1.1/"), strings.HasPrefix(path, "/openapi")
	if !public {
		refused := x
		refused.want, refused.header = http.StatusUnauthorized, map[string]string{"Authorization": "Bearer no", "X-LC-Key": "no"}
		refused.send(t, doc, &fakeModel{})
	}
	if !lean {
		checkParameters(t, doc, x)
	}
	if doc.BodyProperties(x.operation) != nil {
		large := x
		large.body, large.want = "{"+strings.Repeat(" ", 2<<20), http.StatusRequestEntityTooLarge
		large.send(t, doc, &fakeModel{})
		broken := x
		broken.body, broken.want = `{"`, http.StatusBadRequest
		broken.send(t, doc, &fakeModel{})
		if !lean {
			untold := x
			untold.header = map[string]string{"Content-Type": "text/plain"}
			untold.want = http.StatusUnsupportedMediaType
			untold.send(t, doc, &fakeModel{})
		}
	}
	alwaysAnswers := public || path == "/v1/presence/{user}" || path == "/v1/presence:batchGet"
	if !alwaysAnswers {
		away := x
		away.want = http.StatusServiceUnavailable
		away.send(t, doc, nil)
	}
	if !alwaysAnswers && !lean && path != "/v1/presence:watch" && path != "/v1/messages" {
		failing := x
		failing.want = http.StatusInternalServerError
		failing.send(t, doc, &fakeModel{err: errors.New("a bug")})
	}
}

// checkParameters has the handler list the parameters that it takes, which it does when there is another one.
func checkParameters(t *testing.T, doc *contract.Document, x exchange) {
	t.Helper()
	_, path, _ := strings.Cut(x.operation, " ")
	x.target = strings.NewReplacer("{user}", "u", "{group}", "g").Replace(path) + "?" + url.Values{"surprise": {"1"}}.Encode()
	x.want = http.StatusBadRequest
	got := x.send(t, doc, &fakeModel{})
	_, list, ok := strings.Cut(strings.TrimSuffix(got.body, `"}}`), "there are: ")
	known := strings.Split(list, ", ")
	if slices.Sort(known); list == "none" {
		known = []string{}
	}
	if want := doc.Parameters(x.operation, "query"); !ok || !gocmp.Equal(want, known) {
		t.Errorf("%s takes the parameters %q, the document has %q", x.operation, known, want)
	}
}

// bodies are what requests are read into.
var bodies = map[string]any{
	"POST /v1/presence:batchGet":             batchRequest{},
	"POST /v1/presence:watch":                watchRequest{},
	"PUT /v1/users/{user}/status":            statusRequest{},
	"POST /v1/users/{user}/disconnect":       disconnectRequest{},
	"POST /v1/messages":                      messageRequest{},
	"POST /v1/groups":                        groupRequest{},
	"POST /v1/groups/{group}/members:add":    membersRequest{},
	"POST /v1/groups/{group}/members:remove": membersRequest{},
	"POST /1.1/functions/getOnOffStatus":     peersRequest{},
	"POST /1.1/call/getOnOffStatus":          peersRequest{},
}

func TestDocumentHasTheFieldsOfRequests(t *testing.T) {
	doc := document(t)
	for _, operation := range doc.Operations() {
		var fields []string
		if body, ok := bodies[operation]; ok {
			for f := range reflect.TypeOf(body).Fields() {
				fields = append(fields, f.Tag.Get("json"))
			}
			slices.Sort(fields)
		}
		if diff := gocmp.Diff(doc.BodyProperties(operation), fields); diff != "" {
			t.Errorf("%s (-document +handler):\n%s", operation, diff)
		}
	}
}

// The document is served to everybody, in both notations.
func TestDocumentIsServedWithoutAKey(t *testing.T) {
	s := newTestServer(t, nil)
	for path, contentType := range map[string]string{"/openapi.json": "application/json", "/openapi.yaml": "application/yaml"} {
		got := request{method: "GET", target: path}.do(t, s.publicHandler())
		if got.status != http.StatusOK || got.header.Get("Content-Type") != contentType {
			t.Errorf("%s: answered %d %v", path, got.status, got.header)
		}
		if _, err := contract.Load([]byte(got.body)); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}
