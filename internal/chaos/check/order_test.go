package check

import (
	"testing"

	"github.com/imcluster/imcluster/api/wire"
)

// TestOrderOfMessages: messages come in the order in which they were accepted.
func TestOrderOfMessages(t *testing.T) {
	tellAll(t, []tale{
		{name: "order of acceptance by two senders", want: []Rule{Order, Order}, tell: func(s *story) { // of the device and of the connection
			a, b, c := s.login("a", "d"), s.login("b", "d"), s.login("c", "d")
			a.accepted("c", "m1")
			b.accepted("c", "m2")
			c.get("b", "m2")
			c.get("a", "m1")
		}},
		{name: "a message that was refused first takes the place of its resend", tell: func(s *story) {
			a, b, c := s.login("a", "d"), s.login("b", "d"), s.login("c", "d")
			a.send("c", "m1")
			a.answer("c", "m1", wire.CodeUnavailable)
			b.accepted("c", "m2")
			a.accepted("c", "m1")
			c.get("b", "m2")
			c.get("a", "m1")
		}},
		{name: "messages sent at the same time come in any order", tell: func(s *story) {
			a, b, c := s.login("a", "d"), s.login("b", "d"), s.login("c", "d")
			a.send("c", "m1")
			b.accepted("c", "m2")
			a.answer("c", "m1", wire.CodeOK)
			c.get("b", "m2")
			c.get("a", "m1")
		}},
		{name: "unless on one connection", want: []Rule{Order}, tell: func(s *story) {
			a, c := s.login("a", "d"), s.login("c", "d")
			a.send("c", "m1")
			a.accepted("c", "m2")
			a.answer("c", "m1", wire.CodeOK)
			c.get("a", "m2")
			c.get("a", "m1")
		}},
		{name: "order over two connections of a device", want: []Rule{Order}, tell: func(s *story) {
			a, c := s.login("a", "d"), s.login("c", "d")
			a.accepted("c", "m1")
			a.accepted("c", "m2")
			c.get("a", "m2")
			c.close(false)
			s.login("c", "d").get("a", "m1")
		}},
	})
}
