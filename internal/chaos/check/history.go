package check

import (
	"fmt"
	"strings"
	"time"
)

// Kind says what an [Event] is.
type Kind uint8

// Kinds of events. What a client does is recorded before it is written to the connection, what it sees after it was read:
// so an event that precedes another one in a history really happened before it.
const (
	LoginSent  Kind = iota // Conn, User, Device, Gateway
	LoginOK                // Conn, User, Device, Gateway
	Sent                   // Conn, User, Message, To or Group, Content: a message, or the same once more
	Answered               // Conn, User, Message, MsgID, Code
	Delivered              // Conn, User, Device, MsgID, From, To or Group, Content, Redelivered, Missed
	AckSent                // Conn, User, Device, MsgID
	Acked                  // Conn, User, Device, MsgID, Code
	Closed                 // Conn, User, Device, Code: the close code, Clean: the server confirmed that the client leaves
	MemberSent             // Message (of the request), Group, User, Joins: a change of a group was asked for
	MemberOK               // Message, Group, User, Joins: it was confirmed
	GatewayHit             // Gateway: from now on it may forget what it has not written
	GatewayUp              // Gateway: a fresh process, or one that was stopped continues
	RedisHit               // the store stops to answer
	RedisDied              // and ends: what it was not told, or not for long enough, is forgotten
	RedisUp                // it answers again
	Healed                 // nothing is done to anybody from here on
	Overdue                // after Healed, the time for everything to arrive is over
)

var kinds = [...]string{
	"login sent", "login ok", "sent", "answered", "delivered", "ack sent", "acked", "closed", "member sent", "member ok",
	"gateway hit", "gateway up", "redis hit", "redis died", "redis up", "healed", "overdue",
}

// Event is one line of a history. Fields that its kind does not name stay zero.
type Event struct {
	At   time.Duration // since the start of the history
	Kind Kind
	Conn int // of the connection, from 1
	// Gateway is one run of a gateway's process.
	Gateway      string
	User, Device string
	// Message is the clientMsgId, which no two messages of a history share.
	Message                  string
	From, To, Group, Content string
	MsgID                    string
	Code                     int
	Redelivered              bool
	Missed                   int
	Clean                    bool
	Joins                    bool
}

// String returns the event as one line, without its content.
func (e Event) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%7.3f %-11s", e.At.Seconds(), kinds[e.Kind])
	if e.Conn != 0 {
		fmt.Fprintf(&b, " conn=%d", e.Conn)
	}
	for _, f := range []struct{ name, value string }{
		{"gateway", e.Gateway}, {"user", e.User}, {"device", e.Device}, {"message", e.Message}, {"from", e.From},
		{"to", e.To}, {"group", e.Group}, {"msgId", e.MsgID},
	} {
		if f.value != "" {
			fmt.Fprintf(&b, " %s=%s", f.name, f.value)
		}
	}
	if e.Code != 0 {
		fmt.Fprintf(&b, " code=%d", e.Code)
	}
	if e.Missed != 0 {
		fmt.Fprintf(&b, " missed=%d", e.Missed)
	}
	for _, f := range []struct {
		name string
		set  bool
	}{{"redelivered", e.Redelivered}, {"clean", e.Clean}, {"joins", e.Joins}} {
		if f.set {
			b.WriteString(" " + f.name)
		}
	}
	return b.String()
}

// Options are what a history is judged by.
type Options struct {
	// Cap is how many messages a mailbox holds. Zero means that no mailbox was ever full.
	Cap int
	// AckTime is how long after its answer an acknowledgement may be unwritten.
	AckTime time.Duration
	// StoreLag is for how long the store may forget something when it dies: the lag of its replicas. Zero is for one that
	// syncs everything before it answers.
	StoreLag time.Duration
}

// Rule is a promise that can be broken.
type Rule string

// Rules.
const (
	Lost       Rule = "an accepted message did not arrive"
	Late       Rule = "an accepted message did not arrive in time, only after another login"
	Order      Rule = "messages came in another order than that of acceptance"
	Invented   Rule = "a message arrived that nobody sent"
	Refused    Rule = "a message arrived that was refused for good"
	Changed    Rule = "a message was changed"
	Misrouted  Rule = "a message arrived at somebody else"
	Identity   Rule = "a message has another msgId than the one derived from it"
	Repeated   Rule = "a message came again on a connection without saying so"
	Marked     Rule = "a message that is new on a connection says that it comes again"
	AckIgnored Rule = "an acknowledged message came again"
	TooOld     Rule = "a new device got a message that another one had acknowledged"
	Miscounted Rule = "the count of missed messages is wrong"
	Answer     Rule = "an answer is not to anything that was asked"
)

// Violation is a broken promise. Events are the lines of the history that show it.
type Violation struct {
	Rule   Rule
	Detail string
	Events []Event
}

func (v Violation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", v.Rule, v.Detail)
	for _, e := range v.Events {
		b.WriteString("\n    " + e.String())
	}
	return b.String()
}
