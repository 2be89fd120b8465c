package presence_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imcluster/imcluster/client"
	"github.com/imcluster/imcluster/internal/secretdir"
	"github.com/imcluster/imcluster/internal/testredis"
	"github.com/imcluster/imcluster/presence"
)

// The user who hides, and the one who really goes. Their ids have the same length, so that answers about them must be equal
// byte for byte.
const (
	hidden = "hidden"
	absent = "absent"
	other  = "other"
)

// Whatever is asked, and whatever an invisible user does: the answers are those about somebody who is offline.
func TestNoInterfaceTellsInvisibleFromOffline(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			newHiding(t, seed).run()
		})
	}
}

// hiding is one history of the two users.
type hiding struct {
	*testing.T
	rand     *rand.Rand
	pods     []*service // one that answers from memory, and one that asks Redis
	gateway  *fakeGateway
	watchers []*watching
	told     []map[string][]string // by watcher and user: what was told of the user since the two went
	conn     uint64
	barriers int
}

func newHiding(t *testing.T, seed uint64) *hiding {
	t.Helper()
	redis := testredis.Start(t)
	cfg := storeConfig(redis.Addr)
	cfg.LeaseTTL, cfg.Fresh = 10*time.Second, true // the machine may be busy
	h := &hiding{T: t, rand: rand.New(rand.NewPCG(seed, 0)), conn: 10}
	for _, uncached := range []bool{false, true} {
		h.pods = append(h.pods, startService(t, "", func(c *presence.Config) {
			c.Store, c.Uncached = cfg, uncached
			c.LeanCloud = presence.LeanCloud{AppID: "app", AppKey: secretdir.Static([]byte("key"))}
		}))
	}
	h.gateway = joinGateway(t, cfg, "gw-1", other)
	return h
}

func (h *hiding) run() {
	h.Helper()
	seen := h.rand.IntN(4) > 0 // or neither has ever been seen
	if seen {
		for _, user := range []string{hidden, absent} {
			h.logIn(user)
		}
	}
	want := map[bool]string{true: "online", false: "unknown/never_seen"}[seen]
	for _, pod := range h.pods {
		pod.become(h.T, []string{want, want, "online"}, hidden, absent, other)
		for _, body := range []string{`{"users":["hidden","absent","other"]}`, `{"all":true}`} {
			w := newWatching(pod.open(h.T, http.MethodPost, "/v1/presence:watch", body, ""))
			h.watchers = append(h.watchers, w)
			h.told = append(h.told, map[string][]string{})
		}
	}
	h.synchronize()
	for _, told := range h.told {
		clear(told)
	}
	h.leave(seen)
	h.compare("leaving")
	for range 8 {
		h.compare(h.act())
	}
}

// leave has one user go and the other hide in the same second, which is how precisely it is told when they were last seen.
func (h *hiding) leave(seen bool) {
	h.Helper()
	eventually(h.T, func() error {
		if ms := time.Now().UnixMilli() % 1000; ms > 300 {
			return fmt.Errorf("the second is too old: %d ms", ms)
		}
		return nil
	})
	if seen {
		h.gateway.logOut(absent)
	}
	h.setStatus(client.StatusInvisible)
}

// act has the invisible user do something, and returns what.
func (h *hiding) act() string {
	switch h.rand.IntN(4) {
	case 0:
		h.setStatus(client.StatusInvisible)
		return "hiding again, with another text"
	case 1:
		h.logIn(hidden)
		return "logging in"
	case 2:
		h.gateway.logOut(hidden)
		return "logging out"
	default:
		h.gateway.logOut(hidden)
		h.logIn(hidden)
		return "coming back"
	}
}

func (h *hiding) logIn(user string) {
	h.Helper()
	h.conn++
	h.gateway.logIn(h.T, user, h.conn)
}

func (h *hiding) setStatus(s client.Status) {
	h.Helper()
	h.conn++
	if err := h.pods[0].SetUserStatus(h.Context(), hidden, s, fmt.Sprint("text ", h.conn)); err != nil {
		h.Fatal(err)
	}
}

