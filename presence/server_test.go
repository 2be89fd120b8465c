package presence_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imcluster/imcluster/client"
	"github.com/imcluster/imcluster/internal/secretdir"
	"github.com/imcluster/imcluster/internal/testredis"
	"github.com/imcluster/imcluster/presence"
	"github.com/imcluster/imcluster/presence/internalapi"
	"github.com/imcluster/imcluster/presence/store"
)

func TestOnlineOfflineAndNeverSeen(t *testing.T) {
	redis := testredis.Start(t)
	s := startService(t, redis.Addr)
	g := startGateway(t, redis.Addr, "gw-1", "alice", "bob")
	g.logOut("bob")
	s.become(t, []string{"online", "offline", "unknown/never_seen", "online"}, "alice", "bob", "carol", "alice")

	alice, fresh, err := s.Get(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	if len(alice.Devices) != 1 || alice.Devices[0].Gateway != "gw-1" || alice.Devices[0].ID != "phone" || alice.Devices[0].Platform != "ios" ||
		fresh.Degraded || fresh.AsOf.Before(alice.Devices[0].LoginTime) {
		t.Errorf("alice: %+v, %+v", alice, fresh)
	}
	bob, _, err := s.Get(t.Context(), "bob")
	if err != nil {
		t.Fatal(err)
	}
	if since := time.Since(bob.LastSeen); since < -time.Second || since > time.Minute {
		t.Errorf("bob was last seen at %s", bob.LastSeen)
	}
}

func TestListAndCountAgreeWithTheBatch(t *testing.T) {
	redis := testredis.Start(t)
	s := startService(t, redis.Addr)
	var users, all []string
	for i := range 250 {
		users = append(users, fmt.Sprintf("user/%d:测试", i))
	}
	startGateway(t, redis.Addr, "gw-1", users[:200]...)
	startGateway(t, redis.Addr, "gw-2", users[200:]...)
	eventually(t, func() error {
		counts, err := s.Count(t.Context())
		want := []client.GatewayCount{{Pod: "gw-1", Sessions: 200}, {Pod: "gw-2", Sessions: 50}}
		if err != nil || counts.Users != 250 || counts.Sessions != 250 || !cmp.Equal(counts.Gateways, want) {
			return fmt.Errorf("counted %+v, %w", counts, err)
		}
		return nil
	})
	for cursor, pages := "", 0; pages == 0 || cursor != ""; pages++ {
		page, err := s.OnlinePage(t.Context(), cursor, 60)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Users) > 60 || pages > 250 {
			t.Fatalf("page %d has %d users", pages, len(page.Users))
		}
		all, cursor = append(all, page.Users...), page.NextCursor
	}
	slices.Sort(all)
	all = slices.Compact(all)
	slices.Sort(users)
	if diff := cmp.Diff(users, all); diff != "" {
		t.Error(diff)
	}
	states, _ := s.states(t, append(all, "nobody")...)
	if online := slices.DeleteFunc(states, func(s string) bool { return s != "online" }); len(online) != 250 {
		t.Errorf("%d of those listed are online", len(online))
	}
	var page *client.APIError
	if _, err := s.OnlinePage(t.Context(), "no such cursor", 10); !errors.As(err, &page) || page.Code != "invalid_argument" {
		t.Errorf("a made-up cursor: %v", err)
	}
}

func TestBatchOf5000And5001(t *testing.T) {
	redis := testredis.Start(t)
	s := startService(t, redis.Addr)
	eventually(t, func() error { return ready(s) })
	users := make([]string, 5001)
	for i := range users {
		users[i] = fmt.Sprint("u", i)
	}
	answer, _, err := s.BatchGet(t.Context(), users[:5000])
	if err != nil || answer[4999].User != "u4999" {
		t.Fatalf("5,000 users: %v", err)
	}
	var refused *client.APIError
	if _, _, err := s.BatchGet(t.Context(), users); !errors.As(err, &refused) || refused.Code != "too_many_users" {
		t.Errorf("5,001 users: %v", err)
	}
}

func ready(s *service) error {
	if !s.Ready() {
		return errors.New("not ready")
	}
	return nil
}

