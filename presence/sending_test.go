package presence_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imcluster/imcluster/client"
	"github.com/imcluster/imcluster/internal/testredis"
	"github.com/imcluster/imcluster/presence/store"
)

// collect takes the next n messages of a client, sorted by their text.
func (p *platform) collect(c *inbox, n int) (texts []string) {
	p.t.Helper()
	for range n {
		select {
		case m := <-c.messages:
			texts = append(texts, fmt.Sprintf("%s>%s: %s", m.From, m.Group, m.Content))
		case <-time.After(patience):
			p.t.Fatalf("%s has only %q", c.UserID(), texts)
		}
	}
	return texts
}

// nothingMore checks that a client got nothing but what was collected: a message that is sent now is the next one.
func (p *platform) nothingMore(c *inbox) {
	p.t.Helper()
	receipt, err := p.Send(p.t.Context(), client.BackendMessage{From: "end", User: c.UserID(), Content: json.RawMessage(`"end"`)})
	if err != nil {
		p.t.Fatal(err)
	}
	if m := <-c.messages; m.ID != receipt.MsgID {
		p.t.Errorf("%s has another message: %s", c.UserID(), m.Content)
	}
}

func TestBackEndSendsToEveryKindOfTarget(t *testing.T) {
	for name, start := range map[string]func(t *testing.T) store.Config{
		"standalone": func(t *testing.T) store.Config { return storeConfig(testredis.Start(t).Addr) },
		"cluster": func(t *testing.T) store.Config {
			cfg := storeConfig("")
			cfg.Mode, cfg.Addresses = store.Cluster, testredis.StartCluster(t, 3).Addrs()
			return cfg
		},
	} {
		t.Run(name, func(t *testing.T) { sendToEveryKindOfTarget(t, startPlatform(t, start(t), 2)) })
	}
}

func sendToEveryKindOfTarget(t *testing.T, p *platform) {
	ctx := t.Context()
	alice, bob := p.login(0, ticket{User: "alice"}, "phone"), p.login(1, ticket{User: "bob"}, "phone")
	if _, err := p.CreateGroup(ctx, client.NewGroup{ID: "{team}/1", Owner: "alice", Members: []string{"bob", "carol"}}); err != nil {
		t.Fatal(err)
	}
	content := json.RawMessage(`{"n": 1.50, "s":"你好 😀"}`)
	for _, m := range []client.BackendMessage{
		{ID: "1", User: "alice", Content: content},
		{ID: "2", Users: []string{"bob", "carol", "bob"}, Content: content},
		{ID: "3", Group: "{team}/1", Content: content},
		{ID: "4", Everyone: true, Content: content},
	} {
		m.From = "shop"
		var first client.BackendReceipt
		for round := range 2 { // a repetition changes nothing, but for a message to everyone, which is not stored
			receipt, err := p.Send(ctx, m)
			if err != nil || receipt.ID != m.ID || receipt.Time.IsZero() {
				t.Fatalf("message %s: %+v, %v", m.ID, receipt, err)
			}
			if round == 1 && (receipt.MsgID != first.MsgID || !cmp.Equal(receipt.Results, first.Results)) {
				t.Errorf("repeated: %+v after %+v", receipt, first)
			}
			if first = receipt; m.Everyone {
				if receipt.Gateways != 2 || receipt.Reached != 2 {
					t.Errorf("everyone: %+v", receipt)
				}
				break
			}
		}
		for i, r := range first.Results {
			if r.User != m.Users[i] || r.Status != "stored" || r.MsgID == "" {
				t.Errorf("result %d: %+v", i, r)
			}
		}
	}
	text := "shop>: " + string(content)
	group := "shop>{team}/1: " + string(content)
	for _, c := range []*inbox{alice, bob} {
		got := p.collect(c, 3)
		slices.Sort(got)
		if diff := cmp.Diff([]string{text, text, group}, got); diff != "" {
			t.Errorf("%s: %s", c.UserID(), diff)
		}
		p.nothingMore(c)
	}
	// Carol was not there; what was stored waits for her.
	carol := p.login(0, ticket{User: "carol"}, "phone")
	if diff := cmp.Diff([]string{text, group}, p.collect(carol, 2)); diff != "" {
		t.Error(diff)
	}
	var refused *client.APIError
	if _, err := p.Send(ctx, client.BackendMessage{From: "shop", Group: "none", Content: content}); !errors.As(err, &refused) || refused.Code != "group_not_found" {
		t.Errorf("to a group that is not there: %v", err)
	}
}

