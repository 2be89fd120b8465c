package chaos

import (
	"fmt"
	"slices"
	"time"

	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/internal/chaos/check"
)

// Devices and users that no step names.
const (
	ownersDevice = 8  // of user 0: creates the group
	newDevice    = 9  // of every user: logs in for the first time when all is over
	stranger     = -1 // sends the last messages
)

// pollTime is how often the harness looks.
const pollTime = 5 * time.Millisecond

// until polls a condition.
func (r *run) until(limit time.Duration, condition func() bool) bool {
	for deadline := time.Now().Add(limit); !condition(); r.wait(pollTime) {
		if time.Now().After(deadline) || r.ctx.Err() != nil {
			return false
		}
	}
	return true
}

// patience is how long after the last trouble everything must have arrived.
func (r *run) patience() time.Duration { return r.w.cfg.Lease + r.w.cfg.Delivery }

// setUp makes the group, by a device of its owner that is away until the end.
func (r *run) setUp() error {
	owner := Device{User: 0, Device: ownersDevice}
	if !r.until(r.patience(), func() bool { return r.connected(owner, 0) }) {
		return fmt.Errorf("the first user could not log in")
	}
	members := make([]string, r.schedule.Users-1)
	for i := range members {
		members[i] = r.user(i)
	}
	c := r.client(owner)
	r.ask(c, &frame{Type: tGroup, Action: wire.GroupCreate, GroupID: r.group(), Users: members, RequestID: "r0"})
	if !r.until(r.patience(), func() bool { return r.answer("r0") != 0 }) {
		return fmt.Errorf("creating the group was not answered")
	}
	if code := r.answer("r0"); code != 200 {
		return fmt.Errorf("creating the group was answered with %d", code)
	}
	c.leave(true)
	if !r.until(r.patience(), func() bool { return !c.open() }) {
		return fmt.Errorf("a logout was not answered")
	}
	return nil
}

// connected makes sure that a device is connected, or on its way to a gateway, and tells whether it is.
func (r *run) connected(d Device, gateway int) bool {
	there, coming := r.whereabouts(d)
	if there || coming {
		return there
	}
	dev := r.device(d)
	r.mu.Lock()
	dev.turns++
	turn := dev.turns
	r.mu.Unlock()
	r.login(d, gateway+turn)
	return false
}

// whereabouts tells whether a device is connected, or waits for the answer of a gateway.
func (r *run) whereabouts(d Device) (there, coming bool) {
	dev := r.device(d)
	r.mu.Lock()
	c, dialing := dev.client, dev.dialing > 0
	r.mu.Unlock()
	return !dialing && c != nil && c.online(), dialing || c != nil && c.pending()
}

// settle ends the troubles. Then every device connects that is not connected, and must get what is due, in time;
// acknowledges everything, leaves, and comes back: then it must get the next message and nothing else.
func (r *run) settle() error {
	r.dials.Wait()
	if err := r.w.heal(); err != nil {
		return err
	}
	devices := r.known()
	for _, d := range devices {
		r.disconnect(Step{Verb: Thaw, Dev: d})
	}
	if r.opts.Cap > 0 { // a full mailbox takes nothing until something is acknowledged
		for _, d := range devices {
			r.setAcking(d, acking{verb: AckAll})
		}
	}
	if !r.until(r.patience(), func() bool { return r.arrived(devices) }) {
		r.rec.add(check.Event{Kind: check.Overdue})
		for _, d := range devices {
			r.disconnect(Step{Verb: Cut, Dev: d})
		}
		if !r.until(r.patience(), func() bool { return r.arrived(devices) }) {
			return r.unsettled(devices)
		}
	}
	for _, d := range devices {
		r.setAcking(d, acking{verb: AckAll})
	}
	if !r.until(r.patience(), func() bool { return r.allSettled(devices) }) {
		return fmt.Errorf("some acknowledgements were not answered")
	}
	if err := r.leaveAll(devices); err != nil {
		return err
	}
	return r.returnAll(devices)
}

// unsettled tells why not everything has arrived: nil if messages are missing, which the history tells.
func (r *run) unsettled(devices []Device) error {
	if len(check.Missing(r.rec.history(), r.opts)) > 0 {
		return nil
	}
	for _, d := range devices {
		if r.client(d) == nil {
			return fmt.Errorf("%v cannot log in", d)
		}
	}
	return fmt.Errorf("a message is not accepted though nothing is wrong any more: %v", r.unaccepted())
}

