package chaos

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/internal/chaos/check"
)

// Result is what came of a schedule.
type Result struct {
	History    []check.Event
	Violations []check.Violation
	// Err is a failure of the harness, or of a process: the history says nothing then.
	Err error
}

// Failed tells whether a promise was broken, or could not be judged.
func (r Result) Failed() bool { return r.Err != nil || len(r.Violations) > 0 }

// run is a schedule that runs.
type run struct {
	w        *World
	schedule Schedule
	opts     check.Options
	rec      *recorder
	name     string
	ctx      context.Context
	dials    sync.WaitGroup
	moves    chan Device // devices that were told to connect elsewhere

	// Owned by the goroutine that runs the steps.
	messages map[int][]*sent // by user
	count    int
	obey     time.Duration // the longest delay before a connection elsewhere that clients accept

	mu      sync.Mutex
	devices map[Device]*device       // guarded by mu
	asked   map[string][]check.Event // by requestId; guarded by mu
	answers map[string]int           // the best answer to a message: 200 or the last one; guarded by mu
	all     []*client                // guarded by mu
}

// sent is a message as it was sent first.
type sent struct {
	frame   *frame
	forGood bool // it is refused for good
	tried   time.Time
}

// device is a device of a user of the schedule.
type device struct {
	acking  acking
	dialing int
	turns   int
	client  *client   // the latest connection; nil: none
	left    []*client // connections that the device has given up, but that may be open
}

// Run runs a schedule: first its steps, then everything is healed, every device connects, and what is due must arrive.
func (w *World) Run(ctx context.Context, s Schedule, opts check.Options) Result {
	r := w.newRun(ctx, s, opts)
	defer r.end()
	err := r.setUp()
	if err == nil {
		for _, step := range s.Steps {
			r.wait(step.After)
			r.step(step)
		}
		err = r.settle()
	}
	return r.result(err)
}

func (w *World) newRun(ctx context.Context, s Schedule, opts check.Options) *run {
	rec, name := w.begin()
	return &run{
		w: w, schedule: s, opts: opts, rec: rec, name: name, ctx: ctx, moves: make(chan Device, 1000),
		messages: map[int][]*sent{}, devices: map[Device]*device{}, answers: map[string]int{}, asked: map[string][]check.Event{}, obey: 50 * time.Millisecond,
	}
}

// result judges the history. What still goes on in the background, after an error, uses the world: it is waited for.
func (r *run) result(err error) Result {
	if healed := r.w.heal(); err == nil {
		err = healed
	}
	h := r.rec.history()
	return Result{History: h, Violations: check.History(h, r.opts), Err: err}
}

// end cuts what is open.
func (r *run) end() {
	r.dials.Wait()
	r.mu.Lock()
	all := slices.Clone(r.all)
	r.mu.Unlock()
	for _, c := range all {
		c.cut()
	}
}

// wait lets time pass, in which clients are moved that were told to.
func (r *run) wait(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case dev := <-r.moves:
			r.move(dev)
		case <-timer.C:
			return
		}
	}
}

func (r *run) user(n int) string { return fmt.Sprintf("%s-u%d", r.name, n) }

func (r *run) group() string { return r.name + "-group" }

func (r *run) device(d Device) *device {
	r.mu.Lock()
	defer r.mu.Unlock()
	dev := r.devices[d]
	if dev == nil {
		dev = &device{acking: acking{verb: AckAll}}
		r.devices[d] = dev
	}
	return dev
}

// client returns the latest connection of a device; nil if there is none or it is not logged in.
func (r *run) client(d Device) *client {
	dev := r.device(d)
	r.mu.Lock()
	c := dev.client
	r.mu.Unlock()
	if c == nil || !c.online() {
		return nil
	}
	return c
}

// step does one step. What cannot be done, such as sending without a connection, is left out.
func (r *run) step(s Step) {
	switch s.Verb {
	case Login:
		r.login(s.Dev, s.Gateway)
	case SendTo:
		for range s.N {
			r.send(s.Dev, func(f *frame) { f.Type, f.ToID = tChat, r.user(s.To) }, false)
		}
	case SendGroup:
		for range s.N {
			r.send(s.Dev, func(f *frame) { f.Type, f.GroupID = tGroupChat, r.group() }, s.Dev.User == r.schedule.Users-1)
		}
	case Forge:
		r.send(s.Dev, func(f *frame) { f.Type, f.ToID, f.FromID = tChat, r.user(s.To), r.user(s.To) }, true)
	case Outsider:
		r.send(s.Dev, func(f *frame) { f.Type, f.GroupID = tGroupChat, r.group()+"-other" }, true)
	case Resend:
		if c := r.client(s.Dev); c != nil {
			list := r.messages[s.Dev.User]
			for _, m := range list[max(0, len(list)-s.N):] {
				r.transmit(c, m)
			}
		}
	case Join:
		r.change(s.Dev, wire.GroupAdd, s.To)
	case Part:
		if s.Dev.User != 0 { // the owner cannot
			r.change(s.Dev, wire.GroupRemove, s.Dev.User)
		}
	case AckAll, AckLate, AckSome, AckNone:
		r.setAcking(s.Dev, acking{s.Verb, s.For})
	case Logout, Close, Cut, Blackhole, Mute, Thaw:
		r.disconnect(s)
	default:
		r.w.do(s)
	}
}

