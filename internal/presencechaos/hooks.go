package presencechaos

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/imcluster/imcluster/client"
)

// receiver is an application's back end that is told by hooks who comes and goes.
type receiver struct {
	url string
	rec *recorder

	mu    sync.Mutex
	users map[string]client.HookEvent // the event of the highest seq; guarded by mu
	bad   error                       // guarded by mu
}

// newReceiver starts one that ends with the test.
func newReceiver(tb testing.TB, rec *recorder) *receiver {
	r := &receiver{rec: rec, users: map[string]client.HookEvent{}}
	server := httptest.NewServer(r)
	tb.Cleanup(server.Close)
	r.url = server.URL
	return r
}

// ServeHTTP takes events.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	events, err := client.ReadHooks(req, []byte(hookKey))
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.bad = err
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	for _, e := range events {
		at := time.UnixMilli(e.Timestamp)
		state := Online
		if e.Hook == client.ClientOffline {
			state = Absent
		}
		if e.Seq > r.users[e.PeerID].Seq { // an older one is to be ignored
			r.users[e.PeerID] = e
			r.rec.add(Event{Kind: Told, Observer: "hooks", User: e.PeerID, State: state, From: at, To: time.Now(), Note: e.Reason})
		}
	}
}

// online tells whether the receiver takes a user for online.
func (r *receiver) online(user string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.users[user].Hook == client.ClientOnline
}