// known returns the devices that have tried to log in, by the history: one that got no answer may get it now.
func (r *run) known() []Device {
	in := map[string]bool{}
	for _, e := range r.rec.history() {
		if e.Kind == check.LoginSent {
			in[e.User+" "+e.Device] = true
		}
	}
	var list []Device
	r.mu.Lock()
	defer r.mu.Unlock()
	for d := range r.devices {
		if in[fmt.Sprintf("%s d%d", r.user(d.User), d.Device)] {
			list = append(list, d)
		}
	}
	slices.SortFunc(list, func(a, b Device) int { return 10*(a.User-b.User) + a.Device - b.Device })
	return list
}

// arrived sends again what was not answered, for every other message, and tells whether every device is connected and has
// everything that it is due.
func (r *run) arrived(devices []Device) bool {
	all := true
	for i, d := range devices {
		all = r.connected(d, i) && all
	}
	if !all {
		return false
	}
	return (r.opts.Cap > 0 || len(r.unaccepted()) == 0) && len(check.Missing(r.rec.history(), r.opts)) == 0
}

// resendPause is how long a client waits for an answer before it sends again.
const resendPause = 500 * time.Millisecond

// unaccepted lists the messages that clients insist on, every other one, and are not accepted. Those are sent again from
// time to time.
func (r *run) unaccepted() []string {
	var list []string
	for user, messages := range r.messages {
		c := r.anyClient(user)
		for i, m := range messages {
			code := wire.Code(r.answer(m.frame.ClientMsgID))
			if code != 0 && !code.Retryable() || m.forGood || i%2 == 0 || c == nil {
				continue
			}
			list = append(list, m.frame.ClientMsgID)
			if time.Since(m.tried) > resendPause {
				r.transmit(c, m)
			}
		}
	}
	return list
}

// anyClient returns a connection of a user, nil if there is none.
func (r *run) anyClient(user int) *client {
	r.mu.Lock()
	defer r.mu.Unlock()
	for d, dev := range r.devices {
		if d.User == user && dev.client != nil && dev.client.online() {
			return dev.client
		}
	}
	return nil
}

func (r *run) allSettled(devices []Device) bool {
	for i, d := range devices {
		if !r.connected(d, i) {
			return false
		}
		if c := r.client(d); c == nil || !c.settled() {
			return false
		}
	}
	return true
}

// leaveAll has every device end its connection cleanly, also one that was on its way.
func (r *run) leaveAll(devices []Device) error {
	gone := r.until(r.patience(), func() bool {
		none := true
		for i, d := range devices {
			dev := r.device(d)
			r.mu.Lock()
			c, dialing := dev.client, dev.dialing > 0
			r.mu.Unlock()
			if c != nil && c.online() {
				c.leave(i%2 == 0)
			}
			none = none && !dialing && (c == nil || !c.open())
		}
		return none
	})
	if !gone {
		return fmt.Errorf("some clean closes were not answered")
	}
	return nil
}

// returnAll has every device connect elsewhere, together with a new one for each user, and get one more message.
func (r *run) returnAll(devices []Device) error {
	sender := Device{User: stranger}
	var users []int
	for _, d := range devices {
		if !slices.Contains(users, d.User) {
			users = append(users, d.User)
		}
	}
	for _, u := range users {
		devices = append(devices, Device{User: u, Device: newDevice})
	}
	ready := func() bool {
		all := r.connected(sender, 0)
		for i, d := range devices {
			all = r.connected(d, i+1) && all
		}
		return all
	}
	if !r.until(r.patience(), ready) {
		return fmt.Errorf("some devices could not log in again")
	}
	for _, u := range users {
		r.send(sender, func(f *frame) { f.Type, f.ToID = tChat, r.user(u) }, false)
	}
	last := r.messages[stranger]
	arrived := r.until(r.patience(), func() bool {
		ready() // an old login that succeeds only now takes the device's place
		for _, m := range last {
			if r.answer(m.frame.ClientMsgID) != 200 {
				return false
			}
		}
		return len(check.Missing(r.rec.history(), r.opts)) == 0
	})
	if !arrived && len(check.Missing(r.rec.history(), r.opts)) == 0 {
		return fmt.Errorf("a message is not accepted though all is quiet")
	}
	return nil
}
