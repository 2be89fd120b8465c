package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	presencev1 "github.com/imcluster/imcluster/api/presence/v1"
	pb "github.com/imcluster/imcluster/api/userstatus"
	"github.com/imcluster/imcluster/client"
	"github.com/imcluster/imcluster/internal/secretdir"
	"github.com/imcluster/imcluster/presence"
	"github.com/imcluster/imcluster/presence/feed"
	"github.com/imcluster/imcluster/presence/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	// leaseTTL is short, because a new Redis is believed to be complete only after one.
	leaseTTL = 500 * time.Millisecond
	patience = 20 * time.Second
)

// pod is a presence server that runs, and connections to it.
type pod struct {
	*presence.Server
	presencev1.PresenceServiceClient
	users pb.UserStatusClient
	http  client.Presence
	stop  func()
}

func startPod(t *testing.T, address string, change ...func(*presence.Config)) *pod {
	t.Helper()
	cfg := presence.Config{
		Listen: "127.0.0.1:0", GRPCListen: "127.0.0.1:0",
		Store:  store.Config{Addresses: []string{address}, LeaseTTL: leaseTTL, Grace: leaseTTL, OpTimeout: time.Second},
		APIKey: secretdir.Static([]byte("api")), PeerKey: secretdir.Static([]byte("peer")), QueryTimeout: time.Second,
	}
	for _, c := range change {
		c(&cfg)
	}
	s, err := presence.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	transport := &http.Transport{}
	p := &pod{Server: s, http: client.Presence{URL: "http://" + s.Addr().String(), Key: "api", HTTP: &http.Client{Transport: transport}}}
	p.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
		transport.CloseIdleConnections()
	})
	t.Cleanup(p.stop)
	conn := dial(t, s.GRPCAddr().String(), "api")
	p.PresenceServiceClient, p.users = presencev1.NewPresenceServiceClient(conn), pb.NewUserStatusClient(conn)
	return p
}

// bearer shows a key with every call.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (bearer) RequireTransportSecurity() bool { return false }

func dial(t *testing.T, target, key string, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	options = append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if key != "" {
		options = append(options, grpc.WithPerRPCCredentials(bearer(key)))
	}
	conn, err := grpc.NewClient(target, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// gateway is a member of the registry that has sessions and no connections.
type gateway struct {
	member *store.Member

	mu       sync.Mutex
	sessions map[string]store.Session // by user
}

func (g *gateway) Sessions(partition int) iter.Seq[store.Session] {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := slices.Collect(maps.Values(g.sessions))
	list = slices.DeleteFunc(list, func(s store.Session) bool { return store.Partition(s.User) != partition })
	return slices.Values(list)
}

func (g *gateway) Count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.sessions)
}

func (*gateway) Replaced(store.Session)   {}
func (*gateway) Fenced()                  {}
func (*gateway) Revoked(store.Revocation) {}
func (*gateway) Suspect(string)           {}

func (g *gateway) logIn(t *testing.T, user string) {
	t.Helper()
	s := store.Session{User: user, Device: "phone", Platform: "ios", Conn: uint64(g.Count()) + 1}
	login, err := g.member.Register(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	s.Since = login.Since
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sessions[user] = s
}

func (g *gateway) logOut(user string) {
	g.mu.Lock()
	s := g.sessions[user]
	delete(g.sessions, user)
	g.mu.Unlock()
	g.member.Unregister(s, time.Now(), feed.CauseLogout)
}

func startGateway(t *testing.T, address, pod string, users ...string) *gateway {
	t.Helper()
	st, err := store.Open(t.Context(), store.Config{Addresses: []string{address}, LeaseTTL: leaseTTL, Grace: leaseTTL, OpTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{sessions: map[string]store.Session{}}
	if g.member, err = st.Join(t.Context(), store.Identity{PodName: pod, PodUID: "uid-" + pod, Address: pod + ".example:9091"}, g); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = g.member.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
		_ = st.Close()
	})
	for _, user := range users {
		g.logIn(t, user)
	}
	return g
}

// eventually waits until check returns no error.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// settle waits until the pod knows who is not there.
func (p *pod) settle(t *testing.T) {
	t.Helper()
	eventually(t, func() error {
		answer, err := p.BatchGet(t.Context(), &presencev1.BatchGetRequest{Users: []string{"nobody"}})
		if err == nil && (answer.GetDegraded() || answer.GetUsers()[0].GetReason() != presencev1.Reason_REASON_NEVER_SEEN) {
			err = errors.New("the pod does not know who is not there")
		}
		return err
	})
}

func wantCode(t *testing.T, what string, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Errorf("%s: %v, want %s", what, err, want)
	}
}

// withHeader adds an authorization to a call.
func withHeader(ctx context.Context, value string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", value)
}

// describe tells what an answer says of a user.
func describe(u *presencev1.User) string {
	text := fmt.Sprint(u.GetUser(), " ", strings.ToLower(strings.TrimPrefix(u.GetState().String(), "STATE_")))
	if u.GetReason() != 0 {
		text += " " + strings.ToLower(strings.TrimPrefix(u.GetReason().String(), "REASON_"))
	}
	if u.GetLastSeenMs() != 0 {
		text += " " + time.UnixMilli(u.GetLastSeenMs()).UTC().String()
	}
	for _, d := range u.GetDevices() {
		text += fmt.Sprint(" ", d.GetId(), " ", d.GetPlatform(), " ", d.GetGateway(), " ", time.UnixMilli(d.GetLoginTimeMs()).UTC())
	}
	return text
}

// describeHTTP tells what an answer over HTTP says of a user, in the same words.
func describeHTTP(u client.UserPresence) string {
	text := fmt.Sprint(u.User, " ", u.State)
	if u.Reason != "" {
		text += " " + u.Reason
	}
	if !u.LastSeen.IsZero() {
		text += " " + u.LastSeen.UTC().String()
	}
	for _, d := range u.Devices {
		text += fmt.Sprint(" ", d.ID, " ", d.Platform, " ", d.Gateway, " ", d.LoginTime.UTC())
	}
	return text
}
