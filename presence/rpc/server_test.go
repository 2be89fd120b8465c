package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	presencev1 "github.com/imcluster/imcluster/api/presence/v1"
	pb "github.com/imcluster/imcluster/api/userstatus"
	"github.com/imcluster/imcluster/internal/secretdir"
	"github.com/imcluster/imcluster/internal/telemetry"
	"github.com/imcluster/imcluster/internal/testredis"
	"github.com/imcluster/imcluster/presence"
	"github.com/imcluster/imcluster/presence/rpc"
	"github.com/imcluster/imcluster/presence/store"
)

func TestKeysAreChecked(t *testing.T) {
	t.Parallel()
	redis := testredis.Start(t)
	dir := t.TempDir()
	for file, key := range map[string]string{"current": "new", "previous": "old"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(key), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	keys, err := secretdir.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	closed := startPod(t, redis.Addr, func(c *presence.Config) { c.APIKey = keys })
	open := startPod(t, redis.Addr, func(c *presence.Config) { c.OpenUserStatus = true })
	for _, c := range []struct {
		pod                 *pod
		key                 string
		presence, userState codes.Code
	}{
		{closed, "", codes.Unauthenticated, codes.Unauthenticated},
		{closed, "wrong", codes.Unauthenticated, codes.Unauthenticated},
		{closed, "new", codes.OK, codes.OK},
		{closed, "old", codes.OK, codes.OK},
		{closed, "peer", codes.OK, codes.OK},
		{open, "", codes.Unauthenticated, codes.OK},
		{open, "wrong", codes.Unauthenticated, codes.OK},
		{open, "api", codes.OK, codes.OK},
	} {
		conn := dial(t, c.pod.GRPCAddr().String(), c.key)
		what := fmt.Sprintf("key %q, open %v", c.key, c.pod == open)
		_, err := presencev1.NewPresenceServiceClient(conn).BatchGet(t.Context(), &presencev1.BatchGetRequest{})
		wantCode(t, what+": BatchGet", err, c.presence)
		stream, err := presencev1.NewPresenceServiceClient(conn).Watch(t.Context())
		if err == nil {
			_ = stream.Send(&presencev1.WatchRequest{Add: []string{"alice"}})
			_, err = stream.Recv()
		}
		wantCode(t, what+": Watch", err, c.presence)
		eventually(t, func() error {
			_, err := pb.NewUserStatusClient(conn).Online(t.Context(), &pb.OnlineRequest{UserID: "u", DeviceID: "d", ServerAddr: "s"})
			if status.Code(err) != c.userState {
				return fmt.Errorf("%s: Online: %w", what, err)
			}
			return nil
		})
		// Probes have no key.
		_, err = healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
		wantCode(t, what+": health", err, codes.OK)
	}
	for _, value := range []string{"Basic new", "new", "Bearer", "bearer  new"} {
		ctx := withHeader(t.Context(), value)
		_, err := presencev1.NewPresenceServiceClient(dial(t, closed.GRPCAddr().String(), "")).BatchGet(ctx, &presencev1.BatchGetRequest{})
		wantCode(t, value, err, codes.Unauthenticated)
	}
}

func TestHealthFollowsReadiness(t *testing.T) {
	t.Parallel()
	redis := testredis.Start(t)
	redis.Pause()
	p := startPod(t, redis.Addr, func(c *presence.Config) { c.ShutdownDelay = 3 * time.Second })
	for _, service := range []string{"", "imcluster.presence.v1.PresenceService", "pb.UserStatus"} {
		watch, err := healthv1.NewHealthClient(dial(t, p.GRPCAddr().String(), "")).Watch(t.Context(), &healthv1.HealthCheckRequest{Service: service})
		if err != nil {
			t.Fatal(err)
		}
		next := func(want healthv1.HealthCheckResponse_ServingStatus) {
			t.Helper()
			if got, err := watch.Recv(); err != nil || got.GetStatus() != want {
				t.Fatalf("%q: %s, %v, want %s", service, got.GetStatus(), err, want)
			}
		}
		if service == "" {
			next(healthv1.HealthCheckResponse_NOT_SERVING)
			redis.Resume()
		}
		next(healthv1.HealthCheckResponse_SERVING)
		if service == "pb.UserStatus" {
			stopped := make(chan struct{})
			go func() { defer close(stopped); p.stop() }()
			next(healthv1.HealthCheckResponse_NOT_SERVING)
			for range 5 { // those who have not heard of it are still answered
				c := presencev1.NewPresenceServiceClient(dial(t, p.GRPCAddr().String(), "api"))
				_, err := c.BatchGet(t.Context(), &presencev1.BatchGetRequest{})
				wantCode(t, "call while the pod stops", err, codes.OK)
			}
			<-stopped
		}
	}
}

func TestReflectionTellsOfTheServices(t *testing.T) {
	t.Parallel()
	p := startPod(t, testredis.Start(t).Addr)
	stream, err := reflectionv1.NewServerReflectionClient(dial(t, p.GRPCAddr().String(), "")).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	answer, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range answer.GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	want := []string{"grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection",
		"imcluster.presence.v1.PresenceService", "pb.UserStatus"}
	if slices.Sort(names); !cmp.Equal(names, want) {
		t.Errorf("services %v, want %v", names, want)
	}
}

// The API over gRPC answers what the one over HTTP does.
func TestAnswersAreThoseOfTheHTTPAPI(t *testing.T) {
	t.Parallel()
	redis := testredis.Start(t)
	p := startPod(t, redis.Addr)
	g := startGateway(t, redis.Addr, "gateway-1", "alice", "bob", "carol")
	p.settle(t)
	g.logOut("carol")
	ids := []string{"bob", "carol", "nobody", "alice", "bob"}
	eventually(t, func() error {
		answer, err := p.BatchGet(t.Context(), &presencev1.BatchGetRequest{Users: ids})
		if err != nil {
			return err
		}
		if got := answer.GetUsers()[1]; answer.GetDegraded() || got.GetState() != presencev1.State_STATE_OFFLINE {
			return fmt.Errorf("carol is %s", got)
		}
		same, _, err := p.http.BatchGet(t.Context(), ids)
		if err != nil {
			return err
		}
		for i, u := range answer.GetUsers() {
			want := describeHTTP(same[i])
			if got := describe(u); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		}
		return nil
	})

	list, err := p.ListOnline(t.Context(), &presencev1.ListOnlineRequest{Limit: 1})
	if err != nil || len(list.GetUsers()) != 1 || list.GetNextCursor() == "" || list.GetAsOfMs() == 0 {
		t.Fatalf("list: %v, %v", list, err)
	}
	rest, err := p.ListOnline(t.Context(), &presencev1.ListOnlineRequest{Cursor: list.GetNextCursor()})
	all := slices.Sorted(slices.Values(append(list.GetUsers(), rest.GetUsers()...)))
	if err != nil || !cmp.Equal(all, []string{"alice", "bob"}) || rest.GetNextCursor() != "" {
		t.Errorf("list: %v, %v", rest, err)
	}
	count, err := p.CountOnline(t.Context(), &presencev1.CountOnlineRequest{})
	if err != nil || count.GetUsers() != 2 || count.GetSessions() != 2 || len(count.GetGateways()) != 1 || count.GetGateways()[0].GetGateway() != "gateway-1" {
		t.Errorf("count: %v, %v", count, err)
	}
}

func TestRequestsThatCannotBeMeant(t *testing.T) {
	t.Parallel()
	redis := testredis.Start(t)
	p := startPod(t, redis.Addr, func(c *presence.Config) { c.MaxQueryUsers = 3 })
	startGateway(t, redis.Addr, "gateway-1")
	p.settle(t)
	ctx := t.Context()
	for what, c := range map[string]struct {
		call func() error
		want codes.Code
	}{
		"too many users": {func() error {
			_, err := p.BatchGet(ctx, &presencev1.BatchGetRequest{Users: []string{"a", "b", "c", "d"}})
			return err
		}, codes.ResourceExhausted},
		"empty id": {func() error {
			_, err := p.BatchGet(ctx, &presencev1.BatchGetRequest{Users: []string{"a", ""}})
			return err
		}, codes.InvalidArgument},
		"bad cursor": {func() error {
			_, err := p.ListOnline(ctx, &presencev1.ListOnlineRequest{Cursor: "?"})
			return err
		}, codes.InvalidArgument},
		"long page": {func() error {
			_, err := p.ListOnline(ctx, &presencev1.ListOnlineRequest{Limit: 1001})
			return err
		}, codes.InvalidArgument},
		"no status": {func() error {
			_, err := p.SetStatus(ctx, &presencev1.SetStatusRequest{User: "a"})
			return err
		}, codes.InvalidArgument},
		"long text": {func() error {
			_, err := p.SetStatus(ctx, &presencev1.SetStatusRequest{User: "a", Status: presencev1.Status_STATUS_BUSY, Text: strings.Repeat("x", 129)})
			return err
		}, codes.InvalidArgument},
		"status of nobody": {func() error {
			_, err := p.SetStatus(ctx, &presencev1.SetStatusRequest{Status: presencev1.Status_STATUS_BUSY})
			return err
		}, codes.InvalidArgument},
		"query of nobody": {func() error {
			_, err := p.users.QueryUserStatus(ctx, &pb.QueryUserStatusRequest{})
			return err
		}, codes.InvalidArgument},
		"device with control characters": {func() error {
			_, err := p.users.QueryUserStatus(ctx, &pb.QueryUserStatusRequest{UserID: "a", DeviceID: "\n"})
			return err
		}, codes.InvalidArgument},
		"no server": {func() error {
			_, err := p.users.Online(ctx, &pb.OnlineRequest{UserID: "a", DeviceID: "d"})
			return err
		}, codes.InvalidArgument},
		"long server": {func() error {
			_, err := p.users.KeepAlive(ctx, &pb.KeepAliveRequest{ServerAddr: strings.Repeat("x", 256)})
			return err
		}, codes.InvalidArgument},
		"offline of nobody": {func() error {
			_, err := p.users.Offline(ctx, &pb.OfflineRequest{DeviceID: "d"})
			return err
		}, codes.InvalidArgument},
	} {
		wantCode(t, what, c.call(), c.want)
	}
}

// A status is set for whoever it is, and shown while the user is online.
func TestStatusIsSet(t *testing.T) {
	t.Parallel()
	redis := testredis.Start(t)
	p := startPod(t, redis.Addr)
	g := startGateway(t, redis.Addr, "gateway-1", "alice")
	p.settle(t)
	ctx := t.Context()
	set := func(user string, to presencev1.Status, text string) {
		t.Helper()
		if _, err := p.SetStatus(ctx, &presencev1.SetStatusRequest{User: user, Status: to, Text: text}); err != nil {
			t.Fatal(err)
		}
	}
	becomes := func(user string, state presencev1.State, status presencev1.Status, text string) {
		t.Helper()
		eventually(t, func() error {
			answer, err := p.BatchGet(ctx, &presencev1.BatchGetRequest{Users: []string{user}})
			if u := answer.GetUsers(); err == nil && (u[0].GetState() != state || u[0].GetStatus() != status || u[0].GetText() != text) {
				err = fmt.Errorf("%s", u[0])
			}
			return err
		})
	}
	w := watch(t, p, &presencev1.WatchRequest{Add: []string{"alice"}})
	becomes("alice", online, presencev1.Status_STATUS_ONLINE, "")
	set("alice", presencev1.Status_STATUS_BUSY, "in a call")
	becomes("alice", online, presencev1.Status_STATUS_BUSY, "in a call")
	w.until(t, func() bool { return w.last["alice"].GetStatus() == presencev1.Status_STATUS_BUSY })
	set("alice", presencev1.Status_STATUS_INVISIBLE, "")
	becomes("alice", offline, presencev1.Status_STATUS_UNSPECIFIED, "")
	w.becomes(t, offline, "alice")
	eventually(t, func() error { // nor does the service of the state-server tell
		if got := p.status(t, "alice", "phone"); got != "" {
			return fmt.Errorf("alice is at %s", got)
		}
		return nil
	})
	set("bob", presencev1.Status_STATUS_AWAY, "")
	g.logIn(t, "bob")
	becomes("bob", online, presencev1.Status_STATUS_AWAY, "")
}

// No failure is an answer that somebody is not online.
func TestOutageIsNoAnswer(t *testing.T) {
	t.Parallel()
	redis := testredis.Start(t)
	p := startPod(t, redis.Addr)
	startGateway(t, redis.Addr, "gateway-1", "alice")
	p.settle(t)
	redis.Pause()
	t.Cleanup(redis.Resume)
	eventually(t, func() error { // what is in memory is answered for a second
		answer, err := p.users.QueryUserStatus(t.Context(), &pb.QueryUserStatusRequest{UserID: "nobody"})
		if err == nil && !answer.GetStatus() {
			return errors.New("answered from memory")
		}
		wantCode(t, "query", err, codes.Unavailable)
		return nil
	})
	answer, err := p.BatchGet(t.Context(), &presencev1.BatchGetRequest{Users: []string{"alice", "nobody"}})
	if err != nil || !answer.GetDegraded() {
		t.Fatalf("%v, %v", answer, err)
	}
	for _, u := range answer.GetUsers() {
		if u.GetState() != presencev1.State_STATE_UNKNOWN || u.GetReason() != presencev1.Reason_REASON_UNAVAILABLE {
			t.Errorf("%v", u)
		}
	}
	_, err = p.ListOnline(t.Context(), &presencev1.ListOnlineRequest{})
	wantCode(t, "list", err, codes.Unavailable)
	_, err = p.users.QueryUserStatus(t.Context(), &pb.QueryUserStatusRequest{UserID: "alice", DeviceID: "phone"})
	wantCode(t, "query of a device", err, codes.Unavailable)
	for what, call := range map[string]func(context.Context) error{
		"online": func(ctx context.Context) error {
			_, err := p.users.Online(ctx, &pb.OnlineRequest{UserID: "a", DeviceID: "d", ServerAddr: "s"})
			return err
		},
		"offline": func(ctx context.Context) error {
			_, err := p.users.Offline(ctx, &pb.OfflineRequest{UserID: "a", DeviceID: "d"})
			return err
		},
		"keep alive": func(ctx context.Context) error {
			_, err := p.users.KeepAlive(ctx, &pb.KeepAliveRequest{ServerAddr: "s"})
			return err
		},
	} {
		wantCode(t, what, call(t.Context()), codes.Unavailable)
	}
}

// panicking is a model with a fault.
type panicking struct{ rpc.Model }

func (panicking) Users(context.Context, []string) ([]store.User, time.Time, bool) { panic("boom") }

func TestPanicIsAnError(t *testing.T) {
	t.Parallel()
	s, err := rpc.New(rpc.Config{Model: panicking{}, Keys: []*secretdir.Secret{secretdir.Static([]byte("api"))}})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(listener) }()
	t.Cleanup(func() {
		s.Stop(context.Background())
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	conn := dial(t, listener.Addr().String(), "api")
	for range 2 {
		_, err := presencev1.NewPresenceServiceClient(conn).BatchGet(t.Context(), &presencev1.BatchGetRequest{Users: []string{"alice"}})
		wantCode(t, "a call that panics", err, codes.Internal)
		if strings.Contains(err.Error(), "boom") {
			t.Errorf("the caller is told %v", err)
		}
	}
	// A watch of the same model.
	stream, err := presencev1.NewPresenceServiceClient(conn).Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.Send(&presencev1.WatchRequest{Add: []string{"alice"}})
	_, err = stream.Recv()
	wantCode(t, "a watch that panics", err, codes.Internal)
}

// A caller cannot make time series by making up names of methods; nor do probes show among the calls.
func TestMetricsAreOfKnownMethods(t *testing.T) {
	t.Parallel()
	tel, err := telemetry.Start(t.Context(), telemetry.Config{Service: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tel.Shutdown(context.Background()) })
	p := startPod(t, testredis.Start(t).Addr, func(c *presence.Config) { c.Meters, c.Tracers = tel.Meters(), tel.Tracers() })
	if _, err := p.BatchGet(t.Context(), &presencev1.BatchGetRequest{}); err != nil {
		t.Fatal(err)
	}
	conn := dial(t, p.GRPCAddr().String(), "api")
	for _, method := range []string{"/imcluster.presence.v1.PresenceService/MadeUp", "/made.Up/Call"} {
		wantCode(t, method, conn.Invoke(t.Context(), method, &pb.OnlineRequest{}, &pb.OnlineResponse{}), codes.Unimplemented)
	}
	if _, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.ListOnline(t.Context(), &presencev1.ListOnlineRequest{}); err != nil && status.Code(err) != codes.Unavailable {
		t.Fatal(err)
	}
	eventually(t, func() error {
		answer := httptest.NewRecorder()
		tel.Handler().ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
		text := answer.Body.String()
		if strings.Contains(text, "MadeUp") || strings.Contains(text, "made.Up") || strings.Contains(text, "grpc.health") {
			t.Fatalf("metrics of unknown methods:\n%s", text)
		}
		if !strings.Contains(text, `rpc_method="imcluster.presence.v1.PresenceService/BatchGet"`) {
			return fmt.Errorf("no metrics of calls in\n%s", text)
		}
		return nil
	})
}
