package check

import (
	"fmt"
	"slices"

	"github.com/imcluster/imcluster/api/wire"
)

// History judges a history that is over: everything that was due had its time to arrive.
func History(h []Event, o Options) []Violation {
	d := newDigest(h)
	var list []Violation
	for _, rule := range []func(*digest, Options) []Violation{
		arrives, inOrder, inOrderOfConnection, truthful, marked, acksHold, newDevicesStart, counted, answers,
	} {
		list = append(list, rule(d, o)...)
	}
	return list
}

// Pending is an accepted message that has not reached a device that it is due to.
type Pending struct {
	User, Device, Message string
	accepted              int
}

func (p Pending) String() string {
	return fmt.Sprintf("%s for device %s of %s", p.Message, p.Device, p.User)
}

// Missing lists what is accepted, due and has not arrived, by a history so far. With a cap, it is only what none of the
// counts of missed messages can explain.
func Missing(h []Event, o Options) []Pending { return missing(newDigest(h), o) }

func missing(d *digest, o Options) []Pending {
	var list []Pending
	for _, key := range d.names {
		got, missed := map[string]bool{}, 0
		for _, c := range d.devices[key] {
			for _, i := range c.deliveries {
				got[d.h[i].MsgID] = true
				missed += d.h[i].Missed
			}
		}
		var absent []Pending
		for _, m := range d.order {
			if m.accepted != never && !got[m.msgID] && d.due(m, key) {
				absent = append(absent, Pending{key.user, key.device, m.name, m.accepted})
			}
		}
		if o.Cap > 0 {
			absent = unexplained(d, absent, key, o.Cap, missed)
		}
		list = append(list, absent...)
	}
	return list
}

// unexplained drops from what is absent what was reported as missed, and may have been pushed out of the mailbox by as many
// newer messages as it holds.
func unexplained(d *digest, absent []Pending, key deviceKey, limit, missed int) []Pending {
	var list []Pending
	for _, p := range absent {
		newer := 0
		for _, n := range d.order {
			if _, maybe := d.recipient(n, key.user, len(d.h)); maybe && n.name != p.Message && !n.before(d.messages[p.Message]) {
				newer++
			}
		}
		if missed > 0 && newer >= limit {
			missed--
			continue
		}
		list = append(list, p)
	}
	return list
}

// arrives: an accepted message reaches every device that it is due to, and in time.
func arrives(d *digest, o Options) []Violation {
	var list []Violation
	lost := missing(d, o)
	for _, p := range lost {
		list = append(list, d.violation(Lost, p.String(), d.messages[p.Message].first(), p.accepted))
	}
	late := slices.IndexFunc(d.h, func(e Event) bool { return e.Kind == Overdue })
	if late == never {
		return list
	}
	for _, p := range Missing(d.h[:late], o) {
		if !slices.Contains(lost, p) {
			list = append(list, d.violation(Late, p.String(), d.messages[p.Message].first(), p.accepted, late))
		}
	}
	return list
}

func (d *digest) violation(r Rule, detail string, events ...int) Violation {
	v := Violation{Rule: r, Detail: detail}
	for _, i := range events {
		v.Events = append(v.Events, d.h[i])
	}
	return v
}

// firsts returns the positions of the first delivery of each message among some connections, in order of time.
func (d *digest) firsts(conns ...*conn) []int {
	var all, list []int
	for _, c := range conns {
		all = append(all, c.deliveries...)
	}
	slices.Sort(all)
	seen := map[string]bool{}
	for _, i := range all {
		if id := d.h[i].MsgID; !seen[id] {
			seen[id] = true
			list = append(list, i)
		}
	}
	return list
}

// inOrder: whatever was accepted before another message was sent comes before it, on each device and on each connection.
// A device that gives up a connection may find there later what was dropped, and counted as missed, on the next one: with a
// cap only connections are judged.
func inOrder(d *digest, o Options) []Violation {
	var list []Violation
	for _, key := range d.names {
		if o.Cap > 0 {
			break
		}
		list = append(list, d.ordered(d.firsts(d.devices[key]...), (*message).before)...)
	}
	for _, c := range d.connOrder {
		list = append(list, d.ordered(d.firsts(c), (*message).before)...)
	}
	return list
}

