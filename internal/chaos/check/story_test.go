package check

import (
	"fmt"
	"time"

	"github.com/imcluster/imcluster/api/wire"
)

// story builds a history. Connections are numbered as they log in; every event is 10 ms after the one before it.
type story struct {
	h     []Event
	conns int
	pause time.Duration
}

func (s *story) add(e Event) {
	s.pause += 10 * time.Millisecond
	e.At = s.pause
	s.h = append(s.h, e)
}

// login logs a device in and returns its connection.
func (s *story) login(user, device string) *line {
	s.conns++
	c := &line{s: s, e: Event{Conn: s.conns, User: user, Device: device, Gateway: "g"}}
	c.event(LoginSent, nil)
	c.event(LoginOK, nil)
	return c
}

func (s *story) note(k Kind) { s.add(Event{Kind: k, Gateway: "g"}) }

func (s *story) wait(d time.Duration) {
	s.pause += d
	s.note(GatewayUp)
}

// line is a connection in a story.
type line struct {
	s *story
	e Event
}

func (c *line) event(k Kind, change func(*Event)) {
	e := c.e
	e.Kind = k
	if change != nil {
		change(&e)
	}
	c.s.add(e)
}

func (c *line) send(to, name string) {
	c.event(Sent, func(e *Event) { e.To, e.Message, e.Content = to, name, `"`+name+`"` })
}

func (c *line) answer(to, name string, code wire.Code) {
	c.event(Answered, func(e *Event) {
		e.Message, e.Code, e.MsgID = name, int(code), wire.MessageID(c.e.User, to, name)
	})
}

// accepted sends a message and sees it accepted.
func (c *line) accepted(to, name string) {
	c.send(to, name)
	c.answer(to, name, wire.CodeOK)
}

func (c *line) get(from, name string, changes ...func(*Event)) {
	c.event(Delivered, func(e *Event) {
		e.From, e.To, e.MsgID, e.Content = from, c.e.User, wire.MessageID(from, c.e.User, name), `"`+name+`"`
		for _, change := range changes {
			change(e)
		}
	})
}

func (c *line) ack(from, name string) {
	id := func(e *Event) { e.MsgID, e.Code = wire.MessageID(from, c.e.User, name), int(wire.CodeOK) }
	c.event(AckSent, id)
	c.event(Acked, id)
}

func (c *line) close(clean bool) { c.event(Closed, func(e *Event) { e.Clean = clean }) }

func redelivered(e *Event) { e.Redelivered = true }

func missedMany(n int) func(*Event) { return func(e *Event) { e.Missed = n } }

func inGroup(e *Event) {
	e.To, e.Group, e.MsgID = "", "g", wire.MessageID(e.From, "\x00gg", e.Content[1:len(e.Content)-1])
}

func (s *story) member(user string, joins bool) {
	e := Event{Kind: MemberSent, Message: fmt.Sprint(len(s.h)), Group: "g", User: user, Joins: joins}
	s.add(e)
	e.Kind = MemberOK
	s.add(e)
}

// asked is a change of a group that is not answered.
func (s *story) asked(user string, joins bool) {
	s.add(Event{Kind: MemberSent, Message: fmt.Sprint(len(s.h)), Group: "g", User: user, Joins: joins})
}

func (c *line) acceptedByGroup(name string) {
	change := func(e *Event) {
		e.Group, e.Message, e.Content, e.Code, e.MsgID = "g", name, `"`+name+`"`, 200, wire.MessageID(c.e.User, "\x00gg", name)
	}
	c.event(Sent, change)
	c.event(Answered, change)
}
