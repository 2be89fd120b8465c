package gateway_test

import (
	"testing"

	"github.com/imcluster/imcluster/internal/testredis"
	"github.com/imcluster/imcluster/presence/store"
)

// TestRedisLosesStoredMessages: without persistence what no device had acknowledged is gone. What a device has on its screen it
// may still acknowledge, nothing comes twice, and what is sent from then on comes.
func TestRedisLosesStoredMessages(t *testing.T) {
	checkLeaks(t)
	redis := testredis.Start(t)
	s := readers(t, redis)
	a, b := start(t, redis, "a"), start(t, redis, "b")
	sender, phone := login(t, a.Addr().String(), "sender", "d"), login(t, b.Addr().String(), "bob", "phone")
	away := login(t, b.Addr().String(), "bob", "laptop")
	away.logout()
	sender.mustChat("bob", 1)
	sender.mustChat("bob", 2)
	var unacked []frame
	for range 2 {
		unacked = append(unacked, phone.next())
	}
	redis.MustDo("FLUSHALL")
	eventually(t, "bob is back", func() bool { return stateOf(t, s, "bob").State == store.Online })
	eventually(t, "chat works again", func() bool { return sender.chat("bob", 3) == 200 })
	phone.receive(3)
	for _, f := range unacked {
		phone.send(`{"type":"90","msgId":%q}`, f["msgId"])
	}
	phone.quiet()
	sender.mustChat("bob", 4)
	phone.receive(4)
	phone.quiet()
	phone.logout()
	login(t, a.Addr().String(), "bob", "phone").quiet()
	// A device that was away is not known any more: it gets what nobody has acknowledged.
	login(t, a.Addr().String(), "bob", "laptop").quiet()
}
