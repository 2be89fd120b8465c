package gateway

import (
	"context"
	"sync"
	"time"

	peerv1 "github.com/imcluster/imcluster/api/peer/v1"
	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/presence/store"
)

const (
	// broadcastPrefix begins what msgIds of broadcasts are derived from instead of a user.
	broadcastPrefix = "\x00b"
	// broadcastTimeout is how long gateways may take to confirm a broadcast before they count as not reached.
	broadcastTimeout = 2 * time.Second
	// maxBroadcasts is how many broadcasts wait for this gateway; more are not taken.
	maxBroadcasts = 16
	// broadcastStep is after how many connections a broadcast looks whether too many are being written to.
	broadcastStep = 64
)

// broadcast handles BROADCAST: a message to everybody who is online, which is not stored. The answer counts the gateways that
// there are and those that took it.
func (c *conn) broadcast(fr *wire.Frame) {
	g := c.g
	if !g.cfg.AllowBroadcast {
		c.refuse(fr, errNotAllowed, stateOpen)
		return
	}
	member := g.registry()
	if member == nil || !c.reserve(len(fr.Content)) {
		c.refuse(fr, errBusy, stateOpen)
		return
	}
	rec := record{from: c.user, time: time.Now().UnixMilli(), content: fr.Content}
	msgID := wire.MessageID(c.user, broadcastPrefix, fr.ClientMsgID)
	id, _ := rawID(msgID)
	clientMsgID, size := fr.ClientMsgID, len(fr.Content)
	g.toEverybody(member, id, rec.encode(), c.user, func(gateways, reached int) {
		c.release(size)
		c.send(&wire.Frame{Type: wire.TypeBroadcastResp, Code: wire.CodeAccepted, MsgID: msgID, ClientMsgID: clientMsgID, Time: rec.time,
			Gateways: int64(gateways), Reached: int64(reached)})
	})
}

// toEverybody hands a message to all live gateways, and calls done when all have confirmed it, or the time is up.
func (g *Gateway) toEverybody(member membership, id messageID, data []byte, except string, done func(gateways, reached int)) {
	peers := member.Peers()
	var mu sync.Mutex
	reached, over := 0, false
	end := func() { // mu is held
		if !over {
			over = true
			n := reached
			mu.Unlock()
			done(len(peers), n)
			mu.Lock()
		}
	}
	confirm := func(int) {
		mu.Lock()
		defer mu.Unlock()
		if reached++; reached == len(peers) {
			end()
		}
	}
	timer := g.wheel.AfterFunc(broadcastTimeout, func() { mu.Lock(); defer mu.Unlock(); end() })
	for _, p := range peers {
		if g.isOwn(p.Epoch) {
			g.Broadcast(&peerv1.Broadcast{MessageId: id[:], Data: data, Except: except}, confirm)
		} else {
			g.peers.Broadcast(string(p.Epoch), id[:], data, except, confirm)
		}
	}
	mu.Lock()
	if over {
		g.wheel.Stop(timer)
	}
	mu.Unlock()
}

// waitingBroadcast is one that the gateway has taken.
type waitingBroadcast struct {
	b    *peerv1.Broadcast
	done func(sessions int)
}

// Broadcast hands a message to all sessions of this gateway, unless too many such wait already. It implements [peer.Handler].
func (g *Gateway) Broadcast(b *peerv1.Broadcast, done func(sessions int)) {
	select {
	case g.broadcastsWaiting <- waitingBroadcast{b, done}:
	default:
	}
}

// broadcasts hands out what is broadcast, one after the other, until ctx ends.
func (g *Gateway) broadcasts(ctx context.Context) {
	for {
		select {
		case w := <-g.broadcastsWaiting:
			if len(w.b.GetMessageId()) == len(messageID{}) {
				w.done(g.handToAll(ctx, w.b))
			}
		case <-ctx.Done():
			return
		}
	}
}

// handToAll queues a message for all sessions, and returns how many.
func (g *Gateway) handToAll(ctx context.Context, b *peerv1.Broadcast) (sessions int) {
	msg := &letter{id: messageID(b.GetMessageId()), data: b.GetData(), kind: wire.TypeBroadcast}
	for p := range store.Partitions {
		for _, c := range g.table.partition(p) {
			c.mu.Lock()
			ok := c.state == stateOpen && c.closing == reasonNone && (b.GetExcept() == "" || c.user != b.GetExcept())
			c.mu.Unlock()
			if !ok {
				continue
			}
			data := msg.encoded(g, c.codec, "")
			if data == nil {
				return 0
			}
			c.enqueue(outFrame, data)
			if sessions++; sessions%broadcastStep == 0 && g.workers.busy()+g.writers.waiting() > broadcastStep {
				// Let them be written. Those that cannot, because their client does not read, hold up
				// nobody for long.
				select {
				case <-time.After(time.Millisecond):
				case <-ctx.Done():
				}
			}
		}
	}
	return sessions
}
