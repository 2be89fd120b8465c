package check

import (
	"testing"

	"github.com/imcluster/imcluster/api/wire"
)

// TestWhatMustArrive: a message that was accepted arrives at every device that was known.
func TestWhatMustArrive(t *testing.T) {
	tellAll(t, []tale{
		{name: "an accepted message arrives", tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d")
			a.accepted("b", "m1")
			b.get("a", "m1")
		}},
		{name: "an accepted message is lost", want: []Rule{Lost}, tell: func(s *story) {
			a := s.login("a", "d")
			s.login("b", "d")
			a.accepted("b", "m1")
		}},
		{name: "it is lost on the second device only", want: []Rule{Lost}, tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d1")
			s.login("b", "d2")
			a.accepted("b", "m1")
			b.get("a", "m1")
		}},
		{name: "it was sent before the recipient ever logged in, and is lost", want: []Rule{Lost}, tell: func(s *story) {
			a := s.login("a", "d")
			a.accepted("b", "m1")
			s.login("b", "d")
		}},
		{name: "it comes on a later connection", tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d")
			a.accepted("b", "m1")
			b.close(false)
			s.login("b", "d").get("a", "m1")
		}},
		{name: "it comes after the time for it", want: []Rule{Late}, tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d")
			a.accepted("b", "m1")
			s.note(Healed)
			s.note(Overdue)
			b.get("a", "m1")
		}},
		{name: "a message of unknown outcome need not arrive", tell: func(s *story) {
			a := s.login("a", "d")
			s.login("b", "d")
			a.send("b", "m1")
			a.send("b", "m2")
			a.answer("b", "m2", wire.CodeUnavailable)
		}},
		{name: "a message of unknown outcome may arrive", tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d")
			a.send("b", "m1")
			a.answer("b", "m1", wire.CodeUnavailable)
			b.get("a", "m1")
		}},
		{name: "a resend is accepted, and only the first attempt is answered with success", want: []Rule{Lost}, tell: func(s *story) {
			a := s.login("a", "d")
			s.login("b", "d")
			a.accepted("b", "m1")
			a.send("b", "m1")
			a.answer("b", "m1", wire.CodeUnavailable)
		}},

		{name: "a new device need not get what another one acknowledged", tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d1")
			a.accepted("b", "m1")
			b.get("a", "m1")
			b.ack("a", "m1")
			s.login("b", "d2")
		}},
		{name: "a new device does not get what nobody acknowledged", want: []Rule{Lost}, tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d1")
			a.accepted("b", "m1")
			b.get("a", "m1")
			b.ack("a", "m1")
			a.accepted("b", "m2")
			b.get("a", "m2")
			s.login("b", "d2")
		}},
		{name: "a new device gets what was acknowledged long ago", want: []Rule{TooOld}, tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d1")
			a.accepted("b", "m1")
			b.get("a", "m1")
			b.ack("a", "m1")
			b.close(true)
			s.login("b", "d2").get("a", "m1")
		}},
	})
}
