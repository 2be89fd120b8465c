package feed

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Epoch identifies one incarnation of a gateway process: 48 random bits as 8 characters of base64url. Nothing needs an
// order of epochs, and a counter would repeat itself after a data loss.
type Epoch string

// External tells whether the epoch is that of a chat server that is no gateway of ours, whose users are registered through
// the API. Such an epoch registers nothing again after a loss of data.
func (e Epoch) External() bool { return strings.HasPrefix(string(e), "~") }

// Kind is what a fact is about.
type Kind byte

// Kinds of facts, each the first byte of its text.
const (
	// Put: a session was put in its place, by a login, a move or a new registration under another value.
	Put Kind = 'S'
	// Ended: a session was removed by its gateway.
	Ended Kind = 'D'
	// StatusSet: the status of a user was set.
	StatusSet Kind = 'T'
	// EpochDead: the epoch of a gateway has ended, and with it all its sessions in the partition.
	EpochDead Kind = 'X'
	// EpochDone: an epoch has registered all its sessions in this generation of the partition.
	EpochDone Kind = 'C'
)

// Cause says why a session, or the epoch under it, has ended.
type Cause string

// Causes for [Ended].
const (
	CauseLogout   Cause = "logout"   // the client logged out, or closed the connection in the regular way
	CauseClosed   Cause = "closed"   // the connection was lost, and nobody came back within the grace
	CauseIdle     Cause = "idle"     // nothing was received for the idle timeout, and nobody came back
	CauseReplaced Cause = "replaced" // the device logged in elsewhere
	CauseKicked   Cause = "kicked"   // the server closed the connection for what the client did
	CauseRevoked  Cause = "revoked"  // the session was revoked, or its token expired
	CauseDrained  Cause = "drained"  // the gateway asked the client to move, and it did not
	CauseError    Cause = "error"    // a fault of the server, or a login whose answer was lost
)

// Causes for [EpochDead].
const (
	CauseExpired Cause = "expired" // the gateway was not heard of for its lease
	CauseFenced  Cause = "fenced"  // its end was reported
	CauseLeft    Cause = "left"    // it drained and went
	CauseLost    Cause = "lost"    // the lease table was lost, and the gateway did not come back
)

// Fact is one change of a partition.
type Fact struct {
	// Revision is the number of the fact in its partition and generation. The first is 1.
	Revision uint64
	Kind     Kind
	// User is whom it is about, of Put, Ended and StatusSet.
	User string
	// Session is the one that was put; of Ended only its Device is known.
	Session Session
	// At is when the session, or the lease of the epoch, ended: of Ended and EpochDead, in ms.
	At    time.Time
	Cause Cause
	// Status is that of the user from now on, of Put and StatusSet.
	Status Standing
	// Epoch is what EpochDead and EpochDone are about.
	Epoch Epoch
}

var errMalformed = errors.New("malformed fact")

// Parse reads the text of a fact. The strings of the fact share the memory of the text.
func Parse(revision uint64, text string) (Fact, error) {
	f := Fact{Revision: revision}
	if text == "" {
		return f, errMalformed
	}
	f.Kind = Kind(text[0])
	first, rest, _ := strings.Cut(text[1:], "\x00")
	var err error
	switch f.Kind {
	case Put:
		f.User = first
		err = f.parsePut(rest)
	case Ended:
		f.User = first
		device, rest, _ := strings.Cut(rest, "\x00")
		f.Session.Device = device
		err = f.parseEnd(rest)
	case StatusSet:
		f.User = first
		f.Status, err = ParseStanding(rest)
	case EpochDead:
		f.Epoch = Epoch(first)
		err = f.parseEnd(rest)
	case EpochDone:
		f.Epoch = Epoch(first)
	default: // of a later version, and so nothing that concerns this one
	}
	if err != nil {
		return Fact{}, fmt.Errorf("%w %d: %w", errMalformed, revision, err)
	}
	return f, nil
}

// parsePut reads "<device>\0<session>\0<address>\0<status>", of which the last two may be missing.
func (f *Fact) parsePut(text string) (err error) {
	device, text, _ := strings.Cut(text, "\x00")
	value, text, _ := strings.Cut(text, "\x00")
	addr, status, _ := strings.Cut(text, "\x00")
	if f.Session, err = ParseSession(device, value); err != nil {
		return err
	}
	f.Session.Addr = addr
	f.Status, err = ParseStanding(status)
	return err
}

// parseEnd reads "<when>\0<cause>".
func (f *Fact) parseEnd(text string) error {
	at, cause, _ := strings.Cut(text, "\x00")
	ms, err := strconv.ParseInt(at, 36, 64)
	f.At, f.Cause = time.UnixMilli(ms), Cause(cause)
	return err
}
