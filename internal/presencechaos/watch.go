package presencechaos

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"

	presencev1 "github.com/imcluster/imcluster/api/presence/v1"
	"github.com/imcluster/imcluster/client"
)

// asking is the client of those who ask: a pod that is stopped does not answer.
var asking = &http.Client{Timeout: 3 * time.Second}

// watcher follows users, and goes on at another pod whenever it is cut off.
type watcher struct {
	*fold
	cut func() // cuts the connection
	// of tells how a user is, as far as the watcher knows.
	of func(user string) view
}

// pauseAfter is how long a watcher waits after a failure.
const pauseAfter = 100 * time.Millisecond

// hopper dials the presence pods in turn, whatever the address.
type hopper struct {
	addrs []string
	next  atomic.Uint32

	mu   sync.Mutex
	conn net.Conn // the latest; guarded by mu
}

func (h *hopper) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", h.addrs[int(h.next.Add(1))%len(h.addrs)])
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	h.conn = c
	h.mu.Unlock()
	return c, nil
}

func (h *hopper) cut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conn != nil {
		_ = h.conn.Close()
	}
}

// watchSSE follows by Server-Sent Events, until ctx ends.
func (w *World) watchSSE(ctx context.Context, tasks *sync.WaitGroup, name string, first int, users []string) *watcher {
	f := newFold("sse "+name, w.rec, users == nil)
	h := &hopper{}
	h.next.Store(uint32(first))
	for _, p := range w.pods {
		h.addrs = append(h.addrs, p.http)
	}
	transport := &http.Transport{DialContext: h.dial, DisableKeepAlives: true}
	p := &client.Presence{URL: "http://presence", Key: apiKey, HTTP: &http.Client{Transport: transport}}
	tasks.Go(func() {
		defer transport.CloseIdleConnections()
		for e, err := range p.Watch(ctx, client.WatchOptions{Users: users, All: users == nil}) {
			switch {
			case err != nil:
				if ctx.Err() == nil {
					w.fail(fmt.Errorf("%s ended: %w", f.observer, err))
				}
				return
			case e.Kind == client.Relist:
				f.relist()
			case e.Kind == client.Snapshot, e.Kind == client.Change:
				views := make(map[string]view, len(e.Users))
				for i := range e.Users {
					views[e.Users[i].User] = viewOf(&e.Users[i])
				}
				f.tell(views, e.AsOf, time.Now(), e.Kind == client.Snapshot, e.More, e.Degraded)
			}
		}
	})
	return &watcher{f, h.cut, f.of}
}

// watchGRPC follows over gRPC, until ctx ends.
func (w *World) watchGRPC(ctx context.Context, tasks *sync.WaitGroup, name string, first int, users []string) *watcher {
	f := newFold("grpc "+name, w.rec, users == nil)
	var stop atomic.Pointer[context.CancelFunc]
	tasks.Go(func() {
		token := ""
		for n := first; ctx.Err() == nil; n++ {
			ctx, cancel := context.WithCancel(ctx)
			stop.Store(&cancel)
			err := w.followGRPC(ctx, f, w.pods[n%len(w.pods)].grpc, users, &token)
			cancel()
			if grpcstatus.Code(err) == codes.OutOfRange {
				token = ""
				f.relist()
			}
			select {
			case <-ctx.Done():
			case <-time.After(pauseAfter):
			}
		}
	})
	return &watcher{f, func() {
		if cancel := stop.Load(); cancel != nil {
			(*cancel)()
		}
	}, f.of}
}

func (w *World) followGRPC(ctx context.Context, f *fold, addr string, users []string, token *string) error {
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	stream, err := presencev1.NewPresenceServiceClient(conn).Watch(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+apiKey))
	if err != nil {
		return err
	}
	if err := stream.Send(&presencev1.WatchRequest{Token: *token, All: users == nil, Add: users}); err != nil {
		return err
	}
	for {
		e, err := stream.Recv()
		if err != nil {
			return err
		}
		if !e.GetBookmark() {
			views := make(map[string]view, len(e.GetUsers()))
			for _, u := range e.GetUsers() {
				views[u.GetUser()] = viewOfProto(u)
			}
			at := time.UnixMilli(e.GetAsOfMs())
			f.tell(views, at, time.Now(), e.GetSnapshot(), e.GetMore(), e.GetDegraded())
		}
		if e.GetToken() != "" {
			*token = e.GetToken()
		}
	}
}

// delay is how late an event may come through a WebSocket: as long as any process is stopped.
const delay = 6 * time.Second

// watchWS follows as another user's client, until ctx ends.
func (w *World) watchWS(ctx context.Context, tasks *sync.WaitGroup, name string, users []string) *watcher {
	f := newFold("ws "+name, w.rec, false)
	h := &gatewayHopper{w: w}
	tell := func(changes []client.Contact) {
		views := make(map[string]view, len(changes))
		for _, c := range changes {
			views[c.User] = viewOfContact(c)
		}
		f.tell(views, time.Now().Add(-delay), time.Now(), false, false, false)
	}
	cfg := client.Config{
		URLs: []string{"ws://gateway/ws"}, Token: client.StaticToken("watcher-" + name), Dialer: h.dialer(),
		MinBackoff: 50 * time.Millisecond, MaxBackoff: 300 * time.Millisecond,
		OnPresence: tell,
	}
	c, err := client.New(cfg)
	if err != nil {
		w.fail(err)
		return &watcher{f, func() {}, f.of}
	}
	tasks.Go(func() {
		<-ctx.Done()
		c.Close()
		<-c.Done()
	})
	tasks.Go(func() {
		for ctx.Err() == nil {
			list, err := c.Subscribe(ctx, users...)
			if err == nil {
				tell(list)
				return
			}
			select {
			case <-ctx.Done():
			case <-c.Done():
				return
			case <-time.After(pauseAfter):
			}
		}
	})
	return &watcher{f, h.cut, func(user string) view {
		for _, contact := range c.Contacts() {
			if contact.User == user {
				return viewOfContact(contact)
			}
		}
		return view{}
	}}
}

func viewOfContact(c client.Contact) view {
	return view{State: stateOf(string(c.State), c.Reason), Status: string(c.Status), Text: c.Text, LastSeen: seconds(c.LastSeen)}
}
