package gateway_test

import (
	"fmt"
	"strings"
	"testing"

	peerv1 "github.com/imcluster/imcluster/api/peer/v1"
	"github.com/imcluster/imcluster/gateway"
	"github.com/imcluster/imcluster/internal/peer"
	"github.com/imcluster/imcluster/internal/secretdir"
	"github.com/imcluster/imcluster/internal/testredis"
	"github.com/imcluster/imcluster/presence/store"
)

// members makes a group of so many users beside its owner and returns their names.
func members(t *testing.T, s *store.Store, group, owner string, n int) (users []string) {
	t.Helper()
	for i := range n {
		users = append(users, fmt.Sprintf("member%04d", i))
	}
	if _, err := s.CreateGroup(t.Context(), group, owner, users); err != nil {
		t.Fatal(err)
	}
	return users
}

// groupChat sends a message to a group and returns the answer.
func (c *client) groupChat(group, clientMsgID string, content int) frame {
	c.Helper()
	c.send(`{"type":"82","groupId":%q,"clientMsgId":%q,"content":%d}`, group, clientMsgID, content)
	return c.expect("83", 0)
}

// TestGroupMessagesReachEveryMember, connected here or there or not at all, in the order of the sender, and not the sender.
func TestGroupMessagesReachEveryMember(t *testing.T) {
	checkLeaks(t)
	redis := testredis.Start(t)
	s := readers(t, redis)
	a, b := start(t, redis, "a", unlimited), start(t, redis, "b", unlimited)
	users := members(t, s, "g", "owner", 40)
	owner, stranger := login(t, a.Addr().String(), "owner", "d"), login(t, a.Addr().String(), "stranger", "d")
	var connected []*client
	for i, u := range users[:30] {
		connected = append(connected, login(t, []*gateway.Gateway{a, b}[i%2].Addr().String(), u, "d"))
	}
	const n = 20
	for i := range n {
		owner.send(`{"type":"82","groupId":"g","content":%d}`, i) // one behind the other, without waiting
	}
	for range n {
		owner.expect("83", 200)
	}
	for _, u := range users[30:] {
		connected = append(connected, login(t, b.Addr().String(), u, "d"))
	}
	for _, c := range connected {
		for i := range n {
			if f := c.receive(i); f["type"] != "82" || f["groupId"] != "g" || f["fromId"] != "owner" || f["toId"] != nil {
				t.Fatalf("got %v", f)
			}
		}
		c.quiet()
	}
	owner.quiet()
	if f := stranger.groupChat("g", "1", 1); f["code"] != 306.0 || f["clientMsgId"] != "1" {
		t.Errorf("a stranger was answered with %v", f)
	}
	if f := owner.groupChat("nothing", "1", 1); f["code"] != 410.0 {
		t.Errorf("a group that does not exist: %v", f)
	}
	// Whoever has left gets nothing more: the members that gateways remember are checked.
	connected[0].send(`{"type":"84","action":"remove","groupId":"g","users":[%q],"requestId":"r"}`, users[0])
	connected[0].expect("85", 200)
	if f := owner.groupChat("g", "2", 2); f["code"] != 200.0 {
		t.Errorf("answered with %v", f)
	}
	connected[1].receive(2)
	connected[0].quiet()
}

// TestGroupMessagesAreChargedToTheirSender: to all connections of the user together, and to nobody else.
func TestGroupMessagesAreChargedToTheirSender(t *testing.T) {
	checkLeaks(t)
	redis := testredis.Start(t)
	s := readers(t, redis)
	a := start(t, redis, "a", func(c *gateway.Config) { c.MaxGroupRecipientsPerSecond = 10 })
	users := members(t, s, "g", "owner", 100)
	owner, again := login(t, a.Addr().String(), "owner", "phone"), login(t, a.Addr().String(), "owner", "laptop")
	other := login(t, a.Addr().String(), users[0], "d")
	if f := owner.groupChat("g", "1", 1); f["code"] != 200.0 {
		t.Fatalf("the first message: %v", f)
	}
	other.receive(1)
	for _, c := range []*client{owner, again} {
		if f := c.groupChat("g", "2", 2); f["code"] != 605.0 || f["delayMs"] == nil || f["clientMsgId"] != "2" {
			t.Errorf("beyond the limit: %v", f)
		}
		if code := c.chat("nobody", 1); code != 200 {
			t.Errorf("a chat was answered with %v", code)
		}
	}
	other.quiet()
	if f := other.groupChat("g", "1", 3); f["code"] != 200.0 {
		t.Errorf("another user: %v", f)
	}
	owner.receive(3)
}

