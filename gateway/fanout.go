package gateway

import (
	"errors"
	"slices"
	"sync"

	peerv1 "github.com/imcluster/imcluster/api/peer/v1"
	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/presence/store"
)

// maxFanOutBytes bounds the content of one message times its recipients.
const maxFanOutBytes = 4 << 20

var errTooMuch = wire.Errorf(wire.CodeTooMuch, "the content times the recipients exceeds %d bytes", maxFanOutBytes)

// fanOut stores one message for many users. Its pushes are grouped by gateway: one message, many targets.
type fanOut struct {
	g        *Gateway
	rec      *store.Record
	users    []string
	reserved int
	// done is called once, on the goroutine of a lane, when all is stored and pushed, or refused: with what became of
	// each, nil for those who have it.
	done func(outcomes []error)

	mu       sync.Mutex
	left     int
	outcomes []error
	pushes   map[store.Epoch]*peerv1.Push
}

// fanOut stores a message for users. It does not block, and may run on the goroutine of a lane: so what one client sends to
// a group arrives in the order in which it was sent.
func (g *Gateway) fanOut(member membership, rec *store.Record, users []string, done func(outcomes []error)) {
	f := &fanOut{g: g, rec: rec, users: users, done: done, left: len(users), outcomes: make([]error, len(users)),
		reserved: len(users) * pendingOverhead, pushes: map[store.Epoch]*peerv1.Push{}}
	switch {
	case len(rec.Data)*len(users) > maxFanOutBytes:
		f.refuse(errTooMuch)
	case len(users) == 0:
		done(nil)
	case !g.reserve(f.reserved):
		f.refuse(errBusy)
	default:
		for i, user := range users {
			g.store(member, user, rec, func(a store.Appended, err error) { f.stored(i, a, err) })
		}
	}
}

// refuse refuses the message for all.
func (f *fanOut) refuse(err error) {
	for i := range f.outcomes {
		f.outcomes[i] = err
	}
	f.done(f.outcomes)
}

// stored notes what became of the message for one user.
func (f *fanOut) stored(i int, a store.Appended, err error) {
	f.mu.Lock()
	f.outcomes[i] = err
	var full []store.Epoch
	if err == nil && !a.Duplicate {
		full = f.addLocked(f.users[i], a)
	}
	f.left--
	last := f.left == 0
	if last {
		full = nil
		for e := range f.pushes {
			full = append(full, e)
		}
	}
	ready := make([]*peerv1.Push, len(full))
	for k, e := range full {
		ready[k] = f.pushes[e]
		delete(f.pushes, e)
	}
	f.mu.Unlock()
	if err == nil && a.Duplicate {
		f.g.push(f.users[i], a.Holders, a.Tail, nil)
	}
	for k, e := range full {
		f.g.pushTo(e, ready[k])
	}
	if last {
		f.g.pendingBytes.Add(-int64(f.reserved))
		f.done(f.outcomes)
	}
}

// addLocked adds a user's sessions to the pushes, and returns the gateways whose push is full.
func (f *fanOut) addLocked(user string, a store.Appended) (full []store.Epoch) {
	if len(a.Holders) == 0 {
		f.g.metrics.pushes[routeNone].Add(1)
	}
	for i, h := range a.Holders {
		if slices.ContainsFunc(a.Holders[:i], func(o store.Holder) bool { return o.Epoch == h.Epoch }) {
			continue
		}
		p := f.pushes[h.Epoch]
		if p == nil {
			p = &peerv1.Push{MessageId: f.rec.ID[:], Data: f.rec.Data}
			f.pushes[h.Epoch] = p
		}
		t := &peerv1.Target{}
		aim(t, user, h.Epoch, a.Holders[i:], a.Seq)
		p.Targets = append(p.Targets, t)
		if len(p.Targets) >= maxTargets {
			full = append(full, h.Epoch)
		}
	}
	return full
}

// pushTo hands a push to a gateway, which may be this one.
func (g *Gateway) pushTo(e store.Epoch, p *peerv1.Push) {
	if g.isOwn(e) {
		g.metrics.pushes[routeLocal].Add(int64(len(p.Targets)))
		g.Deliver(p)
		return
	}
	g.metrics.pushes[routeRemote].Add(int64(len(p.Targets)))
	g.peers.Push(string(e), p)
}

// worst returns the failure that says most about when to try again: one that another attempt does not heal, or else any.
func worst(outcomes []error) (err error) {
	for _, o := range outcomes {
		if o != nil && (err == nil || codeOf(o) > codeOf(err)) {
			err = o
		}
	}
	return err
}

// codeOf returns the code that a refusal is answered with.
func codeOf(err error) wire.Code {
	if e, ok := errors.AsType[*wire.Error](err); ok {
		return e.Code
	}
	return wire.CodeInternal
}

func messageOf(err error) string {
	if e, ok := errors.AsType[*wire.Error](err); ok {
		return e.Message
	}
	return "a fault of the server"
}
