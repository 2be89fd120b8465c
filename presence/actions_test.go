package presence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	peerv1 "github.com/imcluster/imcluster/api/peer/v1"
	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/internal/peer"
	"github.com/imcluster/imcluster/presence/store"
)

// The fake model remembers what it was asked to change, and fails with err.

func (f *fakeModel) note(format string, args ...any) {
	f.did = append(f.did, strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " "))
}

func (f *fakeModel) Gateways() []store.Peer {
	return []store.Peer{{Epoch: "a", Address: "10.0.0.1:9091"}, {Epoch: "b", Address: "10.0.0.2:9091", Draining: true}}
}

func (f *fakeModel) group(id string) store.Group {
	return store.Group{ID: id, Owner: "olga", Members: 3, Created: loginTime}
}

func (f *fakeModel) CreateGroupOnce(_ context.Context, key, id, owner string, members []string) (store.Group, error) {
	f.note("create %q by %q of %q", id, owner, members)
	f.keys = append(f.keys, key)
	return f.group(id), f.err
}

func (f *fakeModel) AddMembers(_ context.Context, id, actor string, users []string) (store.Group, error) {
	f.note("add %q%q %q", actor, id, users)
	return f.group(id), f.err
}

func (f *fakeModel) RemoveMembers(_ context.Context, id, actor string, users []string) (store.Group, error) {
	f.note("remove %q%q %q", actor, id, users)
	return f.group(id), f.err
}

func (f *fakeModel) Members(_ context.Context, id, actor, cursor string, limit int) (store.MemberPage, error) {
	f.note("members %q%q %q %d", actor, id, cursor, limit)
	return store.MemberPage{Group: f.group(id), Page: []string{"a", "b"}, Next: "more"}, f.err
}

func (f *fakeModel) DeleteGroup(_ context.Context, id, actor string) error {
	f.note("delete %q%q", actor, id)
	return f.err
}

func (f *fakeModel) OwnedGroups(_ context.Context, owner, cursor string, limit int) (store.GroupPage, error) {
	f.note("owned %q %q %d", owner, cursor, limit)
	return store.GroupPage{Groups: []store.Group{f.group("g"), f.group("h")}, Next: "more"}, f.err
}

func (f *fakeModel) Revoke(_ context.Context, r store.Revocation, ttl time.Duration) error {
	f.note("revoke %q %q %q for %s: %s", r.User, r.Device, r.TokenID, ttl.Round(time.Hour), r.Reason)
	return f.err
}

func (f *fakeModel) Reinstate(_ context.Context, user string) error {
	f.note("reinstate %q", user)
	return f.err
}

// fakePublisher answers every message with published, or err.
type fakePublisher struct {
	got       []*peerv1.Publish
	published *peerv1.Published
	err       error
}

func (f *fakePublisher) Publish(_ context.Context, m *peerv1.Publish) (*peerv1.Published, error) {
	f.got = append(f.got, m)
	return f.published, f.err
}

