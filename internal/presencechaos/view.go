package presencechaos

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	presencev1 "github.com/imcluster/imcluster/api/presence/v1"
	"github.com/imcluster/imcluster/client"
	"github.com/imcluster/imcluster/presence/store"
)

// view is how somebody sees a user.
type view struct {
	State        State
	Status, Text string
	Devices      string // ids
	LastSeen     int64  // Unix seconds; 0 if it is not told
}

func (v view) String() string {
	text := string(v.State)
	if v.Status != "" {
		text += fmt.Sprintf(" %s %q", v.Status, v.Text)
	}
	if v.Devices != "" {
		text += " on " + v.Devices
	}
	if v.LastSeen != 0 {
		text += fmt.Sprintf(" since %d", v.LastSeen)
	}
	return text
}

// stateOf puts a state and its reason together.
func stateOf(state, reason string) State {
	if state == string(store.Unknown) {
		return State(reason)
	}
	return State(state)
}

func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func viewOf(u *client.UserPresence) view {
	v := view{State: stateOf(string(u.State), u.Reason), Status: string(u.Status), Text: u.Text, LastSeen: seconds(u.LastSeen)}
	var ids []string
	for _, d := range u.Devices {
		ids = append(ids, d.ID+"@"+d.Gateway)
	}
	v.Devices = strings.Join(ids, " ")
	return v
}

func viewOfStore(u *store.User) view {
	v := view{State: stateOf(string(u.State), string(u.Reason)), Status: u.Status, Text: u.Text, LastSeen: seconds(u.LastSeen)}
	var ids []string
	for _, d := range u.Devices {
		ids = append(ids, d.ID+"@"+d.Gateway)
	}
	v.Devices = strings.Join(ids, " ")
	return v
}

func viewOfProto(u *presencev1.User) view {
	v := view{Text: u.GetText(), LastSeen: u.GetLastSeenMs() / 1000}
	switch {
	case u.GetState() == presencev1.State_STATE_ONLINE:
		v.State = Online
		v.Status = strings.ToLower(strings.TrimPrefix(u.GetStatus().String(), "STATUS_"))
	case u.GetState() == presencev1.State_STATE_OFFLINE:
		v.State = Offline
	case u.GetReason() == presencev1.Reason_REASON_NEVER_SEEN:
		v.State = NeverSeen
	default:
		v.State = Unavailable
	}
	var ids []string
	for _, d := range u.GetDevices() {
		ids = append(ids, d.GetId()+"@"+d.GetGateway())
	}
	v.Devices = strings.Join(ids, " ")
	return v
}

// fold is what somebody who is told of changes knows.
type fold struct {
	observer string
	rec      *recorder
	all      bool // of everybody: who is not told of is not online

	mu     sync.Mutex
	users  map[string]view // guarded by mu
	coming map[string]view // of a snapshot that goes on; guarded by mu
	events int             // guarded by mu
}

func newFold(observer string, rec *recorder, all bool) *fold {
	return &fold{observer: observer, rec: rec, all: all, users: map[string]view{}}
}

// tell takes an event: with snapshot the users are all that there are, unless more of them come. While it is degraded, who was
// online is told to be, as long as nothing else is known.
func (f *fold) tell(users map[string]view, from, to time.Time, snapshot, more, degraded bool) {
	for name, v := range users {
		if degraded && v.State == Online {
			continue
		}
		f.rec.add(Event{Kind: Told, Observer: f.observer, User: name, State: v.State, From: from, To: to})
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events++
	if !snapshot {
		maps.Copy(f.users, users)
		return
	}
	if f.coming == nil {
		f.coming = map[string]view{}
	}
	if maps.Copy(f.coming, users); !more {
		f.users, f.coming = f.coming, nil
	}
}

// relist forgets a snapshot that was not whole.
func (f *fold) relist() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.coming = nil
}

// of tells how the user is.
func (f *fold) of(user string) view {
	f.mu.Lock()
	defer f.mu.Unlock()
	if v, ok := f.users[user]; ok || !f.all {
		return v
	}
	return view{State: Absent}
}

// online lists who is online.
func (f *fold) online() (list []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, v := range f.users {
		if v.State == Online {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}
