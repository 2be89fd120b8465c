package presencechaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// user is a person with devices, who does one thing after the other.
type user struct {
	w      *World
	name   string
	random *rand.Rand
	steady bool // stays connected by all means

	// Owned by the goroutine that drives the user.
	want   map[string]bool    // devices that are to be connected
	have   map[string]*device // connected, as far as is known
	status frame              // that is to be shown
	sure   bool               // it is known to be set
	turn   int
}

const maxDevices = 2

func newUser(w *World, name string, random *rand.Rand, steady bool) *user {
	u := &user{w: w, name: name, random: random, steady: steady, want: map[string]bool{}, have: map[string]*device{}, sure: true}
	u.status.Status = "online"
	u.turn = random.IntN(len(w.gateways))
	return u
}

// connect logs a device in. What connection it had is replaced.
func (u *user) connect(ctx context.Context, name string) error {
	old := u.have[name]
	u.turn++
	begun := time.Now()
	known := u.sure
	var s *frame
	if u.status != (frame{Status: "online"}) || !known {
		s = &u.status
		if !known {
			u.w.rec.add(Event{Kind: Setting, User: u.name, Status: s.Status})
		}
	}
	d, err := u.w.login(ctx, u.turn, u.name, name, s)
	if err != nil {
		if old != nil { // it may have been replaced all the same
			old.leaving(begun)
			old.close()
			delete(u.have, name)
		}
		return err
	}
	if old != nil {
		old.leaving(time.Time{})
		old.close()
	}
	u.have[name], u.sure = d, true
	if s != nil && !known {
		u.w.rec.add(Event{Kind: Set, User: u.name, Status: s.Status})
	}
	return nil
}

// keep connects what is to be connected and is not, and moves what has to. It tells whether all is as it is to be.
func (u *user) keep(ctx context.Context) bool {
	all := true
	for n := range maxDevices {
		name := fmt.Sprintf("d%d", n)
		d := u.have[name]
		if d != nil && !d.alive() {
			delete(u.have, name)
			d = nil
		}
		if u.want[name] && (d == nil || d.toMove()) {
			all = u.connect(ctx, name) == nil && all
		}
		if !u.want[name] && d != nil {
			d.logout()
			delete(u.have, name)
		}
	}
	return all
}

// step does something at random.
func (u *user) step(ctx context.Context) {
	name := fmt.Sprintf("d%d", u.random.IntN(maxDevices))
	d := u.have[name]
	switch n := u.random.IntN(10); {
	case u.steady && n < 8:
		// Stays as it is.
	case u.steady:
		u.want["d1"] = !u.want["d1"] // the other device
	case d == nil && n < 7:
		u.want[name] = true
	case d == nil:
	case n < 2:
		u.want[name] = false
	case n < 4: // the connection is lost, and it does not come back
		u.want[name] = false
		d.close()
	case n < 5: // and comes back
		d.close()
	case n < 6: // from another gateway, while the first connection is open
		_ = u.connect(ctx, name)
	default:
		u.setStatus(d)
	}
	u.keep(ctx)
}

// setStatus sets another status. Whether it did is not known when that is not answered.
func (u *user) setStatus(d *device) {
	u.status.Status = []string{"online", "away", "busy", invisible}[u.random.IntN(4)]
	u.status.StatusText = ""
	if u.random.IntN(2) == 0 {
		u.status.StatusText = fmt.Sprintf("text %d", u.random.IntN(100))
	}
	u.sure = d.setStatus(u.status.Status, u.status.StatusText) == nil
}

// drive does things at random until the context ends.
func (u *user) drive(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Duration(50+u.random.IntN(350)) * time.Millisecond):
		}
		u.step(context.WithoutCancel(ctx))
	}
}

// settle has everything be as it is to be. It tells whether it is.
func (u *user) settle(ctx context.Context) bool {
	if !u.keep(ctx) {
		return false
	}
	if u.sure {
		return true
	}
	for _, d := range u.have {
		u.sure = d.setStatus(u.status.Status, u.status.StatusText) == nil
		return u.sure
	}
	// Not connected: whatever is shown at the next login.
	return true
}

// leave ends all connections.
func (u *user) leave() {
	for _, d := range u.have {
		d.logout()
	}
	clear(u.have)
	clear(u.want)
}

// online tells whether others are to see the user.
func (u *user) online() bool { return len(u.have) > 0 && u.status.Status != invisible }
