package presencechaos

import (
	"testing"
	"time"
)

// at is a time of a story, in milliseconds.
func at(ms int) time.Time { return time.UnixMilli(1_000_000 + int64(ms)) }

func told(state State, ms int) Event {
	return Event{Kind: Told, At: at(ms), User: "u", Observer: "w", State: state, From: at(ms), To: at(ms)}
}

func conn(kind Kind, n, ms int) Event {
	return Event{Kind: kind, At: at(ms), User: "u", Device: "d", Conn: n}
}

func status(kind Kind, value string, ms int) Event {
	return Event{Kind: kind, At: at(ms), User: "u", Status: value}
}

func TestCheckFindsBrokenPromisesAndNothingElse(t *testing.T) {
	login := []Event{conn(Connecting, 1, 0), conn(Up, 1, 10)}
	doubtful := conn(Down, 1, 500)
	doubtful.Doubtful = true
	vague := told(Offline, 3000)
	vague.From = at(1)
	for name, c := range map[string]struct {
		events []Event
		want   Rule
	}{
		"online while connected":                     {append(login, told(Online, 2000)), ""},
		"not known while connected":                  {append(login, told(Unavailable, 2000)), ""},
		"offline while connected":                    {append(login, told(Offline, 2000)), FalselyOffline},
		"never seen while connected":                 {append(login, told(NeverSeen, 2000)), FalselyOffline},
		"not listed while connected":                 {append(login, told(Absent, 2000)), FalselyOffline},
		"offline as of the login":                    {append(login, told(Offline, 500)), ""},
		"offline at some time around the login":      {append(login, vague), ""},
		"offline while leaving":                      {append(login, conn(Leaving, 1, 1500), told(Offline, 2000)), ""},
		"offline though another device is connected": {append(login, conn(Connecting, 2, 20), conn(Up, 2, 30), conn(Leaving, 1, 1500), told(Offline, 2000)), FalselyOffline},
		"offline between two connections":            {append(login, conn(Down, 1, 1500), conn(Connecting, 2, 1600), conn(Up, 2, 1900), told(Offline, 2000)), ""},
		"offline while invisible":                    {append(login, status(Setting, invisible, 100), status(Set, invisible, 110), told(Offline, 3000)), ""},
		"offline while perhaps invisible":            {append(login, status(Setting, invisible, 100), told(Offline, 3000)), ""},
		"online while invisible":                     {append(login, status(Setting, invisible, 100), status(Set, invisible, 110), told(Online, 3000)), Revealed},
		"online when just made invisible":            {append(login, status(Setting, invisible, 100), status(Set, invisible, 110), told(Online, 200)), ""},
		"online while perhaps visible again": {append(login, status(Setting, invisible, 100), status(Set, invisible, 110), status(Setting, "away", 200),
			told(Online, 3000)), ""},
		"offline when visible again": {append(login, status(Setting, invisible, 100), status(Set, invisible, 110), status(Setting, "away", 200),
			status(Set, "away", 210), told(Offline, 3000)), FalselyOffline},
		"online after an answer got lost": {append(login, status(Setting, "away", 50), status(Setting, invisible, 100), status(Set, invisible, 110),
			told(Online, 3000)), ""},
		"online again by itself":            {append(login, conn(Down, 1, 500), told(Offline, 2000), told(Online, 4000)), Resurrected},
		"online though never connected":     {[]Event{told(NeverSeen, 0), told(Online, 4000)}, Resurrected},
		"online again by a login":           {append(login, conn(Down, 1, 500), told(Offline, 2000), conn(Connecting, 2, 2500), told(Online, 4000)), ""},
		"still online within the grace":     {append(login, conn(Down, 1, 500), told(Online, 4000)), ""},
		"known to be online somewhat later": {append(login, conn(Down, 1, 500), told(Offline, 2000), told(Online, 2300)), ""},
		"online by a login that was late":   {append(login, doubtful, told(Offline, 2000), told(Online, 4000)), ""},
	} {
		t.Run(name, func(t *testing.T) {
			list := Check(c.events, time.Second)
			switch {
			case c.want == "" && len(list) > 0:
				t.Errorf("violations in a history that keeps every promise: %v", list)
			case c.want != "" && (len(list) != 1 || list[0].Rule != c.want):
				t.Errorf("violations: %v, want %q", list, c.want)
			}
		})
	}
}