func TestChangesAreAsDocumented(t *testing.T) {
	const group = `{"group":"g","owner":"olga","members":3,"created":"2026-03-01T12:00:00.25Z"}`
	until := time.Now().Add(48 * time.Hour).UTC().Format(time.RFC3339)
	for _, tc := range []struct {
		name, method, target, body, did, want string
	}{
		{"create", "POST", "/v1/groups", `{"group":"g","owner":"olga","members":["a","b"]}`, `create "g" by "olga" of ["a" "b"]`, group},
		{"create without an owner", "POST", "/v1/groups", `{"group":"g"}`, `create "g" by "" of []`, group},
		{"get", "GET", "/v1/groups/g", "", `members """g" "" 0`, group},
		{"delete", "DELETE", "/v1/groups/g", "", `delete """g"`, `{}`},
		{"members", "GET", "/v1/groups/g/members?limit=2&cursor=c", "", `members """g" "c" 2`, strings.TrimSuffix(group, "}") + `,"users":["a","b"],"nextCursor":"more"}`},
		{"add", "POST", "/v1/groups/g/members:add", `{"users":["c"]}`, `add """g" ["c"]`, group},
		{"remove", "POST", "/v1/groups/g/members:remove", `{"users":["c"]}`, `remove """g" ["c"]`, group},
		{"disconnect", "POST", "/v1/users/u/disconnect", "", `revoke "u" "" "" for 24h0m0s: `, `{}`},
		{"disconnect a device", "POST", "/v1/users/u/disconnect", `{"device":"phone","reason":"lost","until":"` + until + `"}`, `revoke "u" "phone" "" for 48h0m0s: lost`, `{}`},
		{"disconnect a token", "POST", "/v1/users/u/disconnect", `{"tokenId":"t1"}`, `revoke "u" "" "t1" for 24h0m0s: `, `{}`},
		{"disconnect only", "POST", "/v1/users/u/disconnect", `{"until":"2020-01-01T00:00:00Z"}`, `revoke "u" "" "" for 0s: `, `{}`},
		{"reinstate", "DELETE", "/v1/users/u/disconnect", "", `reinstate "u"`, `{}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := &fakeModel{}
			s := newTestServer(t, m)
			resp := request{tc.method, tc.target, "api", "", tc.body, nil}.do(t, s.publicHandler())
			if resp.status != 200 || resp.body != tc.want || !cmp.Equal(m.did, []string{tc.did}) {
				t.Errorf("status %d, did %q\n got %s\nwant %s", resp.status, m.did, resp.body, tc.want)
			}
			for _, failure := range []error{store.ErrUnavailable, context.DeadlineExceeded} {
				m.err = fmt.Errorf("change: %w", failure)
				checkError(t, request{tc.method, tc.target, "api", "", tc.body, nil}.do(t, s.publicHandler()), 503, "unavailable", "try again")
			}
		})
	}
}

func TestGroupsOfAUserCanBeListedAndDeleted(t *testing.T) {
	m := &fakeModel{}
	s := newTestServer(t, m)
	for _, tc := range []struct {
		method, target, want string
		did                  []string
	}{
		{"GET", "/v1/users/olga/groups", `{"groups":[` +
			`{"group":"g","owner":"olga","members":3,"created":"2026-03-01T12:00:00.25Z"},` +
			`{"group":"h","owner":"olga","members":3,"created":"2026-03-01T12:00:00.25Z"}],"nextCursor":"more"}`, []string{`owned "olga" "" 100`}},
		{"GET", "/v1/users/a%2Fb/groups?limit=7&cursor=c", "", []string{`owned "a/b" "c" 7`}},
		{"DELETE", "/v1/users/olga/groups", `{"deleted":2,"more":true}`, []string{`owned "olga" "" 200`, `delete "olga""g"`, `delete "olga""h"`}},
	} {
		m.did = nil
		resp := request{tc.method, tc.target, "api", "", "", nil}.do(t, s.publicHandler())
		if resp.status != 200 || tc.want != "" && resp.body != tc.want {
			t.Errorf("%s %s: status %d\n got %s\nwant %s", tc.method, tc.target, resp.status, resp.body, tc.want)
		}
		if diff := cmp.Diff(tc.did, m.did); diff != "" {
			t.Errorf("%s %s (-want +got):\n%s", tc.method, tc.target, diff)
		}
	}
	m.err = store.ErrUnavailable
	for _, method := range []string{"GET", "DELETE"} {
		checkError(t, request{method, "/v1/users/u/groups", "api", "", "", nil}.do(t, s.publicHandler()), 503, "unavailable", "")
	}
	checkError(t, request{"GET", "/v1/users/u/groups?limit=1001", "api", "", "", nil}.do(t, s.publicHandler()), 400, "invalid_argument", "limit")
}

func TestGroupsAndUsersOfAllKindsInThePath(t *testing.T) {
	for _, id := range []string{"a:disconnect", "a/b", "{x}", "测试", "😀", "a b", "a+b", "a%2Fb", "?", "#", ".", "..", `"\`, "members:add", strings.Repeat("😀", 32)} {
		m := &fakeModel{}
		s := newTestServer(t, m)
		segment := strings.ReplaceAll(url.PathEscape(id), ".", "%2E")
		request{"POST", "/v1/users/" + segment + "/disconnect", "api", "", "", nil}.do(t, s.publicHandler())
		request{"POST", "/v1/groups/" + segment + "/members:remove", "api", "", `{"users":["u"]}`, nil}.do(t, s.publicHandler())
		request{"DELETE", "/v1/groups/" + segment, "api", "", "", nil}.do(t, s.publicHandler())
		want := []string{fmt.Sprintf(`revoke %q "" "" for 24h0m0s: `, id), fmt.Sprintf(`remove ""%q ["u"]`, id), fmt.Sprintf(`delete ""%q`, id)}
		if diff := cmp.Diff(want, m.did); diff != "" {
			t.Errorf("%q: %s", id, diff)
		}
	}
}

func TestGroupErrorsAreTold(t *testing.T) {
	for _, tc := range []struct {
		target, body string
		err          error
		status       int
		code         string
	}{
		{"/v1/groups", `{"group":"g"}`, store.ErrGroupExists, 409, "group_exists"},
		{"/v1/groups", `{"group":"g"}`, store.ErrTooManyMembers, 400, "too_many_members"},
		{"/v1/groups", `{"group":"g"}`, errors.New("a bug"), 500, "internal"},
		{"/v1/groups/g/members:add", `{"users":["u"]}`, store.ErrNoGroup, 404, "group_not_found"},
		{"/v1/groups/g/members:add", `{"users":["u"]}`, store.ErrTooManyMembers, 400, "too_many_members"},
		{"/v1/groups/g/members:add", `{"users":["u"]}`, errors.New("a bug"), 500, "internal"},
	} {
		s := newTestServer(t, &fakeModel{err: fmt.Errorf("change: %w", tc.err)})
		checkError(t, request{"POST", tc.target, "api", "", tc.body, nil}.do(t, s.publicHandler()), tc.status, tc.code, "")
	}
	s := newTestServer(t, &fakeModel{err: store.ErrInvalidCursor})
	checkError(t, request{"GET", "/v1/groups/g/members?cursor=x", "api", "", "", nil}.do(t, s.publicHandler()), 400, "invalid_argument", "cursor")
	s = newTestServer(t, &fakeModel{err: store.ErrTooManyRevocations})
	checkError(t, request{"POST", "/v1/users/u/disconnect", "api", "", `{"device":"d"}`, nil}.do(t, s.publicHandler()), 409, "too_many_revocations", "leave out device")
}

func TestTheKeyOfACreationIsTheCallers(t *testing.T) {
	m := &fakeModel{}
	s := newTestServer(t, m)
	for range 2 {
		resp := headers(t, s, "POST", "/v1/groups", `{"group":"g"}`, "Idempotency-Key", "k1")
		if resp.status != 200 {
			t.Fatal(resp.body)
		}
		request{"POST", "/v1/groups", "api", "", `{"group":"g"}`, nil}.do(t, s.publicHandler())
	}
	if k := m.keys; k[0] != "k1" || k[2] != "k1" || k[1] == k[3] || k[1] == "" {
		t.Errorf("keys %q", k)
	}
}

func TestMessagesToEveryKindOfTarget(t *testing.T) {
	sent := time.UnixMilli(1772366400250)
	content := `{"text": "<&> 你好 😀", "n": 1e400}`
	for _, tc := range []struct {
		name, target string
		published    *peerv1.Published
		want         *peerv1.Publish
		answer       string
	}{
		{"user", `"user":"alice"`,
			&peerv1.Published{Code: 200, MsgId: "m", Time: sent.UnixMilli(), Outcomes: []*peerv1.Outcome{{User: "alice", Code: 200, MsgId: "m"}}},
			&peerv1.Publish{Users: []string{"alice"}}, `{"id":"id-1","msgId":"m","time":"2026-03-01T12:00:00.25Z"}`},
		{"users with a duplicate", `"users":["b","a","b"]`,
			&peerv1.Published{Code: 200, Time: sent.UnixMilli(), Outcomes: []*peerv1.Outcome{{User: "a", Code: 200, MsgId: "ma"}, {User: "b", Code: 200, MsgId: "mb"}}},
			&peerv1.Publish{Users: []string{"a", "b"}},
			`{"id":"id-1","time":"2026-03-01T12:00:00.25Z","results":[{"user":"b","status":"stored","msgId":"mb"},{"user":"a","status":"stored","msgId":"ma"},{"user":"b","status":"stored","msgId":"mb"}]}`},
		{"group", `"group":"g"`, &peerv1.Published{Code: 200, MsgId: "m", Time: sent.UnixMilli()},
			&peerv1.Publish{Group: "g"}, `{"id":"id-1","msgId":"m","time":"2026-03-01T12:00:00.25Z"}`},
		{"everyone", `"everyone":true`, &peerv1.Published{Code: 201, MsgId: "m", Time: sent.UnixMilli(), Gateways: 3, Reached: 2},
			&peerv1.Publish{Everyone: true}, `{"id":"id-1","msgId":"m","time":"2026-03-01T12:00:00.25Z","gateways":3,"reached":2}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, p := newTestServer(t, &fakeModel{}), &fakePublisher{published: tc.published}
			s.publisher = p
			body := `{"from":"shop",` + tc.target + `,"content":` + content + `,"id":"id-1"}`
			resp := request{"POST", "/v1/messages", "api", "application/json", body, nil}.do(t, s.publicHandler())
			if resp.status != 200 || resp.body != tc.answer {
				t.Errorf("status %d\n got %s\nwant %s", resp.status, resp.body, tc.answer)
			}
			tc.want.From, tc.want.Content, tc.want.ClientMsgId = "shop", []byte(content), "id-1"
			if len(p.got) != 1 || !proto.Equal(p.got[0], tc.want) {
				t.Errorf("published %v", p.got)
			}
		})
	}
}

// What is not stored for everybody is never a success, and the answer says for whom it is.
func TestMessagesThatAreNotSentToAll(t *testing.T) {
	outcomes := func(codes ...wire.Code) (p *peerv1.Published) {
		p = &peerv1.Published{Code: uint32(codes[0])}
		for i, c := range codes {
			p.Outcomes = append(p.Outcomes, &peerv1.Outcome{User: string(rune('a' + i)), Code: uint32(c), MsgId: "m"})
		}
		return p
	}
	const toAB = `"users":["a","b"]`
	for _, tc := range []struct {
		name, target string
		published    *peerv1.Published
		status       int
		code         string
		results      []string
	}{
		{"one unavailable", toAB, outcomes(200, 500), 503, "unavailable", []string{"stored", "unavailable"}},
		{"one mailbox full", toAB, outcomes(604, 200), 429, "mailbox_full", []string{"mailbox_full", "stored"}},
		{"the retryable one matters", toAB, outcomes(604, 501), 503, "store_full", []string{"mailbox_full", "store_full"}},
		{"one is not answered", toAB, outcomes(200), 500, "internal", []string{"stored", "internal"}},
		{"none is answered", toAB, &peerv1.Published{Code: 503}, 500, "internal", []string{"internal", "internal"}},
		{"an empty answer", toAB, &peerv1.Published{}, 500, "internal", []string{"internal", "internal"}},
		{"user unavailable", `"user":"a"`, outcomes(500), 503, "unavailable", nil},
		{"user, unknown code", `"user":"a"`, outcomes(999), 500, "internal", nil},
		{"no such group", `"group":"g"`, &peerv1.Published{Code: 410}, 404, "group_not_found", nil},
		{"group too large", `"group":"g"`, &peerv1.Published{Code: 607}, 400, "too_much", nil},
		{"group unavailable", `"group":"g"`, &peerv1.Published{Code: 500}, 503, "unavailable", nil},
		{"nobody reached", `"everyone":true`, &peerv1.Published{Code: 201, Gateways: 2}, 503, "unavailable", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newTestServer(t, &fakeModel{})
			s.publisher = &fakePublisher{published: tc.published}
			resp := request{"POST", "/v1/messages", "api", "", `{"from":"shop",` + tc.target + `,"content":1,"id":"id-1"}`, nil}.do(t, s.publicHandler())
			checkError(t, resp, tc.status, tc.code, "")
			var got struct {
				ID      string
				Results []struct{ User, Status string }
			}
			if err := json.Unmarshal([]byte(resp.body), &got); err != nil || got.ID != "id-1" {
				t.Errorf("%s: %v", resp.body, err)
			}
			var results []string
			for _, r := range got.Results {
				results = append(results, r.Status)
			}
			if !cmp.Equal(results, tc.results) {
				t.Errorf("results %q in %s", results, resp.body)
			}
		})
	}
}

// Who sent no id gets the one to repeat the message with.
func TestUnansweredMessageCanBeRepeated(t *testing.T) {
	s, p := newTestServer(t, &fakeModel{}), &fakePublisher{err: fmt.Errorf("publish: %w", peer.ErrNoGateway)}
	s.publisher = p
	resp := request{"POST", "/v1/messages", "api", "", `{"from":"shop","user":"a","content":null}`, nil}.do(t, s.publicHandler())
	checkError(t, resp, 503, "unavailable", "same id")
	var got struct{ ID string }
	if err := json.Unmarshal([]byte(resp.body), &got); err != nil || got.ID == "" || len(p.got) != 2 || p.got[1].ClientMsgId != got.ID || string(p.got[0].Content) != "null" {
		t.Errorf("%s, published %v", resp.body, p.got)
	}
	s.publisher = nil
	checkError(t, request{"POST", "/v1/messages", "api", "", `{"from":"s","user":"a","content":1}`, nil}.do(t, s.publicHandler()), 503, "unavailable", "peer key")
}

func TestIdempotencyKeyIsTheID(t *testing.T) {
	s, p := newTestServer(t, &fakeModel{}), &fakePublisher{published: &peerv1.Published{Code: 201, Gateways: 1, Reached: 1}}
	s.publisher = p
	const body = `{"from":"shop","everyone":true,"content":1}`
	if resp := headers(t, s, "POST", "/v1/messages", body, "Idempotency-Key", "k 1"); resp.status != 200 || p.got[0].ClientMsgId != "k 1" {
		t.Errorf("%s, published %v", resp.body, p.got)
	}
	resp := headers(t, s, "POST", "/v1/messages", strings.Replace(body, "{", `{"id":"other",`, 1), "Idempotency-Key", "k")
	checkError(t, resp, 400, "invalid_argument", "one of the two")
	resp = headers(t, s, "POST", "/v1/messages", body, "Idempotency-Key", strings.Repeat("k", 129))
	checkError(t, resp, 400, "invalid_argument", "128 bytes")
}

func headers(t *testing.T, s *Server, method, target, body, name, value string) answer {
	t.Helper()
	return request{method: method, target: target, key: "api", body: body, header: map[string]string{name: value}}.do(t, s.publicHandler())
}

func TestMistakesInChangesAreAnsweredWithWhatToDo(t *testing.T) {
	many := func(n int) string {
		users := make([]string, n)
		for i := range users {
			users[i] = fmt.Sprint("u", i)
		}
		b, _ := json.Marshal(users)
		return string(b)
	}
	message := func(fields string) string { return `{"from":"shop","content":1,` + fields + `}` }
	const messages, add, kick = "/v1/messages", "/v1/groups/g/members:add", "/v1/users/u/disconnect"
	for _, tc := range []struct {
		name, target, body string
		status             int
		code, says         string
	}{
		{"no target", messages, `{"from":"shop","content":1}`, 400, "invalid_argument", "exactly one of"},
		{"two targets", messages, message(`"user":"a","everyone":true`), 400, "invalid_argument", "exactly one of"},
		{"no sender", messages, `{"user":"a","content":1}`, 400, "invalid_argument", "from: user id is empty"},
		{"no content", messages, `{"from":"shop","user":"a"}`, 400, "invalid_argument", "content: is missing"},
		{"broken content", messages, `{"from":"shop","user":"a","content":{]}`, 400, "invalid_argument", "cannot be read"},
		{"large content", messages, `{"from":"shop","user":"a","content":"` + strings.Repeat("x", 64<<10) + `"}`, 413, "too_large", "65536"},
		{"large body", messages, strings.Repeat(" ", maxMessageBytes+1), 413, "too_large", "bytes"},
		{"empty user", messages, message(`"user":""`), 400, "invalid_argument", "user: user id is empty"},
		{"number", messages, message(`"user":1`), 400, "invalid_argument", "user: must be a string"},
		{"truth", messages, message(`"everyone":"yes"`), 400, "invalid_argument", "everyone: must be true or false"},
		{"list", messages, message(`"users":"a"`), 400, "invalid_argument", "users: must be a list of strings"},
		{"no users", messages, message(`"users":[]`), 400, "invalid_argument", "users: is empty"},
		{"null in the list", messages, message(`"users":[null]`), 400, "invalid_argument", "users[0]"},
		{"too many users", messages, message(`"users":` + many(1001)), 400, "too_many_users", "1000"},
		{"too much", messages, `{"from":"shop","users":` + many(1000) + `,"content":"` + strings.Repeat("x", 5000) + `"}`, 400, "too_much", "4194304"},
		{"group id", messages, message(`"group":"` + strings.Repeat("g", 129) + `"`), 400, "invalid_argument", "group: "},
		{"id", messages, message(`"user":"a","id":"\u0000"`), 400, "invalid_argument", "id: "},
		{"unknown field", messages, message(`"to":"a"`), 400, "invalid_argument", `"to"`},
		{"empty body", messages, "", 400, "invalid_argument", "send {"},
		{"deep content", messages, `{"from":"shop","user":"a","content":` + strings.Repeat("[", 128) + strings.Repeat("]", 128) + `}`, 400, "invalid_argument", "content: is nested deeper than 127"},
		{"group without an id", "/v1/groups", `{"members":["a"]}`, 400, "invalid_argument", "group: "},
		{"empty owner", "/v1/groups", `{"group":"g","owner":""}`, 400, "invalid_argument", "owner: "},
		{"bad member", "/v1/groups", `{"group":"g","members":["a","\n"]}`, 400, "invalid_argument", "members[1]: "},
		{"nobody to add", add, `{}`, 400, "invalid_argument", "users: is missing or empty"},
		{"too many to add", add, `{"users":` + many(2001) + `}`, 400, "too_many_users", "2000"},
		{"bad group in the path", "/v1/groups/%00/members:add", `{"users":["a"]}`, 400, "invalid_argument", "group: "},
		{"device and token", kick, `{"device":"d","tokenId":"t"}`, 400, "invalid_argument", "at most one"},
		{"bad device", kick, `{"device":""}`, 400, "invalid_argument", "device: "},
		{"bad token id", kick, `{"tokenId":""}`, 400, "invalid_argument", "tokenId: "},
		{"bad time", kick, `{"until":"tomorrow"}`, 400, "invalid_argument", "RFC 3339"},
		{"far time", kick, `{"until":"2999-01-01T00:00:00Z"}`, 400, "invalid_argument", "366 days"},
		{"long reason", kick, `{"reason":"` + strings.Repeat("r", 257) + `"}`, 400, "invalid_argument", "reason: "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m, p := &fakeModel{}, &fakePublisher{}
			s := newTestServer(t, m)
			s.publisher = p
			checkError(t, request{"POST", tc.target, "api", "", tc.body, nil}.do(t, s.publicHandler()), tc.status, tc.code, tc.says)
			if len(m.did)+len(p.got) > 0 {
				t.Errorf("did %q, published %v", m.did, p.got)
			}
		})
	}
	s := newTestServer(t, &fakeModel{})
	for target, allow := range map[string]string{messages: "POST", "/v1/groups/g": "DELETE, GET, HEAD", kick: "DELETE, POST"} {
		resp := request{"PATCH", target, "api", "", "", nil}.do(t, s.publicHandler())
		checkError(t, resp, 405, "method_not_allowed", allow)
	}
	for _, target := range []string{messages, "/v1/groups", "/v1/groups/g", add, kick} {
		checkError(t, request{"POST", target, "", "", "", nil}.do(t, s.publicHandler()), 401, "unauthenticated", "Bearer")
	}
}
