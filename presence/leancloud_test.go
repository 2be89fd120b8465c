package presence

import (
	"crypto/md5"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imcluster/imcluster/internal/secretdir"
	"github.com/imcluster/imcluster/presence/replica"
)

// leanServer serves the app "app" with the keys "now" and "before".
func leanServer(t *testing.T, m model) *Server {
	t.Helper()
	dir := t.TempDir()
	for file, value := range map[string]string{"current": "now", "previous": "before"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	key, err := secretdir.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	s := newTestServer(t, m)
	s.cfg.LeanCloud = LeanCloud{AppID: "app", AppKey: key}
	return s
}

const getOnOffStatus = "/1.1/functions/getOnOffStatus"

func signed(key, timestamp string) string {
	return fmt.Sprintf("%x,%s", md5.Sum([]byte(timestamp+key)), timestamp)
}

func TestLeanCloudClientsProveThatTheyHaveTheAppKey(t *testing.T) {
	h := leanServer(t, &fakeModel{}).publicHandler()
	const ts = "1767225600123"
	for _, tc := range []struct {
		name   string
		header map[string]string
		want   int
	}{
		{"key", map[string]string{"X-LC-Id": "app", "X-LC-Key": "now"}, 200},
		{"key that is being replaced", map[string]string{"X-LC-Id": "app", "X-LC-Key": "before"}, 200},
		{"key as master key", map[string]string{"X-LC-Id": "app", "X-LC-Key": "now,master"}, 200},
		{"signature", map[string]string{"X-LC-Id": "app", "X-LC-Sign": signed("now", ts)}, 200},
		{"signature with the key that is being replaced", map[string]string{"X-LC-Id": "app", "X-LC-Sign": signed("before", ts)}, 200},
		{"signature in capitals", map[string]string{"X-LC-Id": "app", "X-LC-Sign": strings.ToUpper(signed("now", ts))}, 200},
		{"signature as master", map[string]string{"X-LC-Id": "app", "X-LC-Sign": signed("now", ts) + ",master"}, 200},
		{"signature from long ago", map[string]string{"X-LC-Id": "app", "X-LC-Sign": signed("now", "1")}, 200},
		{"nothing", nil, 401},
		{"no app", map[string]string{"X-LC-Key": "now"}, 401},
		{"another app", map[string]string{"X-LC-Id": "apps", "X-LC-Key": "now"}, 401},
		{"another key", map[string]string{"X-LC-Id": "app", "X-LC-Key": "nowhere"}, 401},
		{"API key", map[string]string{"X-LC-Id": "app", "X-LC-Key": "api"}, 401},
		{"bearer", map[string]string{"Authorization": "Bearer api"}, 401},
		{"wrong key beside a good signature", map[string]string{"X-LC-Id": "app", "X-LC-Key": "x", "X-LC-Sign": signed("now", ts)}, 401},
		{"signature of another key", map[string]string{"X-LC-Id": "app", "X-LC-Sign": signed("x", ts)}, 401},
		{"signature of another time", map[string]string{"X-LC-Id": "app", "X-LC-Sign": strings.Replace(signed("now", ts), ","+ts, ",1767225600124", 1)}, 401},
		{"signature of no time", map[string]string{"X-LC-Id": "app", "X-LC-Sign": signed("now", "")}, 401},
		{"signature of no number", map[string]string{"X-LC-Id": "app", "X-LC-Sign": signed("now", "now")}, 401},
		{"half a signature", map[string]string{"X-LC-Id": "app", "X-LC-Sign": signed("now", ts)[16:]}, 401},
	} {
		for _, path := range []string{getOnOffStatus, "/1.1/call/getOnOffStatus"} {
			got := request{method: "POST", target: path, contentType: "application/json;charset=UTF-8", body: `{"peerIds":["on1"]}`, header: tc.header}.do(t, h)
			want := `{"result":["1"]}`
			if tc.want != 200 {
				want = `{"code":401,"error":"Unauthorized. Send X-LC-Id with the app id, and X-LC-Key or X-LC-Sign with the app key."}`
			}
			if got.status != tc.want || got.body != want {
				t.Errorf("%s: %s answered %d %s", tc.name, path, got.status, got.body)
			}
			if got.header.Get("Access-Control-Allow-Origin") != "*" {
				t.Errorf("%s: a page in a browser may not read the answer", tc.name)
			}
		}
	}
}

func askOnOff(t *testing.T, s *Server, body string) answer {
	t.Helper()
	return request{method: "POST", target: getOnOffStatus, contentType: "application/json", body: body,
		header: map[string]string{"X-LC-Id": "app", "X-LC-Key": "now"}}.do(t, s.publicHandler())
}

func TestOnOffStatusIsAnsweredInOrder(t *testing.T) {
	s := leanServer(t, &fakeModel{})
	for body, want := range map[string]string{
		`{"peerIds":["off1","on1","x"]}`:                  `{"result":["0","1",null]}`,
		`{"peerIds":["on1","on1"]}`:                       `{"result":["1","1"]}`,
		`{"peerIds":[]}`:                                  `{"result":[]}`,
		`{"peerIds":["\u006fn1"],"other":{"a":[1]}}`:      `{"result":["1"]}`,
		"\n{ \"peerIds\" :\n[ \"on1\" , \"off\" ] }\n":    `{"result":["1","0"]}`,
		`{"peerIds":["","on\u0001","on1"]}`:               `{"result":[null,null,"1"]}`,
		`{"peerIds":["on` + longID + `","on1"]}`:          `{"result":[null,"1"]}`,
		`{"other":["on1"],"peerIds":["off","on1"]}`:       `{"result":["0","1"]}`,
		`{"peerIds":["` + strings.Repeat("漢", 40) + `"]}`: `{"result":[null]}`,
	} {
		got := askOnOff(t, s, body)
		if got.status != 200 || got.body != want {
			t.Errorf("%s: answered %d %s, want %s", body, got.status, got.body, want)
		}
	}
}

var longID = strings.Repeat("x", 128)

func TestOnOffStatusTellsMistakesInLeanCloudsWords(t *testing.T) {
	s := leanServer(t, &fakeModel{})
	for body, want := range map[string]string{
		``:                                      `400 107`,
		`{"peerIds":["a"]`:                      `400 107`,
		"{\"peerIds\":[\"\xff\"]}":              `400 107`,
		`{}`:                                    `400 142`,
		`["a"]`:                                 `400 142`,
		`{"peerIds":"a"}`:                       `400 142`,
		`{"peerIds":[1]}`:                       `400 142`,
		`{"peerIds":["a",null]}`:                `400 142`,
		`{"peerIds":null}`:                      `400 142`,
		`{"peerIds":["1","2","3","4","5","6"]}`: `400 140`,
		`{"peerIds":["` + strings.Repeat("x", 10<<10) + `"]}`: `413 413`,
	} {
		got := askOnOff(t, s, body)
		var code int
		if _, err := fmt.Sscanf(got.body, `{"code":%d,"error":"`, &code); err != nil {
			t.Errorf("%.40s: answered %d %s", body, got.status, got.body)
		}
		if g := fmt.Sprintf("%d %d", got.status, code); g != want {
			t.Errorf("%.40s: answered %s %s, want %s", body, g, got.body, want)
		}
	}
}

// Clients take null for offline, so what is not known must not be null.
func TestOnOffStatusIsRefusedRatherThanWrong(t *testing.T) {
	s := leanServer(t, nil) // Redis was never reached
	got := askOnOff(t, s, `{"peerIds":["on1","x"]}`)
	want := `{"code":503,"error":"It cannot be found out now who is online; try again."}`
	if got.status != 503 || got.body != want || got.header.Get("Retry-After") != "1" {
		t.Errorf("answered %d %s", got.status, got.body)
	}
	// What is known of all who are asked for is told, though something else cannot be read.
	s = leanServer(t, &fakeModel{err: errors.New("a part is away")})
	if got := askOnOff(t, s, `{"peerIds":["on1"]}`); got.status != 200 {
		t.Errorf("answered %d %s", got.status, got.body)
	}
}

func TestBrowsersMayAskForOnOffStatus(t *testing.T) {
	h := leanServer(t, &fakeModel{}).publicHandler()
	got := request{method: "OPTIONS", target: getOnOffStatus, header: map[string]string{"Origin": "https://app.example",
		"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,x-lc-id,x-lc-sign"}}.do(t, h)
	allowed := strings.Split(got.header.Get("Access-Control-Allow-Headers"), ", ")
	if got.status != 204 || got.header.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(got.header.Get("Access-Control-Allow-Methods"), "POST") {
		t.Errorf("answered %d %v", got.status, got.header)
	}
	want := []string{"Content-Type", "X-LC-Id", "X-LC-Key", "X-LC-Sign", "X-LC-Session", "X-LC-Prod", "X-LC-UA"}
	if diff := cmp.Diff(want, allowed); diff != "" {
		t.Error(diff)
	}
	if got := (request{method: "GET", target: getOnOffStatus}).do(t, h); got.status != http.StatusMethodNotAllowed || got.header.Get("Allow") != "OPTIONS, POST" {
		t.Errorf("GET answered %d %v", got.status, got.header)
	}
}

func TestWithoutAnAppThereIsNoOnOffStatus(t *testing.T) {
	s := leanServer(t, &fakeModel{})
	s.cfg.LeanCloud = LeanCloud{}
	if got := askOnOff(t, s, `{"peerIds":["on1"]}`); got.status != http.StatusNotFound {
		t.Errorf("answered %d %s", got.status, got.body)
	}
	cfg := s.cfg
	cfg.LeanCloud = LeanCloud{AppID: "app"}
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "app key") {
		t.Errorf("an app without a key: %v", err)
	}
}

func BenchmarkOnOffStatus(b *testing.B) {
	ids := make([]string, 1000)
	for i := range ids {
		ids[i] = fmt.Sprintf(`"user-%06d"`, i)
	}
	body := `{"peerIds":[` + strings.Join(ids, ",") + `]}`
	users := sampleUsers(len(ids))
	b.ReportAllocs()
	var list []string
	var out []byte
	for b.Loop() {
		var err error
		if list, err = parsePeers(list[:0], body); err != nil {
			b.Fatal(err)
		}
		briefs := briefLists.Get().(*[]replica.Brief)
		*briefs = (*briefs)[:0]
		for i := range list {
			*briefs = append(*briefs, briefOf(&users[i]))
		}
		out = appendOnOff(out[:0], *briefs)
		briefLists.Put(briefs)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(ids)), "ns/user")
}
