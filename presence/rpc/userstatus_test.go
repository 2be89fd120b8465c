package rpc_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	presencev1 "github.com/imcluster/imcluster/api/presence/v1"
	pb "github.com/imcluster/imcluster/api/userstatus"
	"github.com/imcluster/imcluster/internal/testredis"
	"github.com/imcluster/imcluster/presence"
)

// status asks where a device is; empty if it is not online.
func (p *pod) status(t *testing.T, user, device string) string {
	t.Helper()
	answer, err := p.users.QueryUserStatus(t.Context(), &pb.QueryUserStatusRequest{UserID: user, DeviceID: device})
	if err != nil {
		t.Fatal(err)
	}
	if answer.GetStatus() != (answer.GetServerAddr() != "") {
		t.Errorf("status %v at %q", answer.GetStatus(), answer.GetServerAddr())
	}
	return answer.GetServerAddr()
}

func (p *pod) wantStatus(t *testing.T, user, device, want string) {
	t.Helper()
	eventually(t, func() error {
		if got := p.status(t, user, device); got != want {
			return fmt.Errorf("%s %s is at %q, want %q", user, device, got, want)
		}
		return nil
	})
}

func TestUsersOfAnotherChatServer(t *testing.T) {
	t.Parallel()
	redis := testredis.Start(t)
	one, two := startPod(t, redis.Addr), startPod(t, redis.Addr)
	g := startGateway(t, redis.Addr, "gateway-1", "alice")
	one.settle(t)
	two.settle(t)
	ctx := t.Context()
	w := watch(t, two, &presencev1.WatchRequest{Add: []string{"alice", "bob"}})
	w.becomes(t, online, "alice")

	for _, r := range []*pb.OnlineRequest{
		{UserID: "alice", DeviceID: "web", ServerAddr: "10.0.0.7:5000"},
		{UserID: "bob", DeviceID: "web", ServerAddr: "10.0.0.7:5000"},
		{UserID: "bob", ServerAddr: "10.0.0.8:5000"},
	} {
		if _, err := one.users.Online(ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	w.becomes(t, online, "bob")
	for _, p := range []*pod{one, two} {
		p.wantStatus(t, "alice", "phone", "gateway-1.example:9091")
		p.wantStatus(t, "alice", "web", "10.0.0.7:5000")
		p.wantStatus(t, "alice", "", "10.0.0.7:5000") // the one that logged in last
		p.wantStatus(t, "bob", "web", "10.0.0.7:5000")
		p.wantStatus(t, "bob", "default", "10.0.0.8:5000")
		p.wantStatus(t, "bob", "tv", "")
		p.wantStatus(t, "nobody", "", "")
	}
	seen, _, err := two.http.Get(ctx, "bob")
	if err != nil || len(seen.Devices) != 2 || seen.Devices[1].Gateway != "10.0.0.7:5000" {
		t.Errorf("over HTTP bob is %+v, %v", seen, err)
	}

	// The other pod is told, twice; and of a device that is on a gateway.
	for _, r := range []*pb.OfflineRequest{
		{UserID: "bob", DeviceID: "web"}, {UserID: "bob", DeviceID: "web"}, {UserID: "bob"}, {UserID: "alice", DeviceID: "phone"}} {
		if _, err := two.users.Offline(ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	w.becomes(t, offline, "bob")
	one.wantStatus(t, "bob", "", "")
	one.wantStatus(t, "alice", "phone", "gateway-1.example:9091")
	g.logOut("alice")
	one.wantStatus(t, "alice", "", "10.0.0.7:5000")
}

func TestKeepAliveOverGRPC(t *testing.T) {
	t.Parallel()
	redis := testredis.Start(t)
	p := startPod(t, redis.Addr)
	startGateway(t, redis.Addr, "gateway-1")
	p.settle(t)
	ctx := t.Context()
	first, err := p.users.KeepAlive(ctx, &pb.KeepAliveRequest{ServerAddr: "chat-7", Started: true})
	if err != nil || first.GetRegistry() == "" {
		t.Fatalf("%v, %v", first, err)
	}
	if _, err := p.users.Online(ctx, &pb.OnlineRequest{UserID: "alice", DeviceID: "web", ServerAddr: "chat-7"}); err != nil {
		t.Fatal(err)
	}
	again, err := p.users.KeepAlive(ctx, &pb.KeepAliveRequest{ServerAddr: "chat-7"})
	if err != nil || again.GetRegistry() != first.GetRegistry() {
		t.Errorf("%v, %v, before %v", again, err, first)
	}
	w := watch(t, p, &presencev1.WatchRequest{Add: []string{"alice"}})
	w.becomes(t, online, "alice")
	p.wantStatus(t, "alice", "web", "chat-7")
	w.becomes(t, offline, "alice") // when the lease has ended
	p.wantStatus(t, "alice", "web", "")
	back, err := p.users.KeepAlive(ctx, &pb.KeepAliveRequest{ServerAddr: "chat-7"})
	if err != nil || back.GetRegistry() == first.GetRegistry() {
		t.Errorf("%v, %v, before %v", back, err, first)
	}
}

// A chat server that minds the registry has its users back after a loss of all data, and no watcher is told that any of them
// went offline.
func TestRegistryBringsUsersBack(t *testing.T) {
	t.Parallel()
	redis := testredis.Start(t)
	p := startPod(t, redis.Addr)
	startGateway(t, redis.Addr, "gateway-1")
	p.settle(t)
	users := []string{"alice", "bob", "carol"}
	registry, registrations := "", 0
	// keepAlive does what a chat server does every few seconds.
	keepAlive := func() error {
		kept, err := p.users.KeepAlive(t.Context(), &pb.KeepAliveRequest{ServerAddr: "chat-7"})
		if err != nil || kept.GetRegistry() == registry {
			return err
		}
		for _, u := range users {
			if _, err := p.users.Online(t.Context(), &pb.OnlineRequest{UserID: u, DeviceID: "web", ServerAddr: "chat-7"}); err != nil {
				return err
			}
		}
		registry = kept.GetRegistry()
		registrations++
		return nil
	}
	if err := keepAlive(); err != nil {
		t.Fatal(err)
	}
	w := watch(t, p, &presencev1.WatchRequest{Add: users})
	w.becomes(t, online, users...)
	told := make(chan string, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(told)
		for ctx.Err() == nil {
			e, err := w.Recv()
			if err != nil {
				return
			}
			for _, u := range e.GetUsers() {
				if u.GetState() == offline {
					told <- u.String()
					return
				}
			}
		}
	}()
	redis.MustDo("flushall")
	eventually(t, func() error {
		err := keepAlive()
		if err == nil && registrations < 2 {
			err = errors.New("the registry is the same")
		}
		return err
	})
	for end := time.Now().Add(3 * leaseTTL); time.Now().Before(end); { // until the model is believed to be whole
		if err := keepAlive(); err != nil {
			t.Fatal(err)
		}
		<-time.After(leaseTTL / 5)
	}
	p.settle(t)
	for _, u := range users {
		p.wantStatus(t, u, "web", "chat-7")
	}
	cancel()
	_ = w.CloseSend()
	p.stop() // ends the watch
	if said, ok := <-told; ok {
		t.Errorf("a watcher was told of %s", said)
	}
}

// published is a process with a client that knows only the published contract.
type published struct {
	calls   io.Writer
	answers *bufio.Scanner
}

// startPublished starts the client, which is installed if it is not there yet.
func startPublished(t *testing.T, address string, key ...string) *published {
	t.Helper()
	const dir = "../../test/userstatus"
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "@grpc", "proto-loader")); err != nil {
		install := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
		install.Dir = dir
		if out, err := install.CombinedOutput(); err != nil {
			t.Fatalf("npm ci in %s: %v\n%s", dir, err, out)
		}
	}
	cmd := exec.CommandContext(t.Context(), "node", append([]string{"call.js", address}, key...)...)
	cmd.Dir, cmd.Stderr = dir, t.Output()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close() // ends it
		_ = cmd.Wait()
	})
	return &published{in, bufio.NewScanner(out)}
}

