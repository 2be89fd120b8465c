package check

import (
	"github.com/imcluster/imcluster/api/wire"
)

// never is the position of what did not happen.
const never = -1

// message is what a history says about one message. Numbers are positions in the history.
type message struct {
	name, from, to, group, content string
	msgID                          string
	sent                           []int
	accepted                       int // the first answer with success, or never
	answers                        int
	refusals                       int // answers that say for certain that it was not stored
}

// conn is one connection.
type conn struct {
	id                    int
	user, device, gateway string
	loginSent, loginOK    int
	deliveries            []int
	acked                 map[string]int // msgId to the first good answer
	closed                int
	clean                 bool
}

// deviceKey names a device.
type deviceKey struct{ user, device string }

// digest is a history by messages, connections and devices.
type digest struct {
	h         []Event
	messages  map[string]*message // by clientMsgId
	byContent map[string]*message
	byID      map[string]*message
	order     []*message // by first sending
	conns     map[int]*conn
	connOrder []*conn // by login
	devices   map[deviceKey][]*conn
	names     []deviceKey             // in the order of their first login
	changes   map[deviceKey][]*change // of membership, by group and user
	asked     map[string]*change      // by request and user
	acks      map[string][]int        // user to acknowledgements sent
	died      int                     // when the store died first; never if it did not
}

func newDigest(h []Event) *digest {
	d := &digest{
		h: h, died: never, messages: map[string]*message{}, byContent: map[string]*message{}, byID: map[string]*message{},
		conns: map[int]*conn{}, devices: map[deviceKey][]*conn{}, changes: map[deviceKey][]*change{}, acks: map[string][]int{},
		asked: map[string]*change{},
	}
	for i, e := range h {
		d.add(i, e)
	}
	return d
}

func (d *digest) add(i int, e Event) {
	switch e.Kind {
	case LoginSent:
		key := deviceKey{e.User, e.Device}
		c := &conn{id: e.Conn, user: e.User, device: e.Device, gateway: e.Gateway, loginSent: i, loginOK: never, closed: never, acked: map[string]int{}}
		if d.devices[key] == nil {
			d.names = append(d.names, key)
		}
		d.conns[e.Conn] = c
		d.connOrder = append(d.connOrder, c)
		d.devices[key] = append(d.devices[key], c)
	case LoginOK:
		if c := d.conns[e.Conn]; c != nil {
			c.loginOK = i
		}
	case Sent:
		d.addSent(i, e)
	case Answered:
		d.addAnswer(i, e)
	case Delivered:
		if c := d.conns[e.Conn]; c != nil {
			c.deliveries = append(c.deliveries, i)
		}
	case AckSent:
		d.acks[e.User] = append(d.acks[e.User], i)
	case Acked:
		if c := d.conns[e.Conn]; c != nil && e.Code == int(wire.CodeOK) {
			if _, ok := c.acked[e.MsgID]; !ok {
				c.acked[e.MsgID] = i
			}
		}
	case Closed:
		if c := d.conns[e.Conn]; c != nil {
			c.closed, c.clean = i, e.Clean
		}
	case RedisDied:
		if d.died == never {
			d.died = i
		}
	case MemberSent:
		key, c := deviceKey{e.Group, e.User}, &change{sent: i, ok: never, joins: e.Joins}
		d.changes[key] = append(d.changes[key], c)
		d.asked[e.Message+" "+e.User] = c
	case MemberOK:
		if c := d.asked[e.Message+" "+e.User]; c != nil && c.ok == never {
			c.ok = i
		}
	}
}

func (d *digest) addSent(i int, e Event) {
	m := d.messages[e.Message]
	if m == nil {
		to := e.To
		if e.Group != "" {
			to = "\x00g" + e.Group
		}
		m = &message{
			name: e.Message, from: e.User, to: e.To, group: e.Group, content: e.Content, accepted: never,
			msgID: wire.MessageID(e.User, to, e.Message),
		}
		d.messages[m.name], d.byContent[m.content], d.byID[m.msgID] = m, m, m
		d.order = append(d.order, m)
	}
	m.sent = append(m.sent, i)
}

func (d *digest) addAnswer(i int, e Event) {
	m := d.messages[e.Message]
	if m == nil {
		return
	}
	m.answers++
	switch {
	case e.Code == int(wire.CodeOK) && m.accepted == never:
		m.accepted = i
	case certainlyRefused(wire.Code(e.Code), m.group != ""):
		m.refusals++
	}
}

// certainlyRefused tells whether a code says that the message was not stored, nor will be. A message to a group may be
// stored for some members when another one's mailbox refuses it.
func certainlyRefused(c wire.Code, group bool) bool {
	switch c {
	case wire.CodeStoreFull, wire.CodeMailboxFull:
		return !group
	}
	return !c.OK() && (c < 500 || c >= 600)
}

// first is when the message was sent first.
func (m *message) first() int { return m.sent[0] }

// before tells whether m was surely accepted before n was.
func (m *message) before(n *message) bool { return m.accepted != never && m.accepted < n.first() }

// certainlyNot tells whether every attempt to send the message was refused for good.
func (m *message) certainlyNot() bool { return m.accepted == never && m.refusals == len(m.sent) }

// change is one change of a group: when it was asked for, and when it was confirmed, or never.
type change struct {
	sent, ok int
	joins    bool
}

// membership tells whether a user surely was a member of a group all the time from one position to another, and whether
// it may have been at some time. The last change that was confirmed before counts, and every one that may have taken
// effect after it: also much later, if it was never confirmed.
func (d *digest) membership(group, user string, from, to int) (surely, maybe bool) {
	list := d.changes[deviceKey{group, user}]
	last := change{sent: never, ok: never}
	for _, c := range list {
		if c.ok != never && c.ok < from && c.sent > last.sent {
			last = *c
		}
	}
	surely, maybe = last.joins, last.joins
	for _, c := range list {
		if *c == last || c.sent > to || c.ok != never && c.ok < from && c.ok < last.sent {
			continue
		}
		surely, maybe = surely && c.joins, maybe || c.joins
	}
	return surely, maybe
}

// recipient tells whether a message surely goes, and may go, to a user, by what happened up to a position.
func (d *digest) recipient(m *message, user string, to int) (surely, maybe bool) {
	if m.group == "" {
		return m.to == user, m.to == user
	}
	if m.from == user {
		return false, false
	}
	return d.membership(m.group, user, m.first(), to)
}

// firstLogin returns when a device logged in first, by what it sent and by the answer it read; never if it did not.
func firstLogin(conns []*conn) (sent, ok int) {
	ok = never
	for _, c := range conns {
		if c.loginOK != never && (ok == never || c.loginOK < ok) {
			ok = c.loginOK
		}
	}
	return conns[0].loginSent, ok
}

// due tells whether an accepted message is surely due to a device.
func (d *digest) due(m *message, key deviceKey) bool {
	_, ok := firstLogin(d.devices[key])
	if ok == never {
		return false
	}
	if surely, _ := d.recipient(m, key.user, m.accepted); !surely {
		return false
	}
	if m.first() > ok {
		return true
	}
	// It was sent before the device was known: due unless the device starts after it, because another one had acknowledged
	// it or a message that may be newer.
	for _, i := range d.acks[key.user] {
		if i > ok {
			break
		}
		if acked := d.byID[d.h[i].MsgID]; acked == nil || !acked.before(m) {
			return false
		}
	}
	return true
}
