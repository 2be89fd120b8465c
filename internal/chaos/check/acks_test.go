package check

import (
	"testing"
	"time"
)

// TestRedeliveries: what was acknowledged does not come again, and what comes again says so.
func TestRedeliveries(t *testing.T) {
	tellAll(t, []tale{
		{name: "a redelivery is marked", tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d")
			a.accepted("b", "m1")
			b.get("a", "m1")
			b.get("a", "m1", redelivered)
		}},
		{name: "a redelivery is not marked", want: []Rule{Repeated}, tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d")
			a.accepted("b", "m1")
			b.get("a", "m1")
			b.get("a", "m1")
		}},
		{name: "the first delivery of a connection is marked", want: []Rule{Marked}, tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d")
			a.accepted("b", "m1")
			b.get("a", "m1", redelivered)
		}},
		{name: "acknowledged, and again on the same connection", want: []Rule{AckIgnored}, tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d")
			a.accepted("b", "m1")
			b.get("a", "m1")
			b.ack("a", "m1")
			b.get("a", "m1", redelivered)
		}},
		{name: "acknowledged, closed, and again", want: []Rule{AckIgnored}, tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d")
			a.accepted("b", "m1")
			b.get("a", "m1")
			b.ack("a", "m1")
			b.close(true)
			s.login("b", "d").get("a", "m1")
		}},
		{name: "acknowledged, lost the connection, and again at once", tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d")
			a.accepted("b", "m1")
			b.get("a", "m1")
			b.ack("a", "m1")
			b.close(false)
			s.login("b", "d").get("a", "m1")
		}},
		{name: "acknowledged, lost the connection, and again much later", want: []Rule{AckIgnored}, tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d")
			a.accepted("b", "m1")
			b.get("a", "m1")
			b.ack("a", "m1")
			b.close(false)
			s.wait(2 * time.Second)
			s.login("b", "d").get("a", "m1")
		}},
		{name: "acknowledged, the gateway died, and again", tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d")
			a.accepted("b", "m1")
			b.get("a", "m1")
			b.ack("a", "m1")
			s.note(GatewayHit)
			b.close(false)
			s.wait(2 * time.Second)
			s.login("b", "d").get("a", "m1")
		}},
		{name: "acknowledged while the store was away, closed, and again", tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d")
			a.accepted("b", "m1")
			b.get("a", "m1")
			s.note(RedisHit)
			b.ack("a", "m1")
			s.note(RedisUp)
			b.close(true)
			s.login("b", "d").get("a", "m1")
		}},
		{name: "the store died before it knew of the acknowledgement", tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d")
			a.accepted("b", "m1")
			b.get("a", "m1")
			b.ack("a", "m1")
			s.note(RedisHit)
			s.note(RedisDied)
			b.get("a", "m1")
		}},
		{name: "the store died after it knew of the acknowledgement", want: []Rule{AckIgnored, Repeated}, tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d")
			a.accepted("b", "m1")
			b.get("a", "m1")
			b.ack("a", "m1")
			s.wait(2 * time.Second)
			s.note(RedisHit)
			s.note(RedisDied)
			b.get("a", "m1")
		}},
		{name: "an earlier one is not acknowledged: both may come again", tell: func(s *story) {
			a, b := s.login("a", "d"), s.login("b", "d")
			a.accepted("b", "m1")
			a.accepted("b", "m2")
			b.get("a", "m1")
			b.get("a", "m2")
			b.ack("a", "m2")
			b.close(true)
			again := s.login("b", "d")
			again.get("a", "m1")
			again.get("a", "m2")
		}},
	})
}