// TestClientsAreToldThatTheyOwnTooManyGroups: and that the frames have nothing to do with what back ends do.
func TestClientsAreToldThatTheyOwnTooManyGroups(t *testing.T) {
	redis := testredis.Start(t)
	a := start(t, redis, "a", func(c *gateway.Config) { c.Store.MaxOwnedGroups = 2 })
	owner := login(t, a.Addr().String(), "owner", "d")
	ask := func(action, group string, code int) {
		t.Helper()
		owner.send(`{"type":"84","action":%q,"groupId":%q,"requestId":"r"}`, action, group)
		owner.expect("85", code)
	}
	ask("create", "g1", 200)
	ask("create", "g2", 200)
	ask("create", "g3", 607)
	if _, err := readers(t, redis).CreateGroupOnce(t.Context(), "key", "g3", "owner", nil); err != nil {
		t.Errorf("the back end: %v", err)
	}
	ask("delete", "g1", 200)
	ask("create", "g4", 607) // g3 counts
	ask("delete", "g3", 200)
	ask("create", "g4", 200)
}

// TestMemberWhoNeverReadsDoesNotBlockTheGroup: the messages of the others are not refused because one mailbox is full; who
// reads at last is told how many are missing.
func TestMemberWhoNeverReadsDoesNotBlockTheGroup(t *testing.T) {
	redis := testredis.Start(t)
	s := readers(t, redis)
	a := start(t, redis, "a", unlimited, func(c *gateway.Config) { c.Store.Mailbox.MaxMessages = 10 })
	users := members(t, s, "g", "owner", 2)
	owner, reader := login(t, a.Addr().String(), "owner", "d"), login(t, a.Addr().String(), users[0], "d")
	const n = 25
	for i := range n {
		if f := owner.groupChat("g", fmt.Sprint(i), i); f["code"] != 200.0 {
			t.Fatalf("message %d was answered with %v", i, f)
		}
		reader.receive(i)
	}
	idle := login(t, a.Addr().String(), users[1], "d")
	if f := idle.receive(n - 10); f["missed"] != float64(n-10) {
		t.Errorf("the first message that was kept is %v, want missed %d", f, n-10)
	}
}

// TestInterruptedFanOutIsFinishedByAResend: the sender's gateway dies in the middle. Whoever has the message does not get it
// again.
func TestInterruptedFanOutIsFinishedByAResend(t *testing.T) {
	redis := testredis.Start(t)
	s := readers(t, redis)
	a, b := startProcess(t, redis, "a"), startProcess(t, redis, "b")
	users := members(t, s, "g", "owner", 1500)
	first, second := login(t, a.addr, "owner", "1"), login(t, b.addr, "owner", "2")
	first.send(`{"type":"82","groupId":"g","clientMsgId":"c","content":7}`)
	eventually(t, "the fan-out has begun", func() bool {
		keys, _ := redis.MustDo("DBSIZE").(int64)
		return keys > int64(len(users)/8)
	})
	a.kill()
	answer := second.groupChat("g", "c", 7)
	if answer["code"] != 200.0 {
		t.Fatalf("the resend was answered with %v", answer)
	}
	for _, u := range []string{users[0], users[1], users[749], users[1498], users[1499]} {
		c := login(t, b.addr, u, "d")
		if f := c.receive(7); f["msgId"] != answer["msgId"] {
			t.Errorf("%s got %v", u, f)
		}
		c.quiet()
	}
	if again := second.groupChat("g", "c", 7); again["code"] != 200.0 || again["msgId"] != answer["msgId"] {
		t.Errorf("another resend was answered with %v", again)
	}
}

