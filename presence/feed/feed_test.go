package feed

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func parse(t *testing.T, text string) *Fact {
	t.Helper()
	f, err := Parse(1, text)
	if err != nil {
		t.Fatal(err)
	}
	return &f
}

func TestFactsAreRead(t *testing.T) {
	session := Session{Device: "d.1", Epoch: "abcdefgh", Conn: 36, Since: 35, Platform: "web"}
	withAddr := session
	withAddr.Addr = "192.0.2.1"
	away := Standing{Status: Status{Show: ShowAway, Text: "at. lunch"}, Set: 37}
	for text, want := range map[string]Fact{
		"Sanna\x00d.1\x00abcdefgh.10.z.web":                                {Kind: Put, User: "anna", Session: session},
		"Sanna\x00d.1\x00abcdefgh.10.z.web\x00192.0.2.1":                   {Kind: Put, User: "anna", Session: withAddr},
		"Sanna\x00d.1\x00abcdefgh.10.z.web\x00192.0.2.1\x00a11..at. lunch": {Kind: Put, User: "anna", Session: withAddr, Status: away},
		"Danna\x00d.1\x0010\x00logout":                                     {Kind: Ended, User: "anna", Session: Session{Device: "d.1"}, At: time.UnixMilli(36), Cause: CauseLogout},
		"Tanna\x00a11..at. lunch":                                          {Kind: StatusSet, User: "anna", Status: away},
		"Tanna\x00":                                                        {Kind: StatusSet, User: "anna"},
		"Tanna\x00i11.12.":                                                 {Kind: StatusSet, User: "anna", Status: Standing{Status: Status{Show: ShowInvisible}, Set: 37, Hidden: 38}},
		"Xabcdefgh\x0010\x00fenced":                                        {Kind: EpochDead, Epoch: "abcdefgh", At: time.UnixMilli(36), Cause: CauseFenced},
		"Cabcdefgh":                                                        {Kind: EpochDone, Epoch: "abcdefgh"},
		"?of a later version":                                              {Kind: '?'},
	} {
		want.Revision = 7
		if got, err := Parse(7, text); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "Sanna", "Sanna\x00d\x00abc", "Sanna\x00d\x00abc.!.1", "Sanna\x00d\x00abc.1.1\x00\x00zz", "Danna\x00d\x00!", "Tanna\x00x", "Xabc"} {
		if f, err := Parse(1, text); !errors.Is(err, errMalformed) {
			t.Errorf("%q: %+v, %v", text, f, err)
		}
	}
}

// step is a fact and what it makes of a user.
type step struct {
	fact    string
	changed bool
	devices string // with their epochs
	seen    int64
}

func TestFoldOfFacts(t *testing.T) {
	for name, steps := range map[string][]step{
		"login, repeated fact, logout": {
			{"Su\x00a\x00e1.1.1", true, "a@e1", 0},
			{"Su\x00a\x00e1.1.1", false, "a@e1", 0},
			{"Du\x00a\x00rs\x00logout", true, "", 1}, // rs is 1000 ms
			{"Du\x00a\x00rs\x00logout", false, "", 1},
		},
		"a device moves, and its old gateway dies": {
			{"Su\x00a\x00e1.1.1", true, "a@e1", 0},
			{"Su\x00b\x00e1.2.2", true, "a@e1 b@e1", 0},
			{"Su\x00a\x00e2.1.3", true, "a@e2 b@e1", 0},
			{"Xe1\x00rs\x00expired", true, "a@e2", 1},
			{"Xe1\x00rs\x00expired", false, "a@e2", 1},
			{"Xe2\x001jk\x00expired", true, "", 2},
		},
		"what ended before the last end does not change when the user was seen": {
			{"Su\x00a\x00e1.1.1", true, "a@e1", 0},
			{"Su\x00b\x00e2.2.2", true, "a@e1 b@e2", 0},
			{"Du\x00a\x001jk\x00closed", true, "b@e2", 2},
			{"Xe2\x00rs\x00fenced", true, "", 2},
		},
		"an invisible user leaves no trace": {
			{"Su\x00a\x00e1.1.1\x00\x00i1.5.", true, "a@e1", 0},
			{"Du\x00a\x00rs\x00logout", true, "", 5},
			{"Tu\x00", true, "", 5},
			{"Du\x00b\x001jk\x00logout", false, "", 5},
		},
		"a session on an epoch that is not meant stays": {
			{"Su\x00a\x00e1.1.1", true, "a@e1", 0},
			{"Xe10\x00rs\x00expired", false, "a@e1", 0},
			{"Ce1", false, "a@e1", 0},
			{"?", false, "a@e1", 0},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var s State
			for i, step := range steps {
				before := s
				frozen := append([]Session(nil), s.Sessions...)
				changed := s.Apply(parse(t, step.fact))
				var devices []string
				for _, o := range s.Sessions {
					devices = append(devices, o.Device+"@"+string(o.Epoch))
				}
				if changed != step.changed || strings.Join(devices, " ") != step.devices || s.LastSeen != step.seen {
					t.Fatalf("step %d: changed %v, sessions %v, last seen %d", i, changed, devices, s.LastSeen)
				}
				if len(frozen) > 0 && !reflect.DeepEqual(frozen, before.Sessions) {
					t.Fatalf("step %d changed a copy of the state", i)
				}
			}
		})
	}
}

func TestVisible(t *testing.T) {
	now, week := time.Unix(1000000, 0), 7*24*time.Hour
	busy := &Standing{Status: Status{Show: ShowBusy, Text: "writing"}, Set: 1}
	hidden := func(at int64) *Standing {
		return &Standing{Status: Status{Show: ShowInvisible, Text: "hush"}, Hidden: at}
	}
	for name, c := range map[string]struct {
		online   bool
		status   *Standing
		lastSeen int64
		want     View
	}{
		"online":                           {true, &Standing{}, 5, View{Online: true, Show: ShowOnline}},
		"busy":                             {true, busy, 5, View{Online: true, Show: ShowBusy, Text: "writing"}},
		"offline":                          {false, busy, 999000, View{LastSeen: 999000}},
		"never seen":                       {false, busy, 0, View{}},
		"seen just within the retention":   {false, &Standing{}, 1000000 - 7*24*3600, View{LastSeen: 1000000 - 7*24*3600}},
		"forgotten":                        {false, &Standing{}, 1000000 - 7*24*3600 - 1, View{}},
		"invisible and connected":          {true, hidden(999000), 999500, View{LastSeen: 999000}},
		"invisible and gone":               {false, hidden(999000), 999500, View{LastSeen: 999000}},
		"invisible before ever being seen": {true, hidden(0), 999500, View{}},
		"invisible for longer than is remembered": {true, hidden(1000000 - 7*24*3600 - 1), 999500, View{}},
	} {
		if got := Visible(c.online, c.status, c.lastSeen, now, week); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestStatusIsChecked(t *testing.T) {
	for _, s := range []Status{{}, {Show: ShowOnline}, {ShowAway, "в пути"}, {ShowInvisible, ""}, {ShowBusy, strings.Repeat("x", MaxTextBytes)}} {
		if err := s.Check(); err != nil {
			t.Errorf("%+v: %v", s, err)
		}
	}
	for _, s := range []Status{{Show: "gone"}, {ShowAway, "a\nb"}, {ShowAway, "a\x00b"}, {ShowAway, "\xff"}, {ShowBusy, strings.Repeat("x", MaxTextBytes+1)}} {
		if err := s.Check(); !errors.Is(err, ErrInvalidStatus) {
			t.Errorf("%+v: %v", s, err)
		}
	}
}
