package presencechaos

import (
	"fmt"
	"slices"
	"time"
)

// Rule is a promise.
type Rule string

// Rules.
const (
	// FalselyOffline: somebody was told that a user is gone who was connected.
	FalselyOffline Rule = "falsely offline"
	// Resurrected: somebody was told that a user is online who had been told to be gone, and did nothing since.
	Resurrected Rule = "resurrected"
	// Revealed: somebody was told that a user is online who was invisible.
	Revealed Rule = "revealed"
)

// Violation is a promise that was broken.
type Violation struct {
	Rule Rule
	Told Event
	Why  string
}

func (v Violation) String() string { return fmt.Sprintf("%s: %v; %s", v.Rule, v.Told, v.Why) }

// span is from a time to another one; zero means for ever.
type span struct{ from, to time.Time }

// precision is that of what is told: milliseconds, of a clock that ours may be a little ahead of.
const precision = 5 * time.Millisecond

// holds tells whether all of a time is in the span.
func (s span) holds(from, to time.Time) bool {
	return !from.Before(s.from) && (s.to.IsZero() || to.Add(precision).Before(s.to))
}

// life is what is certain of a user.
type life struct {
	up      []span // connected
	hidden  []span // invisible
	visible []span // not invisible
	away    []span // not connected, nor trying to be
	told    []Event

	asked bool // a status was asked for, and not answered yet
	lost  bool // one was not answered at all
}

// Check judges a history. What is told may be older than it says by lag, no more.
func Check(events []Event, lag time.Duration) (list []Violation) {
	users, names := map[string][]Event{}, []string(nil)
	for _, e := range events {
		if e.User == "" {
			continue
		}
		if users[e.User] == nil {
			names = append(names, e.User)
		}
		users[e.User] = append(users[e.User], e)
	}
	for _, name := range names {
		of := users[name]
		slices.SortStableFunc(of, func(a, b Event) int { return a.At.Compare(b.At) })
		list = append(list, lifeOf(of).check(lag)...)
	}
	return list
}

// lifeOf finds out what is certain, from the events of one user in order.
func lifeOf(events []Event) *life {
	l := &life{away: []span{{}}, visible: []span{{}}}
	open := map[int]bool{} // by connection: whether it is up
	ups, doubt := 0, false
	lower := func(conn int, at time.Time) {
		if open[conn] {
			open[conn] = false
			if ups--; ups == 0 {
				end(l.up, at)
			}
		}
	}
	for _, e := range events {
		_, known := open[e.Conn]
		switch e.Kind {
		case Told:
			l.told = append(l.told, e)
		case Connecting:
			end(l.away, e.At)
			open[e.Conn] = false
		case Up:
			if known && !open[e.Conn] {
				open[e.Conn] = true
				if ups++; ups == 1 {
					l.up = append(l.up, span{from: e.At})
				}
			}
		case Leaving:
			lower(e.Conn, e.At)
		case Down:
			lower(e.Conn, e.At)
			delete(open, e.Conn)
			if doubt = doubt || e.Doubtful; known && len(open) == 0 && !doubt {
				l.away = append(l.away, span{from: e.At})
			}
		case Setting, Set:
			l.status(e)
		}
	}
	return l
}

// status follows what a user set. One thing is asked for at a time; after one that was not answered nothing is certain any more.
func (l *life) status(e Event) {
	switch {
	case e.Kind == Setting && l.asked:
		l.lost = true
		fallthrough
	case e.Kind == Setting:
		l.asked = true
		if e.Status == invisible {
			end(l.visible, e.At)
		} else {
			end(l.hidden, e.At)
		}
	case l.lost:
		return
	default:
		l.asked = false
		if e.Status == invisible {
			l.hidden = begin(l.hidden, e.At)
		} else {
			l.visible = begin(l.visible, e.At)
		}
	}
}

// invisible is the status of who looks offline.
const invisible = "invisible"

// end ends the last span, if it has not.
func end(list []span, at time.Time) {
	if n := len(list); n > 0 && list[n-1].to.IsZero() {
		list[n-1].to = at
	}
}

// begin begins a span, unless the last one goes on.
func begin(list []span, at time.Time) []span {
	if n := len(list); n > 0 && list[n-1].to.IsZero() {
		return list
	}
	return append(list, span{from: at})
}

func (l *life) check(lag time.Duration) (list []Violation) {
	within := func(spans []span, e Event) (span, bool) {
		for _, s := range spans {
			if s.holds(e.From.Add(-lag), e.To) {
				return s, true
			}
		}
		return span{}, false
	}
	for _, e := range l.told {
		switch {
		case e.State.gone():
			up, ok := within(l.up, e)
			if _, visible := within(l.visible, e); ok && visible {
				list = append(list, Violation{FalselyOffline, e, "connected since " + up.from.Format("04:05.000")})
			}
		case e.State == Online:
			if hidden, ok := within(l.hidden, e); ok {
				list = append(list, Violation{Revealed, e, "invisible since " + hidden.from.Format("04:05.000")})
			}
			if away, ok := within(l.away, e); ok {
				if v, ok := l.resurrected(e, away, lag); ok {
					list = append(list, v)
				}
			}
		}
	}
	return list
}

// resurrected tells whether somebody was told before that the user is gone, since the user is.
func (l *life) resurrected(e Event, away span, lag time.Duration) (Violation, bool) {
	for _, before := range l.told {
		if before.State.gone() && before.From.After(away.from) && before.To.Add(lag).Before(e.From) {
			return Violation{Resurrected, e, "gone since " + away.from.Format("04:05.000") + ", and known to be: " + before.String()}, true
		}
	}
	return Violation{}, false
}