func (c *published) call(t *testing.T, method string, request map[string]string) string {
	t.Helper()
	line, err := json.Marshal(map[string]any{"method": method, "request": request})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c.calls, "%s\n", line)
	if !c.answers.Scan() {
		t.Fatalf("the client ended: %v", c.answers.Err())
	}
	return c.answers.Text()
}

// A chat server that was written for the published contract, in another language and with another implementation of gRPC and
// protobuf, is at home: it registers users, and asks for them.
func TestPublishedClient(t *testing.T) {
	t.Parallel()
	redis := testredis.Start(t)
	p := startPod(t, redis.Addr, func(c *presence.Config) { c.OpenUserStatus = true })
	startGateway(t, redis.Addr, "gateway-1", "alice")
	p.settle(t)
	query := func(c *published, user, device string) func() string {
		return func() string {
			return c.call(t, "QueryUserStatus", map[string]string{"UserID": user, "DeviceID": device})
		}
	}
	becomes := func(ask func() string, want string) {
		t.Helper()
		eventually(t, func() error {
			if got := ask(); got != want {
				return fmt.Errorf("answered %s, want %s", got, want)
			}
			return nil
		})
	}
	const no, empty = `{"response":{"Status":false,"ServerAddr":""}}`, `{"response":{}}`
	c := startPublished(t, p.GRPCAddr().String())
	becomes(query(c, "alice", "phone"), `{"response":{"Status":true,"ServerAddr":"gateway-1.example:9091"}}`)
	becomes(query(c, "用户 5", "web"), no)
	if got := c.call(t, "Online", map[string]string{"UserID": "用户 5", "DeviceID": "web", "ServerAddr": "10.0.0.7:5000"}); got != empty {
		t.Errorf("online: %s", got)
	}
	becomes(query(c, "用户 5", "web"), `{"response":{"Status":true,"ServerAddr":"10.0.0.7:5000"}}`)
	becomes(query(c, "用户 5", "phone"), no)
	if got := c.call(t, "Offline", map[string]string{"UserID": "用户 5", "DeviceID": "web"}); got != empty {
		t.Errorf("offline: %s", got)
	}
	becomes(query(c, "用户 5", "web"), no)

	redis.Pause()
	t.Cleanup(redis.Resume)
	becomes(query(c, "nobody", "web"), `{"error":"UNAVAILABLE"}`)
	if got := c.call(t, "Online", map[string]string{"UserID": "a", "DeviceID": "b", "ServerAddr": "c"}); got != `{"error":"UNAVAILABLE"}` {
		t.Errorf("online without Redis: %s", got)
	}

	guarded := startPod(t, redis.Addr)
	if got := query(startPublished(t, guarded.GRPCAddr().String()), "alice", "phone")(); got != `{"error":"UNAUTHENTICATED"}` {
		t.Errorf("without a key: %s", got)
	}
	if got := query(startPublished(t, guarded.GRPCAddr().String(), "api"), "alice", "phone")(); got != `{"error":"UNAVAILABLE"}` {
		t.Errorf("with a key: %s", got)
	}
}

