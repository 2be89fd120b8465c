package watch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	presencev1 "github.com/imcluster/imcluster/api/presence/v1"
)

const testTimeout = 10 * time.Second

// presence is a presence service that tests tell how users are.
type presence struct {
	presencev1.UnimplementedPresenceServiceServer

	mu      sync.Mutex
	users   map[string]*presencev1.User
	streams map[*call]struct{}
	tokens  []string // that streams were begun with
	lists   [][]string
	asOf    int64
	away    error // streams are refused with
	forget  bool  // tokens are too old
}

// call is one stream.
type call struct {
	users  map[string]bool
	out    chan *presencev1.WatchResponse
	broken chan error
}

func online(user, platform string) *presencev1.User {
	return &presencev1.User{User: user, State: presencev1.State_STATE_ONLINE, Status: presencev1.Status_STATUS_ONLINE,
		Devices: []*presencev1.Device{{Id: "d", Platform: platform}}}
}

func offline(user string, ms int64) *presencev1.User {
	return &presencev1.User{User: user, State: presencev1.State_STATE_OFFLINE, LastSeenMs: ms}
}

func unavailable(user string) *presencev1.User {
	return &presencev1.User{User: user, State: presencev1.State_STATE_UNKNOWN, Reason: presencev1.Reason_REASON_UNAVAILABLE}
}

func (p *presence) userLocked(user string) *presencev1.User {
	if u := p.users[user]; u != nil {
		return u
	}
	return &presencev1.User{User: user, State: presencev1.State_STATE_UNKNOWN, Reason: presencev1.Reason_REASON_NEVER_SEEN}
}

// set changes users, and tells the streams about it all at once.
func (p *presence) set(users ...*presencev1.User) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asOf++
	for _, u := range users {
		p.users[u.GetUser()] = u
	}
	for c := range p.streams {
		m := &presencev1.WatchResponse{AsOfMs: p.asOf, Token: strconv.FormatInt(p.asOf, 10)}
		for _, u := range users {
			if c.users[u.GetUser()] {
				m.Users = append(m.Users, u)
			}
		}
		if len(m.Users) > 0 {
			c.out <- m
		}
	}
}

// fail ends the streams, and refuses new ones with away.
func (p *presence) fail(err, away error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away = away
	for c := range p.streams {
		c.broken <- err
		delete(p.streams, c)
	}
}

func (p *presence) setAway(err error) {
	p.mu.Lock()
	p.away = err
	p.mu.Unlock()
}

// watched returns whom the streams are about.
func (p *presence) watched() (users []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.streams {
		users = append(users, slices.Collect(maps.Keys(c.users))...)
	}
	slices.Sort(users)
	return users
}

func (p *presence) Watch(stream grpc.BidiStreamingServer[presencev1.WatchRequest, presencev1.WatchResponse]) error {
	if md := metadata.ValueFromIncomingContext(stream.Context(), "authorization"); len(md) != 1 || md[0] != "Bearer key" {
		return status.Errorf(codes.Unauthenticated, "%q", md)
	}
	c := &call{users: map[string]bool{}, out: make(chan *presencev1.WatchResponse, 1000), broken: make(chan error, 1)}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if err := p.accept(c, first); err != nil {
		return err
	}
	go func() {
		for {
			r, err := stream.Recv()
			if err != nil {
				if !errors.Is(err, io.EOF) {
					c.broken <- err
				}
				return
			}
			p.change(c, r)
		}
	}()
	for {
		select {
		case m := <-c.out:
			if err := stream.Send(m); err != nil {
				return err
			}
		case err := <-c.broken:
			p.mu.Lock()
			delete(p.streams, c)
			p.mu.Unlock()
			return err
		}
	}
}

func (p *presence) accept(c *call, first *presencev1.WatchRequest) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tokens = append(p.tokens, first.GetToken())
	if p.away != nil {
		return p.away
	}
	if first.GetToken() != "" && p.forget {
		return status.Error(codes.OutOfRange, "too old")
	}
	p.streams[c] = struct{}{}
	p.snapshotLocked(c, first)
	return nil
}

func (p *presence) change(c *call, r *presencev1.WatchRequest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, u := range r.GetRemove() {
		delete(c.users, u)
	}
	p.snapshotLocked(c, r)
}

// snapshotLocked sends those who are new, each in a part of its own.
func (p *presence) snapshotLocked(c *call, r *presencev1.WatchRequest) {
	p.lists = append(p.lists, r.GetAdd())
	for _, u := range r.GetAdd() {
		c.users[u] = true
		c.out <- &presencev1.WatchResponse{Snapshot: true, Users: []*presencev1.User{p.userLocked(u)}, More: true}
	}
	c.out <- &presencev1.WatchResponse{Snapshot: true, AsOfMs: p.asOf, Token: strconv.FormatInt(p.asOf, 10)}
}

// start runs a hub on a presence service.
func start(t testing.TB, most int) (*Hub, *presence) {
	t.Helper()
	p := &presence{users: map[string]*presencev1.User{}, streams: map[*call]struct{}{}, asOf: 1000}
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	presencev1.RegisterPresenceServiceServer(server, p)
	go func() { _ = server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///presence", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	h := New(Config{Client: presencev1.NewPresenceServiceClient(conn), Key: func() string { return "key" }, MaxSubscriptions: most})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { h.Run(ctx); close(done) }()
	t.Cleanup(func() {
		cancel()
		<-done
		conn.Close()
		server.Stop()
	})
	return h, p
}

// eventually waits until the condition holds.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(testTimeout); !condition(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not true in time: %s", what)
		}
	}
}

// watcher is a subscriber that folds what it is told.
type watcher struct {
	testing.TB
	h   *Hub
	sub *Subscriber

	mu     sync.Mutex
	state  map[string]string
	events []string // in order
}

func newWatcher(t testing.TB, h *Hub) *watcher {
	w := &watcher{TB: t, h: h, state: map[string]string{}}
	w.sub = NewSubscriber(w)
	return w
}

func (w *watcher) Changed(b *Batch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, i := range b.which {
		p := b.event.states[i].presence(b.event.topics[i].user)
		w.state[p.UserID] = p.State
		w.events = append(w.events, fmt.Sprintf("%s %s", p.UserID, p.State))
	}
}

// told returns what the watcher was told since it was asked the last time.
func (w *watcher) told() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	events := w.events
	w.events = nil
	return events
}

// expect waits for the events, and no others.
func (w *watcher) expect(want ...string) {
	w.Helper()
	var got []string
	eventually(w, fmt.Sprintf("events %q", want), func() bool {
		got = append(got, w.told()...)
		return len(got) >= len(want)
	})
	if !slices.Equal(got, want) {
		w.Fatalf("told %q, want %q", got, want)
	}
}

// edit changes the list and returns the snapshot, as text.
func (w *watcher) edit(e Edit) ([]string, error) {
	w.Helper()
	c, err := w.h.Begin(w.sub, e)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(w.Context(), testTimeout)
	defer cancel()
	if err := c.Wait(ctx); err != nil {
		return nil, err
	}
	var got []string
	for _, p := range c.Commit().Presence {
		got = append(got, p.UserID+" "+p.State)
	}
	return got, nil
}

// must edits the list and compares the snapshot.
func (w *watcher) must(e Edit, want ...string) {
	w.Helper()
	got, err := w.edit(e)
	if err != nil || !slices.Equal(got, want) {
		w.Fatalf("got %q, %v, want %q", got, err, want)
	}
}
