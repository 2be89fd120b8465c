package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	presencev1 "github.com/imcluster/imcluster/api/presence/v1"
	"github.com/imcluster/imcluster/internal/testredis"
	"github.com/imcluster/imcluster/presence"
)

// watcher is a watch, and what it told so far.
type watcher struct {
	grpc.BidiStreamingClient[presencev1.WatchRequest, presencev1.WatchResponse]
	states map[string]presencev1.State
	last   map[string]*presencev1.User
	token  string
}

func watch(t *testing.T, p *pod, first *presencev1.WatchRequest) *watcher {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	t.Cleanup(cancel)
	stream, err := p.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	w := &watcher{stream, map[string]presencev1.State{}, map[string]*presencev1.User{}, ""}
	w.ask(t, first)
	return w
}

func (w *watcher) ask(t *testing.T, r *presencev1.WatchRequest) {
	t.Helper()
	if err := w.Send(r); err != nil {
		t.Fatal(err)
	}
}

// until reads events until done; it returns what they told of, in order.
func (w *watcher) until(t *testing.T, done func() bool) (told []string) {
	t.Helper()
	for !done() {
		e, err := w.Recv()
		if err != nil {
			t.Fatal(err)
		}
		// There may be none at first, while it is not known of everybody.
		if e.GetMore() && e.GetToken() != "" || !e.GetMore() && e.GetToken() == "" && w.token != "" {
			t.Errorf("token %q, more %v", e.GetToken(), e.GetMore())
		}
		if e.GetToken() != "" {
			w.token = e.GetToken()
		}
		for _, u := range e.GetUsers() {
			w.states[u.GetUser()], w.last[u.GetUser()] = u.GetState(), u
			told = append(told, u.GetUser())
		}
	}
	return told
}

// becomes waits until the users are said to be in a state.
func (w *watcher) becomes(t *testing.T, state presencev1.State, users ...string) []string {
	t.Helper()
	return w.until(t, func() bool {
		return !slices.ContainsFunc(users, func(u string) bool { return w.states[u] != state })
	})
}

const (
	online  = presencev1.State_STATE_ONLINE
	offline = presencev1.State_STATE_OFFLINE
	unknown = presencev1.State_STATE_UNKNOWN
)

func TestWatchFollowsAList(t *testing.T) {
	t.Parallel()
	redis := testredis.Start(t)
	p := startPod(t, redis.Addr)
	g := startGateway(t, redis.Addr, "gateway-1", "alice", "bob")
	p.settle(t)
	w := watch(t, p, &presencev1.WatchRequest{Add: []string{"alice", "nobody"}})
	w.becomes(t, online, "alice")
	w.becomes(t, unknown, "nobody")
	g.logOut("alice")
	w.becomes(t, offline, "alice")

	// In two parts.
	w.ask(t, &presencev1.WatchRequest{Add: []string{"carol"}, More: true})
	w.ask(t, &presencev1.WatchRequest{Add: []string{"bob"}, Remove: []string{"alice"}})
	w.becomes(t, online, "bob")
	g.logIn(t, "alice")
	g.logIn(t, "carol")
	if told := w.becomes(t, online, "carol"); slices.Contains(told, "alice") {
		t.Errorf("told of alice, who was removed: %v", told)
	}

	w.ask(t, &presencev1.WatchRequest{Replace: true, Add: []string{"alice"}})
	w.becomes(t, online, "alice")
	g.logOut("bob")
	g.logOut("alice")
	if told := w.becomes(t, offline, "alice"); slices.Contains(told, "bob") {
		t.Errorf("told of bob, who is not in the list any more: %v", told)
	}

	// The caller has nothing more to say, but listens.
	if err := w.CloseSend(); err != nil {
		t.Fatal(err)
	}
	g.logIn(t, "alice")
	w.becomes(t, online, "alice")
}

func TestWatchOfEverybody(t *testing.T) {
	t.Parallel()
	redis := testredis.Start(t)
	p := startPod(t, redis.Addr)
	g := startGateway(t, redis.Addr, "gateway-1", "alice", "bob")
	p.settle(t)
	w := watch(t, p, &presencev1.WatchRequest{All: true})
	w.becomes(t, online, "alice", "bob")
	g.logIn(t, "carol")
	g.logOut("bob")
	w.becomes(t, online, "carol")
	w.becomes(t, offline, "bob")
}