// A back end's ids are apart from those of clients, even if it sends in a client's name.
func TestIDsOfTheBackEndAreItsOwn(t *testing.T) {
	p, ctx := startPlatform(t, storeConfig(testredis.Start(t).Addr), 1), t.Context()
	alice, bob := p.login(0, ticket{User: "alice"}, "phone"), p.login(0, ticket{User: "bob"}, "phone")
	if _, err := alice.Send(ctx, client.Outgoing{To: "bob", ClientMsgID: "1", Content: json.RawMessage(`"hers"`)}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Send(ctx, client.BackendMessage{ID: "1", From: "alice", User: "bob", Content: json.RawMessage(`"ours"`)}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{`alice>: "hers"`, `alice>: "ours"`}, p.collect(bob, 2)); diff != "" {
		t.Error(diff)
	}
}

// While Redis is away nothing is said to be sent, and what was refused can be sent again and comes once.
func TestNothingIsSaidToBeSentWhileRedisIsAway(t *testing.T) {
	redis := testredis.StartWith(t, testredis.Options{AOF: true, Args: []string{"--appendfsync", "always"}})
	p, ctx := startPlatform(t, storeConfig(redis.Addr), 2), t.Context()
	if _, err := p.CreateGroup(ctx, client.NewGroup{ID: "team", Members: []string{"alice", "bob"}}); err != nil {
		t.Fatal(err)
	}
	alice := p.login(0, ticket{User: "alice"}, "phone")
	messages := []client.BackendMessage{{User: "alice"}, {Users: []string{"alice", "bob"}}, {Group: "team"}}
	for i := range messages {
		m := &messages[i]
		m.From, m.ID, m.Content = "shop", strconv.Itoa(i), json.RawMessage(strconv.Itoa(i))
	}
	redis.Kill()
	for _, m := range messages {
		var refused *client.APIError
		receipt, err := p.Send(ctx, m)
		if !errors.As(err, &refused) || refused.Status != 503 || refused.Code != "unavailable" || receipt.ID != m.ID {
			t.Errorf("message %s with Redis away: %+v, %v", m.ID, receipt, err)
		}
		for _, r := range receipt.Results {
			if r.Status == "stored" {
				t.Errorf("message %s is said to be stored: %+v", m.ID, receipt)
			}
		}
	}
	redis.Restart()
	for _, m := range messages {
		eventually(t, func() error {
			_, err := p.Send(ctx, m)
			return err
		})
	}
	got := p.collect(alice, 3)
	slices.Sort(got)
	if diff := cmp.Diff([]string{"shop>: 0", "shop>: 1", "shop>team: 2"}, got); diff != "" {
		t.Error(diff)
	}
	p.nothingMore(alice)
}

// Without a gateway nothing can be sent; with the next one it can.
func TestMessagesGoByWhicheverGatewayIsThere(t *testing.T) {
	p, ctx := startPlatform(t, storeConfig(testredis.Start(t).Addr), 2), t.Context()
	send := func(id string) error {
		_, err := p.Send(ctx, client.BackendMessage{ID: id, From: "shop", User: "alice", Content: json.RawMessage(`"` + id + `"`)})
		return err
	}
	for i, g := range p.gateways {
		if err := send(fmt.Sprint("with gateway ", i)); err != nil {
			t.Error(err)
		}
		g.stop()
	}
	var refused *client.APIError
	if err := send("lost"); !errors.As(err, &refused) || refused.Status != 503 {
		t.Errorf("without a gateway: %v", err)
	}
	p.startGateway("gateway-2")
	if err := send("with gateway 2"); err != nil {
		t.Error(err)
	}
	alice := p.login(2, ticket{User: "alice"}, "phone")
	want := []string{`shop>: "with gateway 0"`, `shop>: "with gateway 1"`, `shop>: "with gateway 2"`}
	if diff := cmp.Diff(want, p.collect(alice, 3)); diff != "" {
		t.Error(diff)
	}
}

// The largest messages that the API takes go through, and what is above is refused before anything is stored.
func TestLargestMessages(t *testing.T) {
	p, ctx := startPlatform(t, storeConfig(testredis.Start(t).Addr), 2), t.Context()
	var users []string
	for i := range 2000 {
		users = append(users, fmt.Sprintf("user-%04d", i))
	}
	if _, err := p.CreateGroup(ctx, client.NewGroup{ID: "all", Members: users}); err != nil {
		t.Fatal(err)
	}
	text := func(size int) json.RawMessage { return json.RawMessage(`"` + strings.Repeat("x", size-2) + `"`) }
	last := p.login(1, ticket{User: users[999]}, "phone")
	for i, m := range []client.BackendMessage{
		{User: users[999], Content: text(64 << 10)},
		{Users: users[:1000], Content: text(4 << 10)},
		{Group: "all", Content: text(2 << 10)},
	} {
		m.From, m.ID = "shop", strconv.Itoa(i)
		if _, err := p.Send(ctx, m); err != nil {
			t.Errorf("message %d: %v", i, err)
		}
		if got := <-last.messages; !cmp.Equal(got.Content, m.Content) {
			t.Errorf("message %d came with %d bytes", i, len(got.Content))
		}
	}
	for code, m := range map[string]client.BackendMessage{
		"too_large":      {User: users[999], Content: text(64<<10 + 1)},
		"too_many_users": {Users: users[:1001], Content: text(10)},
		"too_much":       {Group: "all", Content: text(2<<10 + 200)},
	} {
		m.From = "shop"
		var refused *client.APIError
		if _, err := p.Send(ctx, m); !errors.As(err, &refused) || refused.Code != code {
			t.Errorf("want %s: %v", code, err)
		}
	}
	p.nothingMore(last)
}

// Redis dies in the middle of a fan-out to 2,000 members. The same request, sent again until it is confirmed, gives every
// member the message once.
func TestInterruptedFanOutIsFinishedBySendingAgain(t *testing.T) {
	redis := testredis.StartWith(t, testredis.Options{AOF: true, Args: []string{"--appendfsync", "always"}})
	p, ctx := startPlatform(t, storeConfig(redis.Addr), 2), t.Context()
	var users []string
	for i := range 2000 {
		users = append(users, fmt.Sprintf("user-%04d", i))
	}
	eventually(t, func() error {
		_, err := p.CreateGroup(ctx, client.NewGroup{ID: "all", Members: users, Key: "key"})
		return err
	})
	m := client.BackendMessage{ID: "1", From: "shop", Group: "all", Content: json.RawMessage(`"hello"`)}
	keys, _ := redis.MustDo("DBSIZE").(int64)
	first := make(chan error, 1)
	go func() {
		_, err := p.Send(ctx, m)
		first <- err
	}()
	eventually(t, func() error {
		if n, _ := redis.MustDo("DBSIZE").(int64); n < keys+500 {
			return fmt.Errorf("%d keys", n)
		}
		return nil
	})
	redis.Kill()
	t.Logf("the interrupted request ended with: %v", <-first)
	redis.Restart()
	eventually(t, func() error {
		_, err := p.Send(ctx, m)
		return err
	})
	for _, i := range []int{0, 1, 250, 500, 501, 750, 999, 1000, 1500, 1998, 1999} {
		c := p.login(i%2, ticket{User: users[i]}, "phone")
		if diff := cmp.Diff([]string{`shop>all: "hello"`}, p.collect(c, 1)); diff != "" {
			t.Error(diff)
		}
		p.nothingMore(c)
		c.Close()
	}
}

func TestChangesAreMeasured(t *testing.T) {
	p, ctx := startPlatform(t, storeConfig(testredis.Start(t).Addr), 1), t.Context()
	if _, err := p.CreateGroup(ctx, client.NewGroup{ID: "g"}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.CreateGroup(ctx, client.NewGroup{ID: "g"}); err == nil {
		t.Fatal("a group was created twice")
	}
	if _, err := p.Send(ctx, client.BackendMessage{From: "shop", Group: "none", Content: json.RawMessage(`1`)}); err == nil {
		t.Fatal("sent to no group")
	}
	if err := p.Disconnect(ctx, "alice", client.Disconnection{Device: "phone"}); err != nil {
		t.Fatal(err)
	}
	code, metrics := get(t, "http://"+p.OpsAddr().String()+"/metrics")
	for _, want := range []string{
		`imcluster_presence_group_changes_total{change="create",result="ok"} 1`,
		`imcluster_presence_group_changes_total{change="create",result="refused"} 1`,
		`imcluster_presence_message_duration_seconds_count{result="group_not_found",target="group"} 1`,
		`imcluster_presence_revocations_total{result="ok",scope="device"} 1`,
		`imcluster_presence_request_duration_seconds_count{code="409",method="POST",route="/v1/groups"} 1`,
	} {
		if code != 200 || !strings.Contains(withoutScope(metrics), want) {
			t.Errorf("%s is missing", want)
		}
	}
}

// withoutScope removes the labels that the exporter adds to all series.
func withoutScope(metrics string) string {
	return regexp.MustCompile(`otel_scope_[a-z_]+="[^"]*",`).ReplaceAllString(metrics, "")
}
