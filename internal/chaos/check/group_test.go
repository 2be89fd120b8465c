package check

import (
	"testing"
)

// TestMessagesToGroups: a message to a group arrives at its members.
func TestMessagesToGroups(t *testing.T) {
	tellAll(t, []tale{
		{name: "a message to a group arrives at its members, but the sender", tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d")
			s.member("a", true)
			s.member("b", true)
			a.acceptedByGroup("m1")
			b.get("a", "m1", inGroup)
		}},
		{name: "a message to a group is lost for one member", want: []Rule{Lost}, tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d")
			s.login("c", "d")
			for _, u := range []string{"a", "b", "c"} {
				s.member(u, true)
			}
			a.acceptedByGroup("m1")
			b.get("a", "m1", inGroup)
		}},
		{name: "a message to a group comes back to its sender", want: []Rule{Misrouted}, tell: func(s *story) {
			a := s.login("a", "d")
			s.member("a", true)
			a.acceptedByGroup("m1")
			a.get("a", "m1", inGroup)
		}},
		{name: "a message to a group arrives at who has left it", want: []Rule{Misrouted}, tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d")
			s.member("a", true)
			s.member("b", true)
			s.member("b", false)
			a.acceptedByGroup("m1")
			b.get("a", "m1", inGroup)
		}},
		{name: "somebody joins meanwhile", tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d")
			s.member("a", true)
			s.asked("b", true)
			a.acceptedByGroup("m1")
			b.close(false)
		}},
		{name: "somebody may have left, and gets it", tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d")
			s.member("b", true)
			s.asked("b", false)
			a.acceptedByGroup("m1")
			b.get("a", "m1", inGroup)
		}},
		{name: "somebody may have left, and does not get it", tell: func(s *story) {
			a := s.login("a", "d")
			s.login("b", "d")
			s.member("b", true)
			s.asked("b", false)
			a.acceptedByGroup("m1")
		}},
		{name: "somebody left and came back, and does not get it", want: []Rule{Lost}, tell: func(s *story) {
			a := s.login("a", "d")
			s.login("b", "d")
			s.member("b", true)
			s.member("b", false)
			s.member("b", true)
			a.acceptedByGroup("m1")
		}},
	})
}
