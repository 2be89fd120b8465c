package store

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imcluster/imcluster/presence/feed"
)

// platformBytes is how much of a platform is kept: the value of a session must stay within 64 bytes, or its hash turns
// into a hash table.
const platformBytes = 16

// Register makes the session the one of its device, whatever was there before, and tells what waits for the device. Messages
// that are not part of what waits are appended later, and whoever appends them sees the session.
//
// It waits at most Config.OpTimeout and what an attempt takes. ErrUnavailable and ErrFenced mean that the outcome was or
// will be undone: the session is not registered. When ctx ends first, likewise. ErrRevoked and ErrTooManyDevices: it was
// refused.
func (m *Member) Register(ctx context.Context, session Session) (Login, error) {
	if len(session.Platform) > platformBytes {
		session.Platform = strings.ToValidUTF8(session.Platform[:platformBytes], "")
	}
	if session.Status != nil {
		if err := session.Status.Check(); err != nil {
			return Login{}, fmt.Errorf("register session: %w", err)
		}
	}
	l := m.lanes
	o := newOp(opRegister, Partition(session.User), session)
	o.deadline = o.queued.Add(m.store.cfg.OpTimeout)
	o.setStatus(session.Status)
	o.finish = finishRegister
	l.push(o)
	select {
	case <-o.done:
	case <-ctx.Done():
		if l.abandon(o) {
			return Login{}, fmt.Errorf("register session: %w", context.Cause(ctx))
		}
		<-o.done
	}
	reply, err := textOf(o.reply), o.err
	o.free()
	if err != nil {
		return Login{}, fmt.Errorf("register session: %w", err)
	}
	login := parseLogin(reply, session.Device)
	if p := login.Previous; p != nil && p.Epoch.External() {
		login.Previous = nil // nobody there closes it
	}
	return login, nil
}

// parseLogin reads "+<since> <next> <tail> <missed> <session that was replaced> <status>", of which the status may be missing, and
// perhaps "\x00" and epochs, each after a space.
func parseLogin(reply, device string) (login Login) {
	login.Status.Show = feed.ShowOnline
	reply, gateways, _ := strings.Cut(reply, "\x00")
	login.Gateways = parseGateways(gateways)
	fields := strings.SplitN(strings.TrimPrefix(reply, "+"), " ", 6)
	if len(fields) < 5 {
		return login
	}
	if ms, err := strconv.ParseInt(fields[0], 36, 64); err == nil {
		login.Since = time.UnixMilli(ms)
	}
	login.Next, login.Tail, login.Missed = seqOf(fields[1]), seqOf(fields[2]), int(seqOf(fields[3]))
	if e, ok := parseEntry(fields[4]); ok {
		login.Previous = &Holder{Epoch: e.epoch, Conn: e.conn, Device: device, Platform: e.platform, Since: e.since}
	}
	if len(fields) == 6 {
		if s, err := feed.ParseStanding(fields[5]); err == nil {
			login.Status, login.StatusSet = s.Status, s.Set
		}
	}
	return login
}

// abandon tells that nobody waits for a register any more. It returns false if it is finished: then done is or will be sent.
func (l *lanes) abandon(o *op) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	o.abandoned = !o.finished
	return o.abandoned
}

func finishRegister(l *lanes, o *op, reply any, err error) {
	switch textOf(reply) {
	case "R":
		err = ErrRevoked
	case "T":
		err = ErrTooManyDevices
	}
	l.mu.Lock()
	o.finished, o.reply, o.err = true, reply, err
	abandoned := o.abandoned
	if err == nil {
		prev := parseLogin(textOf(reply), "").Previous
		if prev == nil || prev.Epoch != l.member.Epoch() {
			l.parts[o.part].count++
		}
	}
	undo := abandoned && err == nil || err != nil && o.sent && classify(err) != fatal
	session := o.session
	l.mu.Unlock()
	if undo {
		l.member.Unregister(session, time.Now(), feed.CauseError)
	}
	if abandoned {
		o.free()
	} else {
		o.done <- struct{}{} // its caller frees it
	}
}

// refusal is why an op is given up.
func (o *op) refusal() error {
	if o.err != nil {
		return o.err
	}
	return ErrUnavailable
}

