package replica

import (
	"errors"
	"time"

	"github.com/imcluster/imcluster/presence/store"
)

// Errors of [Replica.Watch].
var (
	// ErrRelist says that the token cannot be resumed from: it is for other users, of data that was lost, too old, or not
	// a token. Watch again without one, and take the snapshot for the whole truth. HTTP 410.
	ErrRelist = errors.New("the token cannot be resumed from; list again")
	// ErrBehind says that this pod does not know yet what the token does. Try again, or another pod. HTTP 503.
	ErrBehind = errors.New("this pod is behind the token")
	// ErrTooMany says that the pod has as many subscriptions as it takes ([Config.MaxSubscriptions]). Try another pod.
	ErrTooMany = errors.New("this pod has as many subscriptions as it takes")
	// ErrClosed says that the subscription, or the replica, was closed.
	ErrClosed = errors.New("the subscription is closed")
)

// Event is what [Subscription.Next] returns.
type Event struct {
	// Snapshot says that Users has all that were asked for since the last event, by Watch, Update or Replace. For a
	// subscription to everybody it may come in several events, all with Snapshot and all but the last with More; who is in none of
	// them is not online.
	Snapshot, More bool
	// Users who changed, each once, as they are now. Shared with other subscriptions: not to be modified.
	Users []store.User
	// Token resumes after this event. Empty with More, and before the first time that it is known of everybody what to tell.
	Token string
	// Bookmark says that nothing happened for 15 s, or that Degraded is another: Users is empty.
	Bookmark bool
	// Degraded says that changes of some of the users may be missed now. They will be told.
	Degraded bool
	// AsOf is Redis' clock when it was last asked.
	AsOf time.Time
}

// Brief is the state of a user in one byte.
type Brief uint8

// What a Brief says: a [store.State], or the reason why it is not known.
const (
	Unavailable Brief = iota
	NeverSeen
	Offline
	Online
)

// briefOf is the Brief of an answer.
func briefOf(u *store.User) Brief {
	switch {
	case u.State == store.Online:
		return Online
	case u.State == store.Offline:
		return Offline
	case u.Reason == store.NeverSeen:
		return NeverSeen
	}
	return Unavailable
}
