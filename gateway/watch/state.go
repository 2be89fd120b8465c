package watch

import (
	"slices"
	"strings"
	"unique"

	presencev1 "github.com/imcluster/imcluster/api/presence/v1"
	"github.com/imcluster/imcluster/api/wire"
)

// State is how a user is, in 40 bytes. Two that are not equal are different for clients. It is never changed.
type State struct {
	state     presencev1.State
	reason    presencev1.Reason
	status    presencev1.Status
	lastSeen  int64 // Unix milliseconds
	text      string
	platforms unique.Handle[string] // joined; few there are
}

// platformSeparator cannot be part of a platform.
const platformSeparator = "\x00"

func stateOf(u *presencev1.User) State {
	s := State{state: u.GetState(), reason: u.GetReason(), status: u.GetStatus(), lastSeen: u.GetLastSeenMs(), text: u.GetText()}
	var platforms []string
	for _, d := range u.GetDevices() {
		if p := d.GetPlatform(); p != "" && !slices.Contains(platforms, p) {
			platforms = append(platforms, p)
		}
	}
	slices.Sort(platforms)
	s.platforms = unique.Make(strings.Join(platforms, platformSeparator))
	return s
}

// unavailable tells that the state could not be found out.
func (s *State) unavailable() bool {
	return s.state != presencev1.State_STATE_ONLINE && s.state != presencev1.State_STATE_OFFLINE &&
		s.reason != presencev1.Reason_REASON_NEVER_SEEN
}

// presence is the state of a user as clients are told it.
func (s *State) presence(user string) wire.Presence {
	p := wire.Presence{UserID: user, Text: s.text, LastSeen: s.lastSeen}
	if joined := s.platforms.Value(); joined != "" {
		p.Platforms = strings.Split(joined, platformSeparator)
	}
	switch s.state {
	case presencev1.State_STATE_ONLINE:
		p.State, p.Status = wire.StateOnline, statusName(s.status)
	case presencev1.State_STATE_OFFLINE:
		p.State = wire.StateOffline
	default:
		p.State, p.Reason = wire.StateUnknown, wire.ReasonUnavailable
		if !s.unavailable() {
			p.Reason = wire.ReasonNeverSeen
		}
	}
	return p
}

// Presence is what presence said of a user, as clients are told it.
func Presence(u *presencev1.User) wire.Presence {
	s := stateOf(u)
	return s.presence(u.GetUser())
}

func statusName(s presencev1.Status) string {
	switch s {
	case presencev1.Status_STATUS_AWAY:
		return wire.StatusAway
	case presencev1.Status_STATUS_BUSY:
		return wire.StatusBusy
	default:
		return wire.StatusOnline
	}
}
