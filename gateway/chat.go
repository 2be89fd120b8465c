package gateway

import (
	"errors"
	"time"

	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/presence/store"
)

const (
	// maxPending is how many messages of one client may wait for the store.
	maxPending = 256
	// maxPendingBytes is how much may wait for the store in the whole gateway, and pendingOverhead what a message takes
	// besides its content, and a recipient besides the message.
	maxPendingBytes = 64 << 20
	pendingOverhead = 512
)

// storeResult says what became of a message in one mailbox. It is the label of a metric.
type storeResult uint8

const (
	resultStored      storeResult = iota
	resultDuplicate               // it was there already
	resultUnavailable             // the store did not answer in time, or the gateway has too much to do: it may be there
	resultStoreFull
	resultMailboxFull
	numStoreResults
)

func (r storeResult) String() string {
	return [numStoreResults]string{"stored", "duplicate", "unavailable", "store_full", "mailbox_full"}[r]
}

// pushRoute says where a push went. It is the label of a metric.
type pushRoute uint8

const (
	routeLocal  pushRoute = iota // to sessions of this gateway
	routeRemote                  // to sessions of another gateway
	routeNone                    // nowhere: the recipient has no session
	numRoutes
)

func (r pushRoute) String() string { return [numRoutes]string{"local", "remote", "none"}[r] }

// Refusals of messages.
var (
	errUnavailable = wire.Errorf(wire.CodeUnavailable, "the message could not be stored in time; send it again after delayMs with the same clientMsgId")
	errStoreFull   = wire.Errorf(wire.CodeStoreFull, "the store's memory is nearly full; try again after delayMs")
	errMailboxFull = wire.Errorf(wire.CodeMailboxFull, "the recipient's mailbox is full of your messages; send it again after delayMs")
	errBusy        = wire.Errorf(wire.CodeUnavailable, "too many messages wait for the store; send it again after delayMs")
)

// chat handles CHAT: it stores the message in the recipient's mailbox, answers, and pushes it to the recipient's sessions,
// here and on other gateways. The sender's 81 says the same whether or not the recipient is online.
func (c *conn) chat(fr *wire.Frame) {
	g := c.g
	member := g.registry()
	if member == nil || !c.reserve(len(fr.Content)) {
		c.refuse(fr, errBusy, stateOpen)
		return
	}
	rec := record{from: c.user, time: time.Now().UnixMilli(), content: fr.Content}
	msgID := wire.MessageID(c.user, fr.ToID, fr.ClientMsgID)
	id, _ := rawID(msgID)
	to, clientMsgID, size, now := fr.ToID, fr.ClientMsgID, len(fr.Content), rec.time
	stored := &store.Record{ID: id, Sender: c.user, Data: rec.encode()}
	g.store(member, to, stored, func(a store.Appended, err error) {
		c.release(size)
		if err != nil {
			answer := refusal(wire.TypeChat, &wire.Frame{ClientMsgID: clientMsgID}, err)
			c.send(&answer)
			return
		}
		c.send(&wire.Frame{Type: wire.TypeChatResp, Code: wire.CodeOK, MsgID: msgID, ClientMsgID: clientMsgID, Time: now})
		g.pushAppended(to, a, stored)
	})
}

// store stores a message for a user and calls done, on the goroutine of a lane: with what became of it, or the error to
// refuse it with. If what became of it is not known, the user's sessions are told as soon as it is.
func (g *Gateway) store(member membership, user string, rec *store.Record, done func(store.Appended, error)) {
	member.Append(user, rec, func(a store.Appended, err error) {
		result := resultStored
		switch {
		case err == nil && a.Duplicate:
			result = resultDuplicate
		case err == nil:
		case errors.Is(err, store.ErrStoreFull):
			result, err = resultStoreFull, errStoreFull
		case errors.Is(err, store.ErrMailboxFull):
			result, err = resultMailboxFull, errMailboxFull
		default:
			g.logRare.log(g.ctx, "storing a message", "error", err)
			result, err = resultUnavailable, errUnavailable
			g.hint(member, user)
		}
		g.metrics.stores[result].Add(1)
		done(a, err)
	})
}

// pushAppended pushes a message that was stored. The push of a duplicate may have been lost with the gateway that the
// message was sent to first, so the user's sessions are told how far the mailbox goes.
func (g *Gateway) pushAppended(user string, a store.Appended, rec *store.Record) {
	if a.Duplicate {
		g.push(user, a.Holders, a.Tail, nil)
		return
	}
	g.push(user, a.Holders, a.Seq, rec)
}

// reserve counts a message with so many bytes of content that waits for the store. It returns false if too many do.
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
	if c.g.reserve(size + pendingOverhead) {
		return true
	}
	c.mu.Lock()
	c.pending--
	c.mu.Unlock()
	return false
}

// reserve counts bytes that wait for the store. It returns false if too many do.
func (g *Gateway) reserve(size int) bool {
	if g.pendingBytes.Add(int64(size)) <= maxPendingBytes {
		return true
	}
	g.pendingBytes.Add(-int64(size))
	return false
}

func (c *conn) release(size int) {
	c.mu.Lock()
	c.pending--
	c.mu.Unlock()
	c.g.pendingBytes.Add(-int64(size + pendingOverhead))
}
