package check

import (
	"testing"

	"github.com/imcluster/imcluster/api/wire"
)

// TestWhatMustNotArrive: what comes was sent, accepted or in doubt, as it is.
func TestWhatMustNotArrive(t *testing.T) {
	tellAll(t, []tale{
		{name: "nobody sent it", want: []Rule{Invented}, tell: func(s *story) {
			s.login("b", "d").get("a", "m1")
		}},
		{name: "it arrives before it was sent", want: []Rule{Invented}, tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d")
			b.get("a", "m1")
			a.accepted("b", "m1")
		}},
		{name: "refused for good, and arrives", want: []Rule{Refused}, tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d")
			a.send("b", "m1")
			a.answer("b", "m1", wire.CodeWrongSender)
			b.get("a", "m1")
		}},
		{name: "refused by a full mailbox, and arrives", want: []Rule{Refused}, tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d")
			a.send("b", "m1")
			a.answer("b", "m1", wire.CodeMailboxFull)
			b.get("a", "m1")
		}},
		{name: "refused for good once, of unknown outcome once", tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d")
			a.send("b", "m1")
			a.answer("b", "m1", wire.CodeTooManyFrames)
			a.send("b", "m1")
			b.get("a", "m1")
		}},
		{name: "another content under its id", want: []Rule{Changed}, tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d")
			a.accepted("b", "m1")
			b.get("a", "m1", func(e *Event) { e.Content = `"m1" ` })
		}},
		{name: "another sender", want: []Rule{Changed}, tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d")
			a.accepted("b", "m1")
			b.get("a", "m1", func(e *Event) { e.From = "eve" })
		}},
		{name: "at somebody else", want: []Rule{Misrouted}, tell: func(s *story) {
			a, b, c := s.login("a", "d"), s.login("b", "d"), s.login("c", "d")
			a.accepted("b", "m1")
			b.get("a", "m1")
			c.get("a", "m1", func(e *Event) { e.To, e.MsgID = "b", wire.MessageID("a", "b", "m1") })
		}},
		{name: "under another id", want: []Rule{Identity}, tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d")
			a.send("b", "m1")
			b.get("a", "m1", func(e *Event) { e.MsgID = "another" })
		}},
		{name: "answered with another id", want: []Rule{Identity}, tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d")
			a.send("b", "m1")
			a.answer("c", "m1", wire.CodeOK)
			b.get("a", "m1")
		}},
		{name: "answered twice", want: []Rule{Answer}, tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d")
			a.accepted("b", "m1")
			a.answer("b", "m1", wire.CodeOK)
			b.get("a", "m1")
		}},
	})
}
