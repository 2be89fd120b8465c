package feed

import (
	"slices"
	"strings"
)

// State is what the facts tell of one user. The zero State is that of a user of whom there are none.
type State struct {
	// Sessions are sorted by device. They are never changed in place: copies of a State stay as they are.
	Sessions []Session
	Status   Standing
	// LastSeen is the unix second at which the last session ended that the fold saw end; 0 if it saw none. Ends before the
	// user was loaded are in Redis alone.
	LastSeen int64
}

// Apply folds a fact that concerns the user: one about the user, or EpochDead of any epoch. It returns whether the state
// has changed. Facts are absolute: those that the state contains already may be applied again, in their order.
func (s *State) Apply(f *Fact) bool {
	switch f.Kind {
	case Put:
		at, found := s.find(f.Session.Device)
		same := found && s.Sessions[at] == f.Session && s.Status == f.Status
		if same {
			return false
		}
		s.setStatus(f.Status)
		sessions := slices.Clone(s.Sessions)
		if found {
			sessions[at] = f.Session
		} else {
			sessions = slices.Insert(sessions, at, f.Session)
		}
		s.Sessions = sessions
		return true
	case Ended:
		at, found := s.find(f.Session.Device)
		seen := s.seen(f.At.Unix())
		if found {
			s.Sessions = slices.Delete(slices.Clone(s.Sessions), at, at+1)
		}
		return found || seen
	case StatusSet:
		if s.Status == f.Status {
			return false
		}
		s.setStatus(f.Status)
		return true
	case EpochDead:
		left := make([]Session, 0, len(s.Sessions))
		for i := range s.Sessions {
			if s.Sessions[i].Epoch != f.Epoch {
				left = append(left, s.Sessions[i])
				continue
			}
			s.seen(max(f.At.UnixMilli(), s.Sessions[i].Since) / 1000)
		}
		if len(left) == len(s.Sessions) {
			return false
		}
		s.Sessions = left
		return true
	default:
		return false
	}
}

// On tells whether a session of the user is on an epoch.
func (s *State) On(e Epoch) bool {
	return slices.ContainsFunc(s.Sessions, func(o Session) bool { return o.Epoch == e })
}

func (s *State) find(device string) (int, bool) {
	return slices.BinarySearchFunc(s.Sessions, device, func(o Session, d string) int { return strings.Compare(o.Device, d) })
}

// seen notes the end of a session, and returns whether it is later than what was known. What an invisible user does is not
// remembered, or it would show when the user becomes visible.
func (s *State) seen(at int64) bool {
	if s.Status.Invisible() {
		at = s.Status.Hidden
	}
	later := at > s.LastSeen
	s.LastSeen = max(s.LastSeen, at)
	return later
}

// setStatus sets the status. Who was invisible was last seen when they hid.
func (s *State) setStatus(to Standing) {
	if s.Status.Invisible() && !to.Invisible() {
		s.LastSeen = max(s.LastSeen, s.Status.Hidden)
	}
	s.Status = to
}