func TestFencedGatewayGoesOffline(t *testing.T) {
	redis := testredis.Start(t)
	s := startService(t, redis.Addr)
	startGateway(t, redis.Addr, "gw-1", "alice")
	s.become(t, []string{"online"}, "alice")
	operator := internalapi.Client{BaseURL: "http://" + s.InternalAddr().String(), Key: "peer",
		HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	list, err := operator.Incarnations(t.Context())
	if err != nil || len(list.Incarnations) != 1 || list.Incarnations[0].PodUID != "uid-gw-1" || list.Incarnations[0].LeaseRemainingMs <= 0 {
		t.Fatalf("incarnations: %+v, %v", list, err)
	}
	epoch := list.Incarnations[0].Epoch
	for range 2 { // it is idempotent
		answer, err := operator.Fence(t.Context(), internalapi.FenceRequest{Epochs: []string{epoch, "AAAAAAAA"}, BanPodUIDs: []string{"uid-gw-1"}})
		if err != nil || !cmp.Equal(answer.Fenced, []string{epoch}) || !cmp.Equal(answer.Unknown, []string{"AAAAAAAA"}) {
			t.Fatalf("fence: %+v, %v", answer, err)
		}
	}
	s.become(t, []string{"offline"}, "alice")
}

func TestWrongOwnerEndsTheServer(t *testing.T) {
	redis := testredis.Start(t)
	owner := func(uid string) func(*presence.Config) {
		return func(c *presence.Config) { c.Store.Owner = uid }
	}
	s := startService(t, redis.Addr, owner("one"))
	eventually(t, func() error { return ready(s) })
	cfg := presence.Config{Listen: "127.0.0.1:0", Store: storeConfig(redis.Addr), APIKey: secretdir.Static([]byte("k"))}
	owner("two")(&cfg)
	second, err := presence.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Run(t.Context()); !errors.Is(err, store.ErrForeignOwner) || !strings.Contains(err.Error(), `{gw}:owner"`) {
		t.Errorf("a second IMCluster on the same keys: %v", err)
	}
}

func TestMetricsTellWhatWasAnswered(t *testing.T) {
	redis := testredis.Start(t)
	s := startService(t, redis.Addr)
	startGateway(t, redis.Addr, "gw-1", "alice")
	s.become(t, []string{"online", "unknown/never_seen"}, "alice", "carol")
	code, metrics := get(t, "http://"+s.OpsAddr().String()+"/metrics")
	for _, want := range []string{
		`imcluster_presence_request_duration_seconds_count{code="200",method="POST",route="/v1/presence:batchGet"}`,
		`imcluster_presence_answers_total{reason="never_seen",state="unknown"}`,
		`imcluster_presence_answers_total{reason="",state="online"}`,
		`imcluster_presence_query_users_count`,
		"imcluster_online_users 1",
		"imcluster_online_sessions 1",
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("/metrics (%d) lacks %s", code, want)
		}
	}
	if strings.Contains(metrics, "alice") {
		t.Error("/metrics names users")
	}
}

// BenchmarkBatchGet asks for 1,000 users over HTTP, 300 of them online, 400 offline and 300 never seen.
func BenchmarkBatchGet(b *testing.B) {
	redis := testredis.Start(b)
	s := startService(b, redis.Addr)
	const users = 1000
	ids := make([]string, users)
	for i := range ids {
		ids[i] = fmt.Sprintf("user-%06d", i)
	}
	g := startGateway(b, redis.Addr, "gw-1", ids[:700]...)
	for _, id := range ids[300:700] {
		g.logOut(id)
	}
	s.become(b, []string{"online", "offline", "unknown/never_seen"}, ids[299], ids[699], ids[700])
	body, err := json.Marshal(map[string][]string{"users": ids})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, s.URL+"/v1/presence:batchGet", bytes.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer api")
		resp, err := s.HTTP.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
			b.Fatal(resp.Status, err)
		}
		_ = resp.Body.Close()
	}
	b.ReportMetric(float64(b.N)*users/b.Elapsed().Seconds(), "users/s")
}
