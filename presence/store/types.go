package store

import (
	"errors"
	"iter"
	"time"

	"github.com/imcluster/imcluster/presence/feed"
)

// Errors that callers act on; what is returned wraps them.
var (
	// ErrUnavailable says that Redis could not be asked or did not answer in time. A write may have happened all the
	// same. Retry later.
	ErrUnavailable = errors.New("redis is unavailable")
	// ErrForeignOwner says that the keys belong to another IMCluster. Use another key prefix, or delete the owner key
	// if that IMCluster is gone.
	ErrForeignOwner = errors.New("the redis keys belong to another IMCluster")
	// ErrIncompatible says that the server is older than Redis 7.0 or that its data has another schema.
	ErrIncompatible = errors.New("the redis server or its data cannot be used")
	// ErrFenced says that the epoch that wrote has ended. [Member.Run] takes a new one; retry after that.
	ErrFenced = errors.New("the gateway's lease has ended")
	// ErrBanned says that the pod of this gateway is gone from the cluster: close the clients and exit.
	ErrBanned = errors.New("the gateway's pod is banned")
	// ErrInvalidCursor says that a cursor is not one that [Page] gave.
	ErrInvalidCursor = errors.New("the cursor is malformed")
	// ErrTooManyDevices says that so many devices of the user are connected that no other can log in
	// ([Config.MaxDevices]).
	ErrTooManyDevices = errors.New("too many devices of the user are connected")
	// ErrNoSession says that a session is not there any more: it was replaced, or ended.
	ErrNoSession = errors.New("the session has ended")
	// ErrStoreFull says that the memory of Redis is so full that no message is stored, so that presence always fits. The
	// message was not stored.
	ErrStoreFull = errors.New("the memory of redis is full")
	// ErrMailboxFull says that the mailbox is full of messages that nobody has read, and that the sender has more than
	// its share of it. The message was not stored.
	ErrMailboxFull = errors.New("the mailbox is full")
)

// Epoch identifies one incarnation of a gateway process.
type Epoch = feed.Epoch

// Status is what a user wants others to see.
type Status = feed.Status

// ErrInvalidStatus says that a status is none, and why.
var ErrInvalidStatus = feed.ErrInvalidStatus

// Identity is what a gateway tells about itself in its lease record.
type Identity struct {
	// PodName and PodUID are those of the pod. Joining fences all earlier epochs of the same PodUID.
	PodName, PodUID string
	// Address is the host:port on which peers reach the gateway.
	Address string
	// Version is the gateway's version, for people who look.
	Version string
	// Waiting says that the gateway takes no clients yet: not before [Member.SetServing].
	Waiting bool
}

// Session is one connected device of one user on the local gateway.
type Session struct {
	// User is 1 to 128 bytes, Device 1 to 64 bytes of UTF-8 without control characters.
	User, Device string
	// Platform is what the device called itself; may be empty. At most 16 bytes of it are kept.
	Platform string
	// Conn tells the connections of one gateway process apart; never reused within it.
	Conn uint64
	// Since is the login time by Redis' clock as [Member.Register] returned it, with millisecond precision.
	Since time.Time
	// Issued is when the token of the login was issued, zero if it does not say. TokenID is the token's id, empty if it
	// has none. Revocations are about them.
	Issued  time.Time
	TokenID string
	// Forget says, to [Member.Unregister], that the device is not to be known any more: nothing is due to it from then on.
	Forget bool
	// Addr is the IP address of the client; may be empty. It goes into the feed and is not kept.
	Addr string
	// Status is what the login sets, in the same step; nil leaves it as it was. Afterwards it is what the gateway knows, which
	// is put back with the session if Redis lost it, or has an older one.
	Status *Status
	// StatusSet is when the status was set, by Redis' clock, unix ms, as [Login] or [StatusChange] has it; 0 if nobody has set
	// any. Register ignores it.
	StatusSet int64
}

// Holder is where one device of a user is connected.
type Holder struct {
	Epoch            Epoch
	Conn             uint64
	Device, Platform string
	Since            time.Time
}

// Local is the gateway's own view of its sessions. The methods are called from the goroutines of [Member.Run].
type Local interface {
	// Sessions yields the sessions of the partition (see [Partition]) that are registered now, those within their
	// grace included. It is for re-registration after a data loss and must not hold locks while it yields.
	Sessions(partition int) iter.Seq[Session]
	// Count is the number of sessions, which the lease record reports.
	Count() int
	// Replaced tells that a newer session of the same device was found elsewhere while s was re-registered: the
	// gateway closes s as it does when a device logs in again. Must not block.
	Replaced(s Session)
	// Fenced tells that the lease had ended, before sessions are registered again under the new epoch: others were told that
	// their users are gone. Those whose connection is lost are to be given up, whatever is left of their grace. It may take a
	// moment.
	Fenced()
	// Suspect tells that messages may have been stored whose push was lost, or that never had one: compare the mailboxes
	// of all local sessions ([Member.Tails]). The reason is for logs and metrics. Must not block.
	Suspect(reason string)
	// Revoked tells which sessions have to end: the gateway closes those that r covers. It comes several times for the
	// same revocation, because a session may be on its way from Redis to the gateway. Must not block.
	Revoked(r Revocation)
}

// Peer is a live gateway incarnation.
type Peer struct {
	Epoch            Epoch
	PodName, Address string
	// Draining says that it moves its clients away, Waiting that it takes none yet.
	Draining, Waiting bool
	// Sessions is the number that the peer last reported: some 5 s ago, or a second if it drains.
	Sessions int
}

// State says whether a user is online.
type State string

// States of a user.
const (
	Online  State = "online"
	Offline State = "offline"
	Unknown State = "unknown"
)

// Reason says why the state of a user is [Unknown].
type Reason string

// Reasons for [Unknown].
const (
	// NeverSeen: the user never logged in, or so long ago that it is forgotten.
	NeverSeen Reason = "never_seen"
	// Unavailable: Redis could not be asked, or lost data that is not complete again.
	Unavailable Reason = "unavailable"
)

// Device is one online device of a user.
type Device struct {
	ID, Platform string
	// Gateway is the name of the pod that the device is connected to.
	Gateway   string
	LoginTime time.Time
}

// User is what is known of one user.
type User struct {
	ID     string
	State  State
	Reason Reason // only if State is Unknown
	// Status is online, away or busy, and Text what the user says about it, of who is online; empty otherwise.
	Status, Text string
	// LastSeen is when an offline user's last session ended, with second precision.
	LastSeen time.Time
	// Devices are those online, sorted by id.
	Devices []Device
}

// Page is a part of the list of online users.
type Page struct {
	Users []string
	// Next is the cursor of the next page; empty after the last one.
	Next string
	AsOf time.Time
	// Degraded is true while users may be missing.
	Degraded bool
}

// Counts says how many are online.
type Counts struct {
	// Users counts each user once, however many devices are online.
	Users int
	// Sessions counts devices.
	Sessions int
	// Gateways are the live gateways, sorted by pod name.
	Gateways []GatewayCount
	AsOf     time.Time
	// Degraded is true while the counts may be too low.
	Degraded bool
}

// GatewayCount is the number of sessions on one gateway pod.
type GatewayCount struct {
	Pod      string
	Sessions int
}

// Incarnation is an entry of the lease table.
type Incarnation struct {
	Epoch                    Epoch
	PodName, PodUID, Address string
	Draining                 bool
	// LeaseRemaining is how long the lease lasts without another renewal, in store time; not positive if it has ended
	// and waits for the reaper.
	LeaseRemaining time.Duration
	// Sessions is the number that the gateway last reported.
	Sessions int
}