// answer returns the code that a message or request was answered with, 200 if it ever was; 0 for no answer.
func (r *run) answer(id string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.answers[id]
}

// change asks for somebody to join or leave the group.
func (r *run) change(d Device, action string, user int) {
	c := r.client(d)
	if c == nil {
		return
	}
	r.count++
	r.ask(c, &frame{Type: tGroup, Action: action, GroupID: r.group(), Users: []string{r.user(user)}, RequestID: fmt.Sprintf("r%d", r.count)})
}

// ask sends a request about a group's members, whose answer is recorded.
func (r *run) ask(c *client, f *frame) {
	var list []check.Event
	for _, u := range f.Users {
		list = append(list, check.Event{Kind: check.MemberSent, Message: f.RequestID, Group: f.GroupID, User: u, Joins: f.Action != wire.GroupRemove})
	}
	r.mu.Lock()
	r.asked[f.RequestID] = list
	r.mu.Unlock()
	for _, e := range list {
		r.rec.add(e)
	}
	c.send(f)
}

func (r *run) setAcking(d Device, a acking) {
	dev := r.device(d)
	r.mu.Lock()
	dev.acking = a
	c := dev.client
	r.mu.Unlock()
	if c != nil {
		c.setAcking(a)
	}
}

// login connects in the background, since a gateway that is stopped does not answer.
func (r *run) login(d Device, gateway int) {
	addr, label := r.w.address(gateway)
	if addr == "" {
		return
	}
	dev := r.device(d)
	r.mu.Lock()
	dev.dialing++
	a := dev.acking
	r.mu.Unlock()
	r.dials.Go(func() {
		c, err := connect(r.ctx, r.rec, addr, label, r.user(d.User), fmt.Sprintf("d%d", d.Device), a, func(c *client, f *frame) { r.receive(d, c, f) })
		r.mu.Lock()
		defer r.mu.Unlock()
		if dev.dialing--; err != nil {
			return // the gateway is not there now
		}
		if dev.client != nil {
			dev.left = append(dev.left, dev.client)
		}
		dev.client = c
		r.all = append(r.all, c)
	})
}

// receive runs on the reader of a client.
func (r *run) receive(d Device, _ *client, f *frame) {
	switch f.Type {
	case tReconnect:
		time.AfterFunc(min(time.Duration(f.DelayMS)*time.Millisecond, r.obey), func() {
			select {
			case r.moves <- d:
			default:
			}
		})
	case tGroupResp:
		r.mu.Lock()
		list := r.asked[f.RequestID]
		r.answers[f.RequestID] = f.Code
		r.mu.Unlock()
		for _, e := range list {
			if e.Kind = check.MemberOK; f.Code == 200 {
				r.rec.add(e)
			}
		}
	case tChatResp, tGroupChatResp:
		r.mu.Lock()
		if r.answers[f.ClientMsgID] != 200 {
			r.answers[f.ClientMsgID] = f.Code
		}
		r.mu.Unlock()
	}
}

// move connects a device to the next gateway. The connection before is left to its gateway, or closed first.
func (r *run) move(d Device) {
	dev := r.device(d)
	r.mu.Lock()
	dev.turns++
	turn, c := dev.turns, dev.client
	r.mu.Unlock()
	if c != nil && turn%2 == 0 {
		c.leave(false)
	}
	r.login(d, d.User+turn)
}

// send sends a new message, with a content that must not be changed: package json would write it in another way.
func (r *run) send(d Device, address func(*frame), forGood bool) {
	c := r.client(d)
	if c == nil {
		return
	}
	r.count++
	name := fmt.Sprintf("m%d", r.count)
	f := &frame{ClientMsgID: name, FromID: c.user}
	f.Content = fmt.Appendf(nil, `{ "body" : "%s <&> \u00e9é %s", "n":1.50e+3 }`, name, strings.Repeat("x", []int{0, 0, 100, 3000}[r.count%4]))
	address(f)
	m := &sent{frame: f, forGood: forGood}
	r.messages[d.User] = append(r.messages[d.User], m)
	r.transmit(c, m)
}

func (r *run) transmit(c *client, m *sent) {
	m.tried = time.Now()
	f := m.frame
	c.event(check.Sent, func(e *check.Event) {
		e.Message, e.To, e.Group, e.Content = f.ClientMsgID, f.ToID, f.GroupID, string(f.Content)
	})
	c.send(f)
}

func (r *run) disconnect(s Step) {
	dev := r.device(s.Dev)
	r.mu.Lock()
	c, left := dev.client, slices.Clone(dev.left)
	if c != nil && (s.Verb == Blackhole || s.Verb == Cut || s.Verb == Logout || s.Verb == Close) {
		dev.client, dev.left = nil, append(dev.left, c)
	}
	r.mu.Unlock()
	if s.Verb == Thaw {
		for _, old := range append(left, c) {
			if old != nil {
				old.link.hold(false, false)
			}
		}
		return
	}
	if c == nil {
		return
	}
	switch s.Verb {
	case Logout, Close:
		c.leave(s.Verb == Logout)
	case Cut:
		c.cut()
	case Blackhole:
		c.link.hold(true, true)
	case Mute:
		c.link.hold(true, false)
	}
}