// synchronize waits until everybody has been told all that has happened: of what is done last, they are told last.
func (h *hiding) synchronize() {
	h.Helper()
	h.barriers++
	mark := fmt.Sprint("mark ", h.barriers)
	if err := h.pods[0].SetUserStatus(h.Context(), other, client.StatusOnline, mark); err != nil {
		h.Fatal(err)
	}
	for _, pod := range h.pods {
		eventually(h.T, func() error {
			u, _, err := pod.Get(h.Context(), other)
			if err == nil && u.Text != mark {
				err = fmt.Errorf("%s is not told yet", mark)
			}
			return err
		})
	}
	for i, w := range h.watchers {
		for marked := false; !marked; {
			e, ok := w.next()
			if !ok {
				h.Fatalf("the stream ended: %v", w.lines.Err())
			}
			w.fold(h.T, e)
			marked = strings.Contains(e.data, mark)
			for _, user := range []string{hidden, absent} {
				if about := aboutUser(e.data, user); about != "" {
					h.told[i][user] = append(h.told[i][user], about)
				}
			}
		}
	}
}

var (
	asOf    = regexp.MustCompile(`"asOf":"[^"]*"`)
	perUser = regexp.MustCompile(`\{"user":"[^"]*"(?:[^{}]|\{[^{}]*\})*\}`)
)

// aboutUser returns what an event tells of a user, without the id.
func aboutUser(data, user string) string {
	for _, about := range perUser.FindAllString(data, -1) {
		if rest, ok := strings.CutPrefix(about, `{"user":"`+user+`"`); ok {
			return rest
		}
	}
	return ""
}

// compare asks every interface about both users, after what the invisible one did.
func (h *hiding) compare(what string) {
	h.Helper()
	h.synchronize()
	for i, pod := range h.pods {
		for name, ask := range questions {
			if diff := cmp.Diff(ask(h.T, pod, absent), ask(h.T, pod, hidden)); diff != "" {
				h.Errorf("after %s, pod %d, %s (-absent +hidden):\n%s", what, i, name, diff)
			}
		}
		page, err := pod.OnlinePage(h.Context(), "", 0)
		if err != nil || !slices.Equal(page.Users, []string{other}) {
			h.Errorf("after %s, pod %d lists %v, %v", what, i, page.Users, err)
		}
		counts, err := pod.Count(h.Context())
		if want := []client.GatewayCount{{Pod: "gw-1", Sessions: 1}}; err != nil || counts.Users != 1 || counts.Sessions != 1 || !slices.Equal(counts.Gateways, want) {
			h.Errorf("after %s, pod %d counts %+v, %v", what, i, counts, err)
		}
	}
	for i, told := range h.told {
		if diff := cmp.Diff(told[absent], told[hidden]); diff != "" {
			h.Errorf("after %s, watcher %d was told (-of absent +of hidden):\n%s", what, i, diff)
		}
	}
}

// questions return the answer about a user, with what must differ taken out.
var questions = map[string]func(*testing.T, *service, string) string{
	"one user": func(t *testing.T, pod *service, user string) string {
		return answerTo(t, pod, http.MethodGet, "/v1/presence/"+user, "", user)
	},
	"batch": func(t *testing.T, pod *service, user string) string {
		return answerTo(t, pod, http.MethodPost, "/v1/presence:batchGet", `{"users":["`+user+`","other","nobody"]}`, user)
	},
	"getOnOffStatus": func(t *testing.T, pod *service, user string) string {
		return answerTo(t, pod, http.MethodPost, "/1.1/functions/getOnOffStatus", `{"peerIds":["`+user+`","other","nobody"]}`, user)
	},
	"beginning to watch": func(t *testing.T, pod *service, user string) string {
		w := newWatching(pod.open(t, http.MethodGet, "/v1/presence:watch?user="+user, "", ""))
		defer w.body.Close()
		return asOf.ReplaceAllString(strings.ReplaceAll(w.event(t, "snapshot").data, user, "USER"), "")
	},
}

// answerTo returns status, headers and body of an answer.
func answerTo(t *testing.T, pod *service, method, target, body, user string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, pod.URL+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"Authorization": "Bearer api", "X-LC-Id": "app", "X-LC-Key": "key", "Content-Type": "application/json"} {
		req.Header.Set(name, value)
	}
	resp, err := pod.HTTP.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	resp.Header.Del("Date")
	text := asOf.ReplaceAllString(strings.ReplaceAll(string(data), user, "USER"), "")
	return fmt.Sprintf("%d %v\n%s", resp.StatusCode, resp.Header, text)
}