// Unregister ends a session that was registered; at is when it ended, and cause why. It never blocks. It is remembered until
// Redis has confirmed it, however long that takes, and does nothing there if the device has another session by then.
func (m *Member) Unregister(session Session, at time.Time, cause feed.Cause) {
	o := newOp(opUnregister, Partition(session.User), session)
	o.endedAt, o.cause = at.UnixMilli(), cause
	o.finish = finishUnregister
	l := m.lanes
	l.mu.Lock()
	if ended := l.parts[o.part].ended; ended != nil {
		ended[session.Conn] = struct{}{}
	}
	ok := l.pushLocked(o)
	l.mu.Unlock()
	if !ok {
		o.free()
	}
}

func finishUnregister(l *lanes, o *op, reply any, err error) {
	defer o.free()
	if err != nil {
		l.store.log.Error("a session could not be unregistered; it stays until its gateway ends", "error", err)
		return
	}
	text := textOf(reply)
	l.mu.Lock()
	defer l.mu.Unlock()
	q := &l.parts[o.part]
	if o.kind == opUnregister && text != "O" {
		q.count--
	}
	if text == "S" && !q.splitting {
		l.pushSplit(o.part)
	}
}

// pushSplit queues the split of a bucket of last seen; l.mu must be held.
func (l *lanes) pushSplit(part int) {
	q := &l.parts[part]
	o := newOp(opSplit, part, Session{})
	o.buckets, o.finish = q.buckets, finishSplit
	q.splitting = l.pushLocked(o)
}

func finishSplit(l *lanes, o *op, reply any, err error) {
	part := o.part
	o.free()
	n, more := strings.CutSuffix(textOf(reply), "!")
	if err == nil {
		l.setBuckets(part, n)
	} else {
		l.store.log.Error("a bucket of last seen could not be split", "error", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.parts[part].splitting = false
	if more {
		l.pushSplit(part)
	}
}

func (l *lanes) buckets(part int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.parts[part].buckets
}

func (l *lanes) setBuckets(part int, text string) {
	n, err := strconv.Atoi(text)
	if err != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.parts[part].buckets = max(1, n)
}

// complete records an op and finishes it. It must not be used by the caller any more.
func (l *lanes) complete(o *op, reply any, err error) {
	l.store.metrics.op(o.kind, time.Since(o.queued), err)
	o.finish(l, o, reply, err)
}

// Locate finds where the devices of a user are connected, those on live gateways only. It is ordered behind what was
// registered and unregistered for the user before. done is called once, perhaps before Locate returns, and must not block.
func (m *Member) Locate(user string, done func([]Holder, error)) {
	o := newOp(opLocate, Partition(user), Session{User: user})
	o.deadline = o.queued.Add(m.store.cfg.OpTimeout)
	o.locate = done
	o.finish = finishLocate
	m.lanes.push(o)
}

func finishLocate(l *lanes, o *op, reply any, err error) {
	done := o.locate
	o.free()
	if err != nil {
		done(nil, fmt.Errorf("locate user: %w", err))
		return
	}
	fields, _ := reply.([]any)
	l.member.located(holders(fields), done)
}

// holders reads the sessions in the hash of a user.
func holders(fields []any) []Holder {
	var list []Holder
	for i := 0; i+1 < len(fields); i += 2 {
		device, ok := strings.CutPrefix(textOf(fields[i]), "s")
		if !ok {
			continue
		}
		if e, ok := parseEntry(textOf(fields[i+1])); ok {
			list = append(list, Holder{Epoch: e.epoch, Conn: e.conn, Device: device, Platform: e.platform, Since: e.since})
		}
	}
	return list
}

// located answers with the holders on live epochs. A holder on an epoch that is younger than the last look at the lease
// table waits for the next look.
func (m *Member) located(list []Holder, done func([]Holder, error)) {
	v := m.view.Load()
	unknown := slices.ContainsFunc(list, func(h Holder) bool {
		_, ok := v.table.deadlines[h.Epoch]
		return !ok && !h.Epoch.External()
	})
	if unknown {
		m.mu.Lock()
		wait := m.running
		if wait {
			m.waiting = append(m.waiting, waiter{list, done, time.Now()})
		}
		m.mu.Unlock()
		if wait {
			m.kick()
			return
		}
	}
	done(v.live(list), nil)
}
