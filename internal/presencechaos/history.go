package presencechaos

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// Kind says what an event is.
type Kind string

// Kinds of events. Those of clients are about one connection, Conn, of a device.
const (
	Connecting Kind = "connecting" // a login begins: from now on the user may be online
	Up         Kind = "up"         // the login was accepted
	Leaving    Kind = "leaving"    // from now on the platform may take the connection for gone
	Down       Kind = "down"       // the connection is gone
	Setting    Kind = "setting"    // a status was asked for
	Set        Kind = "set"        // the status was accepted
	Told       Kind = "told"       // Observer was told how a user is
	Fault      Kind = "fault"      // something is done to the servers
	Healed     Kind = "healed"     // all faults are over
)

// State is what somebody may be told of a user.
type State string

// States. Whoever is missing in a list of those online is Absent.
const (
	Online      State = "online"
	Offline     State = "offline"
	NeverSeen   State = "never_seen"
	Absent      State = "absent"
	Unavailable State = "unavailable"
)

// gone tells whether a state says that the user is not connected.
func (s State) gone() bool { return s == Offline || s == NeverSeen || s == Absent }

// Event is something that happened.
type Event struct {
	Kind Kind
	At   time.Time

	User, Device string
	Conn         int
	// Doubtful, of Down: the platform may not have dealt with the login yet.
	Doubtful bool
	// Status of Setting and Set.
	Status string

	// Observer was told State, which was true at some time from From, which is what it was told to be as of, to To, when it was told.
	Observer string
	State    State
	From, To time.Time

	Note string
}

func (e Event) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", e.At.Format("04:05.000"), e.Kind)
	if e.User != "" {
		fmt.Fprintf(&b, " %s", e.User)
	}
	if e.Conn > 0 {
		fmt.Fprintf(&b, " %s conn %d", e.Device, e.Conn)
	}
	if e.Status != "" {
		fmt.Fprintf(&b, " %s", e.Status)
	}
	if e.Kind == Told {
		fmt.Fprintf(&b, " %s to %s, as of %s", e.State, e.Observer, e.From.Format("04:05.000"))
		if e.To.After(e.From) {
			fmt.Fprintf(&b, "–%s", e.To.Format("04:05.000"))
		}
	}
	if e.Note != "" {
		fmt.Fprintf(&b, " (%s)", e.Note)
	}
	return b.String()
}

// recorder collects events.
type recorder struct {
	mu     sync.Mutex
	events []Event // guarded by mu
	conns  int     // guarded by mu
}

// add records an event; now, unless it says when.
func (r *recorder) add(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.At.IsZero() {
		e.At = time.Now()
	}
	r.events = append(r.events, e)
}

// conn numbers a connection.
func (r *recorder) conn() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns++
	return r.conns
}

// take returns what was recorded, and begins anew.
func (r *recorder) take() []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	events := r.events
	r.events = nil
	return events
}

// tail returns the latest events that are about a user, or faults; what somebody is told again is left out.
func tail(events []Event, user string, n int) string {
	var lines []string
	last := map[string]State{}
	for _, e := range events {
		switch {
		case e.Kind == Fault || e.Kind == Healed:
		case e.User != user:
			continue
		case e.Kind == Told && e.State == last[e.Observer]:
			continue
		}
		if e.Kind == Told {
			last[e.Observer] = e.State
		}
		lines = append(lines, e.String())
	}
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