// TestLargestGroup: 2,000 members get a message of 2 KB; 64 KB are refused with a code of its own, not tried.
func TestLargestGroup(t *testing.T) {
	checkLeaks(t)
	redis := testredis.Start(t)
	s := readers(t, redis)
	a := start(t, redis, "a", unlimited)
	users := members(t, s, "g", "owner", store.MaxGroupMembers-1)
	owner, last := login(t, a.Addr().String(), "owner", "d"), login(t, a.Addr().String(), users[len(users)-1], "d")
	owner.send(`{"type":"82","groupId":"g","content":%q}`, strings.Repeat("x", 60<<10))
	owner.expect("83", 607)
	body := strings.Repeat("x", 2000)
	owner.send(`{"type":"82","groupId":"g","content":%q}`, body)
	owner.expect("83", 200)
	last.receive(body)
	last.quiet()
}

// TestWhatClientsMayNotDo unless it is allowed.
func TestWhatClientsMayNotDo(t *testing.T) {
	checkLeaks(t)
	redis := testredis.Start(t)
	a := start(t, redis, "a", func(c *gateway.Config) { c.DenyClientGroups = true })
	c := login(t, a.Addr().String(), "c", "d")
	for send, answer := range map[string]string{
		`{"type":"86","content":1}`: "87",
		`{"type":"58"}`:             "59",
		`{"type":"84","action":"create","groupId":"g","users":["u"]}`: "85",
	} {
		c.send("%s", send)
		c.expect(answer, 306)
	}
}

// TestPublish: what back ends send reaches users, groups and everybody, and the same key is the same message.
func TestPublish(t *testing.T) {
	checkLeaks(t)
	redis := testredis.Start(t)
	s := readers(t, redis)
	a, b := start(t, redis, "a"), start(t, redis, "b")
	members(t, s, "g", "", 2)
	p := peer.NewPublisher(peer.PublisherConfig{
		Cluster: "cluster", Keys: secretdir.Static([]byte("peer key")),
		Gateways: func() (live []peer.Gateway) {
			list, _, err := s.Incarnations(t.Context())
			if err != nil {
				t.Error(err)
			}
			for _, i := range list {
				live = append(live, peer.Gateway{Epoch: string(i.Epoch), Address: i.Address})
			}
			return live
		},
	})
	defer p.Close()
	publish := func(m *peerv1.Publish) *peerv1.Published {
		t.Helper()
		m.From, m.ClientMsgId = "system", "key"
		answer, err := p.Publish(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	one, two := login(t, a.Addr().String(), "member0000", "d"), login(t, b.Addr().String(), "member0001", "d")
	for range 2 { // the second time nothing new arrives
		answer := publish(&peerv1.Publish{Users: []string{"member0000", "member0001", "nobody"}, Content: []byte("1")})
		if answer.Code != 200 || len(answer.Outcomes) != 3 || answer.Outcomes[2].User != "nobody" || answer.Outcomes[2].Code != 200 {
			t.Errorf("to users: %v", answer)
		}
		answer = publish(&peerv1.Publish{Group: "g", Content: []byte("2")})
		if answer.Code != 200 {
			t.Errorf("to a group: %v", answer)
		}
	}
	for _, c := range []*client{one, two} {
		if f := c.receive(1); f["fromId"] != "system" {
			t.Errorf("got %v", f)
		}
		c.receive(2)
		c.quiet()
	}
	answer := publish(&peerv1.Publish{Everyone: true, Content: []byte("3")})
	if answer.Code != 201 || answer.Gateways != 2 || answer.Reached != 2 {
		t.Errorf("to everyone: %v", answer)
	}
	for _, c := range []*client{one, two} {
		if f := c.next(); f["type"] != "86" || f["content"] != 3.0 || f["msgId"] != answer.MsgId {
			t.Errorf("got %v", f)
		}
	}
	if answer := publish(&peerv1.Publish{Group: "nothing", Content: []byte("4")}); answer.Code != 410 {
		t.Errorf("to a group that does not exist: %v", answer)
	}
	// A client that uses the same ids does not take the place of a back end's message.
	system := login(t, a.Addr().String(), "system", "d")
	system.send(`{"type":"80","toId":"member0000","clientMsgId":"key","content":5}`)
	system.expect("81", 200)
	one.receive(5)
}
