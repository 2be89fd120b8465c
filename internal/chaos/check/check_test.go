package check

import (
	"slices"
	"testing"
	"time"

	"github.com/imcluster/imcluster/api/wire"
)

// TestHistory: each promise is broken by a history that differs little from one that keeps it.
func TestHistory(t *testing.T) {
	for _, tc := range []struct {
		name string
		cap  int
		tell func(s *story)
		want []Rule // none: the history keeps all promises
	}{
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
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := &story{}
			tc.tell(s)
			var got []Rule
			list := History(s.h, Options{Cap: tc.cap, AckTime: time.Second})
			for _, v := range list {
				got = append(got, v.Rule)
			}
			slices.Sort(got)
			if slices.Sort(tc.want); !slices.Equal(got, tc.want) {
				t.Errorf("violated %q, want %q", got, tc.want)
				for _, v := range list {
					t.Log(v)
				}
				for _, e := range s.h {
					t.Log(e)
				}
			}
		})
	}
}
