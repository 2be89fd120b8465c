package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/imcluster/imcluster/client"
)

// maxScrollback is how many messages :history knows.
const maxScrollback = 500

// scrollback is the last messages, sent and received.
type scrollback struct {
	mu    sync.Mutex
	lines []string
}

func (s *scrollback) add(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, line)
	if len(s.lines) >= 2*maxScrollback {
		s.lines = append([]string(nil), s.lines[len(s.lines)-maxScrollback:]...)
	}
}

// last returns the last n lines.
func (s *scrollback) last(n int) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	n = min(n, len(s.lines), maxScrollback)
	return append([]string(nil), s.lines[len(s.lines)-n:]...)
}

type receiptJSON struct {
	Event    string    `json:"event"`
	MsgID    string    `json:"msgId"`
	To       string    `json:"toId,omitempty"`
	Group    string    `json:"groupId,omitempty"`
	Code     int       `json:"code"`
	Time     time.Time `json:"time"`
	Gateways int       `json:"gateways,omitempty"`
	Reached  int       `json:"reached,omitempty"`
}

func receiptOf(r client.Receipt, to target) receiptJSON {
	return receiptJSON{"receipt", r.MsgID, to.user, to.group, int(r.Code), r.Time, r.Gateways, r.Reached}
}

// whatBecame says what the server did with a message to somebody.
func whatBecame(r client.Receipt, to string) string {
	switch {
	case r.Stored():
		return "Stored for " + to
	case r.Gateways > 0:
		return fmt.Sprintf("Sent to %s who is online on %d of %d gateways, not stored,", to, r.Reached, r.Gateways)
	}
	return "Accepted, not stored: it goes to those devices of " + to + " that are connected now,"
}

type messageJSON struct {
	Event       string          `json:"event"`
	MsgID       string          `json:"msgId"`
	From        string          `json:"fromId"`
	To          string          `json:"toId,omitempty"`
	Group       string          `json:"groupId,omitempty"`
	Time        time.Time       `json:"time"`
	Redelivered bool            `json:"redelivered,omitempty"`
	Missed      int             `json:"missed,omitempty"`
	Content     json.RawMessage `json:"content"`
}

func messageOf(m client.Message) messageJSON {
	return messageJSON{"message", m.ID, m.From, m.To, m.Group, m.Time, m.Redelivered, m.Missed, m.Content}
}

// received shows a message, or has the command handle it, on a terminal both.
func (v *conversation) received(ctx context.Context, m client.Message) {
	<-v.ready
	v.know(m.From)
	if v.hook == nil || v.in.interactive() || v.p.json {
		v.show(m)
	}
	if v.hook != nil {
		v.hook.take(ctx, m)
	}
}

func (v *conversation) show(m client.Message) {
	text := m.Text()
	if text == "" {
		text = string(m.Content)
	}
	from := v.p.user(m.From)
	switch {
	case m.Group != "":
		from += v.p.faint(" in " + printable(m.Group))
	case m.Broadcast():
		from += v.p.faint(" to everybody")
	}
	line := fmt.Sprintf("%s %s: %s", v.p.faint(clock(m.Time, time.Now())), from, printable(text))
	v.log.add(line)
	if v.p.json {
		_ = v.p.value(messageOf(m))
		return
	}
	if m.Missed > 0 {
		v.p.warn("%s", v.p.bad(fmt.Sprintf("%d messages before this one are lost: too many, or too old, were waiting.", m.Missed)))
	}
	if m.Redelivered {
		line += v.p.faint(" (again)")
	}
	v.p.line("%s", line)
}

// accepted notes a message that the server took.
func (v *conversation) accepted(to target, text string, r client.Receipt) {
	v.log.add(fmt.Sprintf("%s %s: %s", v.p.faint(clock(r.Time, time.Now())), v.p.faint("you to "+printable(to.String())), printable(text)))
	switch {
	case v.p.json:
		_ = v.p.value(receiptOf(r, to))
	case v.in.interactive():
		v.p.warn("%s", v.p.faint("✓ "+whatBecame(r, printable(to.String()))+" at "+r.Time.Local().Format(time.TimeOnly)+"."))
	}
}

func (v *conversation) notSent(to target, err error) {
	if v.p.json {
		event := map[string]string{"event": "error", "error": err.Error()}
		if to.user != "" {
			event["toId"] = to.user
		}
		if to.group != "" {
			event["groupId"] = to.group
		}
		_ = v.p.value(event)
		return
	}
	v.p.warn("%s", v.p.bad("Not sent: "+printable(err.Error())))
}

// clock is a time as people say it at now: without the date if it is today.
func clock(t, now time.Time) string {
	t = t.Local()
	if t.Format(time.DateOnly) == now.Local().Format(time.DateOnly) {
		return t.Format(time.TimeOnly)
	}
	return t.Format(time.DateTime)
}
