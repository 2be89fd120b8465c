package gateway

import (
	"slices"
	"strings"
	"time"

	peerv1 "github.com/imcluster/imcluster/api/peer/v1"
	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/presence/store"
)

const (
	// maxPending is how many chats of one client may wait for the store.
	maxPending = 256
	// maxPendingBytes is how much content may wait for the store in the whole gateway, and pendingOverhead what a chat
	// takes besides its content.
	maxPendingBytes = 64 << 20
	pendingOverhead = 512
	// maxHeld is how many chats are kept for a client whose login is not answered yet.
	maxHeld = 64
)

// chatRoute says where a chat went. It is the label of a metric.
type chatRoute uint8

const (
	routeLocal       chatRoute = iota // a session of this gateway
	routeRemote                       // a session of another gateway
	routeNone                         // the recipient has no session
	routeUnavailable                  // the store could not be asked
	numRoutes
)

func (r chatRoute) String() string {
	return [numRoutes]string{"local", "remote", "none", "unavailable"}[r]
}

// chat handles CHAT: it looks up the recipient's sessions and hands the message to each of them, here or on other
// gateways. The sender's 81 goes first, and says the same whether or not the recipient is online.
func (c *conn) chat(fr *wire.Frame) {
	if err := checkChat(fr); err != nil {
		c.refuse(fr, err, stateOpen)
		return
	}
	member := c.g.member.Load()
	if member == nil || !c.reserve(len(fr.Content)) {
		c.refuse(fr, errChatUnavailable, stateOpen)
		return
	}
	// Clones: the originals are parts of the whole frame, which would wait for the store with them.
	to, clientMsgID := strings.Clone(fr.ToID), strings.Clone(fr.ClientMsgID)
	m := &peerv1.Message{Id: wire.MessageID(c.user, to, clientMsgID), From: c.user, Content: fr.Content, Time: time.Now().UnixMilli()}
	(*member).Locate(to, func(holders []store.Holder, err error) {
		c.release(len(m.Content))
		if err != nil {
			c.g.metrics.chats[routeUnavailable].Add(1)
			answer := refusal(wire.TypeChat, &wire.Frame{ClientMsgID: clientMsgID}, errChatUnavailable)
			c.send(&answer)
			return
		}
		c.send(&wire.Frame{Type: wire.TypeChatResp, Code: wire.CodeAccepted, Message: "accepted, not stored",
			MsgID: m.Id, ClientMsgID: clientMsgID, Time: m.Time})
		c.g.route(to, holders, m)
	})
}

var errChatUnavailable = wire.Errorf(wire.CodeUnavailable, "the message cannot be delivered now; send it again after delayMs")

func checkChat(fr *wire.Frame) error {
	if err := wire.CheckUserID(fr.ToID); err != nil {
		return wire.Errorf(wire.CodeBadField, "toId is not a user id: 1 to %d bytes without control characters", wire.MaxUserID)
	}
	return wire.CheckClientMsgID(fr.ClientMsgID)
}

// reserve counts a chat with so many bytes of content that waits for the store. It returns false if too many do.
func (c *conn) reserve(size int) bool {
	c.mu.Lock()
	ok := c.pending < maxPending
	if ok {
		c.pending++
	}
	c.mu.Unlock()
	if !ok {
		return false
	}
	if c.g.pendingBytes.Add(int64(size+pendingOverhead)) > maxPendingBytes {
		c.release(size)
		return false
	}
	return true
}

func (c *conn) release(size int) {
	c.mu.Lock()
	c.pending--
	c.mu.Unlock()
	c.g.pendingBytes.Add(-int64(size + pendingOverhead))
}

// route hands a message to each holder's gateway. It must not block: it runs on the goroutine of a store's lane.
func (g *Gateway) route(to string, holders []store.Holder, m *peerv1.Message) {
	if len(holders) == 0 {
		g.metrics.chats[routeNone].Add(1)
		return
	}
	var pushes []*peerv1.Push // one for each gateway
	var epochs []store.Epoch  // of the pushes
	for _, h := range holders {
		i := slices.Index(epochs, h.Epoch)
		if i < 0 {
			i = len(epochs)
			epochs = append(epochs, h.Epoch)
			pushes = append(pushes, &peerv1.Push{User: to, Message: m})
		}
		pushes[i].Connections = append(pushes[i].Connections, h.Conn)
	}
	for i, push := range pushes {
		if g.isOwn(epochs[i]) {
			g.metrics.chats[routeLocal].Add(1)
			g.Deliver(push)
			continue
		}
		g.metrics.chats[routeRemote].Add(1)
		g.peers.Push(string(epochs[i]), push)
	}
}

// Deliver hands a message to connections of this gateway; those that are not here any more are passed over. It implements
// [peer.Handler].
func (g *Gateway) Deliver(p *peerv1.Push) {
	m := p.GetMessage()
	var encoded [wire.NumCodecs][]byte // once for all
	for _, id := range p.GetConnections() {
		c := g.table.get(p.GetUser(), id)
		if c == nil {
			continue
		}
		data := &encoded[c.codec]
		if *data == nil {
			*data = g.encode(c.codec, &wire.Frame{Type: wire.TypeChat, MsgID: m.GetId(), FromID: m.GetFrom(), ToID: p.GetUser(),
				Time: m.GetTime(), Content: m.GetContent()})
		}
		c.deliver(p.GetUser(), id, *data)
	}
}

// deliver queues an encoded chat, if the connection is still the one of that session.
func (c *conn) deliver(user string, id uint64, data []byte) {
	c.mu.Lock()
	if c.user != user || c.id != id {
		c.mu.Unlock()
		return
	}
	if c.state == stateLogin {
		if len(c.held) < maxHeld {
			c.held = append(c.held, data)
		}
		c.mu.Unlock()
		return
	}
	open := c.state == stateOpen
	c.mu.Unlock()
	if open {
		c.enqueue(outFrame, data)
	}
}

// Kick closes a connection of this gateway because its device logged in elsewhere. It implements [peer.Handler].
func (g *Gateway) Kick(user string, connection uint64) { g.kickLocal(user, connection) }
