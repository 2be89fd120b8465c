package check

import (
	"testing"
)

// TestMissedMessages: what a full mailbox drops is counted.
func TestMissedMessages(t *testing.T) {
	tellAll(t, []tale{
		{name: "missed while no mailbox was full", want: []Rule{Miscounted}, tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d")
			a.send("b", "m1")
			a.accepted("b", "m2")
			b.get("a", "m2", missedMany(1))
		}},
		{name: "pushed out of a full mailbox and counted", cap: 2, tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d")
			a.accepted("b", "m1")
			a.accepted("b", "m2")
			a.accepted("b", "m3")
			b.get("a", "m2", missedMany(1))
			b.get("a", "m3")
		}},
		{name: "pushed out of a full mailbox and not counted", cap: 2, want: []Rule{Lost}, tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d")
			a.accepted("b", "m1")
			a.accepted("b", "m2")
			a.accepted("b", "m3")
			b.get("a", "m2")
			b.get("a", "m3")
		}},
		{name: "counted, but the mailbox was not full", cap: 3, want: []Rule{Lost}, tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d")
			a.accepted("b", "m1")
			a.accepted("b", "m2")
			b.get("a", "m2", missedMany(1))
		}},
		{name: "more missed than there were", cap: 2, want: []Rule{Miscounted}, tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d")
			a.accepted("b", "m1")
			a.accepted("b", "m2")
			a.accepted("b", "m3")
			b.get("a", "m2", missedMany(3))
			b.get("a", "m3")
		}},
	})
}
