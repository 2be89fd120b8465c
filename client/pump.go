package client

import (
	"time"

	"github.com/imcluster/imcluster/api/wire"
)

// wakeTimeout is how long a server may be silent after this machine has slept.
const wakeTimeout = 5 * time.Second

// pump writes what the outbox has, and pings, until the connection ends.
func (n *conn) pump() {
	ticker := time.NewTicker(n.heartbeat)
	defer ticker.Stop()
	paused := time.NewTimer(0)
	defer paused.Stop()
	before, wallBefore := time.Now(), n.c.cfg.wall()
	for {
		var fr *wire.Frame
		select {
		case <-n.ended:
			return
		case <-n.wake:
		case <-paused.C:
		case direct := <-n.direct:
			fr = &direct
		case <-ticker.C:
			fr = &wire.Frame{Type: wire.TypePing}
			now, wall := time.Now(), n.c.cfg.wall()
			if wall.Sub(wallBefore)-now.Sub(before) > n.heartbeat {
				// The timers stood still while the clock on the wall went on, as when a laptop wakes up: the
				// connection may be long gone. A clock that was merely set costs an early pong.
				_ = n.ws.SetReadDeadline(now.Add(wakeTimeout))
			}
			before, wallBefore = now, wall
		}
		if fr != nil && !n.writeOrEnd(fr) {
			return
		}
		wait, ok := n.flush()
		if !ok {
			return
		}
		if wait > 0 {
			paused.Reset(wait)
		}
	}
}

// flush writes what may be written now. It returns how long to wait for more, and false if the connection has ended.
func (n *conn) flush() (wait time.Duration, ok bool) {
	for {
		r, wait := n.c.out.next(n)
		if r == nil {
			return wait, true
		}
		if !n.writeOrEnd(&r.frame) {
			return 0, false
		}
	}
}

// writeFailure is a connection that cannot be written to any more.
type writeFailure struct {
	err error
	// readUntil is when to stop reading. The server may have said why it does not listen.
	readUntil time.Time
}

func (n *conn) writeOrEnd(fr *wire.Frame) bool {
	err := n.write(fr)
	if err != nil {
		f := &writeFailure{err, time.Now().Add(closeTimeout)}
		n.broken.Store(f)
		_ = n.ws.SetReadDeadline(f.readUntil)
	}
	return err == nil
}