// inOrderOfConnection: messages that were accepted at the first attempt, on one connection, to one recipient, come in the
// order in which they were sent.
func inOrderOfConnection(d *digest, _ Options) []Violation {
	before := func(m, n *message) bool {
		return m.accepted != never && n.accepted != never && len(m.sent) == 1 && len(n.sent) == 1 && m.group == n.group &&
			m.group == "" && m.first() < n.first() && d.h[m.first()].Conn == d.h[n.first()].Conn
	}
	var list []Violation
	for _, c := range d.connOrder {
		list = append(list, d.ordered(d.firsts(c), before)...)
	}
	return list
}

// ordered compares each delivery with the later ones.
func (d *digest) ordered(deliveries []int, before func(m, n *message) bool) []Violation {
	var list []Violation
	for k, i := range deliveries {
		later := d.byID[d.h[i].MsgID]
		for _, j := range deliveries[k+1:] {
			earlier := d.byID[d.h[j].MsgID]
			if later != nil && earlier != nil && before(earlier, later) {
				list = append(list, d.violation(Order, fmt.Sprintf("%s came after %s", earlier.name, later.name),
					earlier.first(), earlier.accepted, later.first(), i, j))
			}
		}
	}
	return list
}

// truthful: what is delivered was sent, by whom it says, to whom it comes, as it is, under the id derived from it.
func truthful(d *digest, _ Options) []Violation {
	var list []Violation
	for _, c := range d.connOrder {
		for _, i := range c.deliveries {
			if r, detail := d.lie(i, c); r != "" {
				list = append(list, d.violation(r, detail, i))
			}
		}
	}
	return list
}

func (d *digest) lie(i int, c *conn) (r Rule, detail string) {
	e := d.h[i]
	m := d.byContent[e.Content]
	switch {
	case m == nil && d.byID[e.MsgID] != nil:
		return Changed, fmt.Sprintf("%s arrived with the content %q", d.byID[e.MsgID].name, e.Content)
	case m == nil || m.first() > i:
		return Invented, fmt.Sprintf("content %q", e.Content)
	case m.certainlyNot():
		return Refused, m.name
	case e.From != m.from || e.To != m.to || e.Group != m.group:
		return Changed, fmt.Sprintf("%s is from %s to %s%s", m.name, m.from, m.to, m.group)
	case e.MsgID != m.msgID:
		return Identity, fmt.Sprintf("%s should have %s", m.name, m.msgID)
	case c.loginOK == never || c.loginOK > i:
		return Misrouted, m.name + " on a connection that has not logged in"
	}
	if _, maybe := d.recipient(m, c.user, i); !maybe {
		return Misrouted, m.name + " to " + c.user
	}
	return "", ""
}

// marked: what comes again on a connection is marked, and only that.
func marked(d *digest, o Options) []Violation {
	var list []Violation
	for _, c := range d.connOrder {
		written := d.written(c, o)
		seen := map[string]int{}
		for _, i := range c.deliveries {
			e := d.h[i]
			first, again := seen[e.MsgID]
			switch {
			case again && !e.Redelivered && !d.forgotten(i, c, written):
				list = append(list, d.violation(Repeated, e.MsgID, first, i))
			case !again && e.Redelivered:
				list = append(list, d.violation(Marked, e.MsgID, i))
			}
			if !again {
				seen[e.MsgID] = i
			}
		}
	}
	return list
}

// answers: every answer is to a message that was sent on that connection, and has the id derived from it.
func answers(d *digest, _ Options) []Violation {
	var list []Violation
	open := map[string]int{}
	for i, e := range d.h {
		key := fmt.Sprint(e.Conn, " ", e.Message)
		switch e.Kind {
		case Sent:
			open[key]++
		case Answered:
			m := d.messages[e.Message]
			if open[key]--; open[key] < 0 || m == nil {
				list = append(list, d.violation(Answer, e.Message, i))
			} else if e.Code == int(wire.CodeOK) && e.MsgID != m.msgID {
				list = append(list, d.violation(Identity, fmt.Sprintf("%s was answered with %s", m.name, e.MsgID), i))
			}
		}
	}
	return list
}