func TestWatchesThatCannotBeMeant(t *testing.T) {
	t.Parallel()
	redis := testredis.Start(t)
	p := startPod(t, redis.Addr)
	startGateway(t, redis.Addr, "gateway-1")
	p.settle(t)
	for what, c := range map[string]struct {
		requests []*presencev1.WatchRequest
		want     codes.Code
	}{
		"empty id":             {[]*presencev1.WatchRequest{{Add: []string{""}}}, codes.InvalidArgument},
		"empty id later":       {[]*presencev1.WatchRequest{{}, {Add: []string{""}}}, codes.InvalidArgument},
		"all and a list":       {[]*presencev1.WatchRequest{{All: true, Add: []string{"a"}}}, codes.InvalidArgument},
		"all, and then a list": {[]*presencev1.WatchRequest{{All: true}, {Add: []string{"a"}}}, codes.InvalidArgument},
		"token later":          {[]*presencev1.WatchRequest{{}, {Token: "x"}}, codes.InvalidArgument},
		"made-up token":        {[]*presencev1.WatchRequest{{Add: []string{"a"}, Token: "x"}}, codes.OutOfRange},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		stream, err := p.Watch(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range c.requests {
			_ = stream.Send(r)
		}
		for err == nil {
			_, err = stream.Recv()
		}
		wantCode(t, what, err, c.want)
	}
}

func TestLargeSnapshotComesInParts(t *testing.T) {
	t.Parallel()
	redis := testredis.Start(t)
	p := startPod(t, redis.Addr, func(c *presence.Config) { c.MaxWatchUsers = 20_000 })
	startGateway(t, redis.Addr, "gateway-1")
	p.settle(t)
	var list []string
	for i := range 20_000 {
		list = append(list, fmt.Sprintf("%0128d", i))
	}
	w := watch(t, p, &presencev1.WatchRequest{Add: list[:10_000], More: true})
	w.ask(t, &presencev1.WatchRequest{Add: list[10_000:]})
	parts, told := 0, 0
	for more := true; more; parts++ {
		e, err := w.Recv()
		if err != nil {
			t.Fatal(err)
		}
		told += len(e.GetUsers())
		if more = e.GetMore(); more != (e.GetToken() == "") || !e.GetSnapshot() {
			t.Errorf("part %d: token %q, more %v, snapshot %v", parts, e.GetToken(), more, e.GetSnapshot())
		}
	}
	if told != len(list) || parts < 3 {
		t.Errorf("%d users in %d parts", told, parts)
	}
	w.ask(t, &presencev1.WatchRequest{Add: []string{"one more"}})
	var err error
	for err == nil {
		_, err = w.Recv()
	}
	wantCode(t, "one user too many", err, codes.ResourceExhausted)
	if !strings.Contains(status.Convert(err).Message(), "20000") {
		t.Error(err)
	}
}

// While Redis is away nobody is said to have gone.
func TestWatchDuringAnOutage(t *testing.T) {
	t.Parallel()
	redis := testredis.Start(t)
	p := startPod(t, redis.Addr)
	g := startGateway(t, redis.Addr, "gateway-1", "alice", "bob")
	p.settle(t)
	w := watch(t, p, &presencev1.WatchRequest{Add: []string{"alice", "bob"}})
	w.becomes(t, online, "alice", "bob")
	redis.Pause()
	eventually(t, func() error { // the pod has noticed
		answer, err := p.BatchGet(t.Context(), &presencev1.BatchGetRequest{Users: []string{"alice"}})
		if err == nil && !answer.GetDegraded() {
			err = errors.New("not degraded")
		}
		return err
	})
	redis.Resume()
	g.logOut("bob")
	told := w.becomes(t, offline, "bob")
	if w.states["alice"] != online {
		t.Errorf("told %v, alice is %s", told, w.states["alice"])
	}
}
