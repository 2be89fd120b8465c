package e2e

import (
	"testing"
	"time"
)

// settled is how long it takes at most until presence calls anybody offline after Redis came up empty: until then a
// gateway might exist that has not registered its sessions again. A lease, and time to look.
const settled = 20 * time.Second

// TestTwoUsersOnTwoPodsChat is the main job: the published frames go in, the documented answers come out, across pods,
// and presence says who is online.
func TestTwoUsersOnTwoPodsChat(t *testing.T) {
	p := start(t, newIMCluster(namespace(t), "chat"))
	gateways := p.pods("gateway")
	if len(gateways) < 2 {
		t.Fatalf("%d gateway pods run, want 2", len(gateways))
	}
	one := login(t, forward(t, gateways[0], 8080), "1")
	two := login(t, forward(t, gateways[1], 8080), "2")

	p.waitState(5*time.Second, map[string]string{"1": "online", "2": "online", "3": "unknown"})
	answers, err := p.ask(t.Context(), "1", "2", "3")
	if err != nil {
		t.Fatal(err)
	}
	for user, pod := range map[string]string{"1": gateways[0].Name, "2": gateways[1].Name} {
		if d := answers[user].Devices; len(d) != 1 || d[0].Gateway != pod || d[0].ID != "default" {
			t.Errorf("devices of %s are %+v, want one named default on %s", user, d, pod)
		}
	}

	one.send(`{"type":"80","fromId":"1","toId":"2","content":{"contentType":1,"body":"测试消息"}}`)
	sent := one.read()
	if sent["type"] != "81" || sent["code"] != float64(200) || sent["msgId"] == "" {
		t.Errorf("the sender was answered %v", sent)
	}
	got := two.read()
	content, _ := got["content"].(map[string]any)
	if got["type"] != "80" || got["fromId"] != "1" || got["msgId"] != sent["msgId"] || content["body"] != "测试消息" {
		t.Errorf("the recipient got %v", got)
	}
	two.send(`{"type":"90","msgId":%q}`, got["msgId"])
	if ack := two.read(); ack["type"] != "91" || ack["code"] != float64(200) {
		t.Errorf("the ack was answered %v", ack)
	}
	two.send(`{"type":"40","fromId":"2"}`)
	if pong := two.read(); pong["type"] != "41" {
		t.Errorf("the ping was answered %v", pong)
	}

	one.send(`{"type":"12"}`)
	p.waitState(settled, map[string]string{"1": "offline", "2": "online"})
}

// TestForeignClient drives two gateways from Node's ws, which knows nothing of this project.
func TestForeignClient(t *testing.T) {
	p := start(t, newIMCluster(namespace(t), "foreign"))
	gateways := p.pods("gateway")
	if _, err := run(t.Context(), "npm", "ci", "--prefix", "foreign", "--no-audit", "--no-fund"); err != nil {
		t.Fatal(err)
	}
	out, err := run(t.Context(), "node", "foreign/chat.mjs", forward(t, gateways[0], 8080), forward(t, gateways[1], 8080))
	if err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + out)
}
