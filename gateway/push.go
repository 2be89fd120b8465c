package gateway

import (
	"slices"

	peerv1 "github.com/imcluster/imcluster/api/peer/v1"
	"github.com/imcluster/imcluster/presence/store"
)

// maxTargets is how many mailboxes one push to another gateway names at most.
const maxTargets = 256

// push hands a message with number seq of a user's mailbox to the sessions of the user. Without one (nil) it tells only that
// the mailbox goes as far as seq. It must not block: it runs on the goroutine of a store's lane.
func (g *Gateway) push(user string, holders []store.Holder, seq uint64, rec *store.Record) {
	if len(holders) == 0 {
		g.metrics.pushes[routeNone].Add(1)
		return
	}
	for i, h := range holders {
		if slices.ContainsFunc(holders[:i], func(o store.Holder) bool { return o.Epoch == h.Epoch }) {
			continue // with an earlier one
		}
		if g.isOwn(h.Epoch) {
			g.metrics.pushes[routeLocal].Add(1)
			var msg *letter
			if rec != nil {
				msg = &letter{id: rec.ID, data: rec.Data}
			}
			for _, o := range holders[i:] {
				if o.Epoch == h.Epoch {
					g.handTo(user, o.Conn, seq, msg)
				}
			}
			continue
		}
		g.metrics.pushes[routeRemote].Add(1)
		p := &single{}
		p.push.Targets, p.target.Connections = p.targets[:], p.connections[:0]
		p.targets[0] = &p.target
		aim(&p.target, user, h.Epoch, holders[i:], seq)
		if rec != nil {
			p.push.MessageId, p.push.Data = rec.ID[:], rec.Data
		}
		g.peers.Push(string(h.Epoch), &p.push)
	}
}

// single is a push to one mailbox, and mostly one connection: one allocation.
type single struct {
	push        peerv1.Push
	target      peerv1.Target
	targets     [1]*peerv1.Target
	connections [1]uint64
}

// aim makes t name the connections of a user on the gateway with an epoch.
func aim(t *peerv1.Target, user string, epoch store.Epoch, holders []store.Holder, seq uint64) {
	t.User, t.Seq = user, seq
	for _, h := range holders {
		if h.Epoch == epoch {
			t.Connections = append(t.Connections, h.Conn)
		}
	}
}

func (g *Gateway) handTo(user string, connection, seq uint64, msg *letter) {
	if c := g.table.get(user, connection); c != nil {
		c.hand(user, connection, seq, msg)
	}
}

// Deliver hands a message to connections of this gateway. It implements [peer.Handler].
func (g *Gateway) Deliver(p *peerv1.Push) {
	var msg *letter
	if len(p.GetData()) > 0 && len(p.GetMessageId()) == len(messageID{}) {
		msg = &letter{id: messageID(p.GetMessageId()), data: p.GetData()}
	}
	for _, t := range p.GetTargets() {
		for _, id := range t.GetConnections() {
			g.handTo(t.GetUser(), id, t.GetSeq(), msg)
		}
	}
}

// Kick closes a connection of this gateway because its device logged in elsewhere. It implements [peer.Handler].
func (g *Gateway) Kick(user string, connection uint64) { g.kickLocal(user, connection) }

// hint tells the sessions of a user how far the mailbox goes, after a write whose outcome is not known: the message may be
// there without anybody having been told. It waits for the store as long as it takes.
func (g *Gateway) hint(member membership, user string) {
	g.metrics.hints.Add(1)
	member.Peek(user, func(tail uint64, holders []store.Holder, err error) {
		if err == nil && tail > 0 {
			g.push(user, holders, tail, nil)
		}
	})
}