// Many calls at once, through several pods, with repetitions: the last one for a device counts.
func TestConcurrentRegistrations(t *testing.T) {
	t.Parallel()
	redis := testredis.Start(t)
	pods := []*pod{startPod(t, redis.Addr), startPod(t, redis.Addr)}
	startGateway(t, redis.Addr, "gateway-1")
	pods[0].settle(t)
	const users, servers = 20, 3
	errs := make(chan error, users)
	for u := range users {
		go func() {
			ctx, user := context.WithoutCancel(t.Context()), fmt.Sprint("user-", u)
			var failed error
			for i := range 30 {
				c, server := pods[(u+i)%len(pods)].users, fmt.Sprint("chat-", i%servers)
				_, err := c.Online(ctx, &pb.OnlineRequest{UserID: user, DeviceID: "web", ServerAddr: server})
				failed = errors.Join(failed, err)
				if u%2 == 0 { // late, from the server that had the device before
					_, err := c.Offline(ctx, &pb.OfflineRequest{UserID: user, DeviceID: "web", ServerAddr: fmt.Sprint("chat-", (i+2)%servers)})
					failed = errors.Join(failed, err)
				}
			}
			if u%4 == 1 {
				_, err := pods[0].users.Offline(ctx, &pb.OfflineRequest{UserID: user, DeviceID: "web"})
				failed = errors.Join(failed, err)
			}
			errs <- failed
		}()
	}
	for range users {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	for u := range users {
		want := "chat-2"
		if u%4 == 1 {
			want = ""
		}
		for _, p := range pods {
			p.wantStatus(t, fmt.Sprint("user-", u), "web", want)
		}
	}
	eventually(t, func() error { // counts are a second old
		c, err := pods[1].CountOnline(t.Context(), &presencev1.CountOnlineRequest{})
		if err == nil && c.GetUsers() != users*3/4 {
			err = fmt.Errorf("%d users online", c.GetUsers())
		}
		return err
	})
}
