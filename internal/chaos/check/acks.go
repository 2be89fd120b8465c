package check

import (
	"fmt"
	"time"
)

// acksHold: what was acknowledged does not come again on the same connection, unless the store died and did not know of it;
// nor, once it is written, on a later one of the same device.
func acksHold(d *digest, o Options) []Violation {
	var list []Violation
	for _, c := range d.connOrder {
		written := d.written(c, o)
		for _, i := range c.deliveries {
			acked, ok := c.acked[d.h[i].MsgID]
			if ok && acked < i && !d.forgotten(i, c, written) {
				list = append(list, d.violation(AckIgnored, d.name(i)+" on the same connection", acked, i))
			}
		}
		for _, later := range d.devices[deviceKey{c.user, c.device}] {
			for _, i := range later.deliveries {
				if w, ok := written[d.h[i].MsgID]; ok && later.loginSent > w.at {
					list = append(list, d.violation(AckIgnored, d.name(i)+" on a later connection", w.delivered, w.acked, w.at, later.loginSent, i))
				}
			}
		}
	}
	return list
}

// forgotten tells whether a delivery may repeat what was acknowledged on its connection: the store has died at some time
// before, after which it numbers messages anew, and the acknowledgement was not surely written.
func (d *digest) forgotten(i int, c *conn, written map[string]writtenAck) bool {
	if _, ok := c.acked[d.h[i].MsgID]; !ok || d.died == never || d.died > i {
		return false
	}
	w, ok := written[d.h[i].MsgID]
	return !ok || w.at > i
}

// newDevicesStart: a device that logs in for the first time gets nothing that is as old as what another one acknowledged.
func newDevicesStart(d *digest, o Options) []Violation {
	var list []Violation
	for _, c := range d.connOrder {
		written := d.written(c, o)
		for _, key := range d.names {
			sent, _ := firstLogin(d.devices[key])
			if key.user != c.user || key.device == c.device {
				continue
			}
			for id, w := range written {
				if acked := d.byID[id]; acked != nil && sent > w.at {
					list = append(list, d.tooOld(key, acked, w)...)
				}
			}
		}
	}
	return list
}

func (d *digest) tooOld(key deviceKey, acked *message, w writtenAck) []Violation {
	var list []Violation
	for _, i := range d.firsts(d.devices[key]...) {
		if m := d.byID[d.h[i].MsgID]; m == acked || m != nil && m.before(acked) {
			list = append(list, d.violation(TooOld, fmt.Sprintf("%s, though %s was acknowledged", m.name, acked.name), w.acked, w.at, i))
		}
	}
	return list
}

func (d *digest) name(i int) string {
	if m := d.byID[d.h[i].MsgID]; m != nil {
		return m.name
	}
	return d.h[i].MsgID
}

// writtenAck is an acknowledgement that outlives its connection: at is the position from which on it is surely written.
type writtenAck struct{ delivered, acked, at int }

// written lists the acknowledgements of a connection that are surely written: there is one cursor for each device, so only
// those before which nothing is unacknowledged; and either the connection was closed and the server confirmed it, or nothing
// happened to its gateway and the store for some time after the answer.
func (d *digest) written(c *conn, o Options) map[string]writtenAck {
	list := map[string]writtenAck{}
	until := never // the last answer of the prefix
	for _, i := range d.firsts(c) {
		id := d.h[i].MsgID
		acked, ok := c.acked[id]
		if !ok {
			break
		}
		until = max(until, acked)
		if at := d.writtenAt(c, until, o); at != never {
			list[id] = writtenAck{i, acked, at}
		}
	}
	return list
}

func (d *digest) writtenAt(c *conn, acked int, o Options) int {
	if !d.undisturbed(c.gateway, acked) {
		return never
	}
	for i := acked + 1; i < len(d.h); i++ {
		e := d.h[i]
		switch {
		case e.Kind == RedisHit, e.Kind == GatewayHit && e.Gateway == c.gateway:
			return never
		case i == c.closed && c.clean, e.At > d.h[acked].At+o.AckTime:
			if d.diesWithin(i, o.StoreLag) {
				return never
			}
			return i
		}
	}
	return never
}

// diesWithin tells whether the store dies so soon after a position that it may forget what it had then.
func (d *digest) diesWithin(i int, lag time.Duration) bool {
	for _, e := range d.h[i:] {
		if e.At > d.h[i].At+lag {
			return false
		}
		if e.Kind == RedisDied {
			return true
		}
	}
	return false
}

// undisturbed tells whether the gateway and the store work at a position, and have for as long as it takes to find each
// other again.
func (d *digest) undisturbed(gateway string, at int) bool {
	var gatewayHit, redisHit bool
	healthy := time.Duration(0)
	for _, e := range d.h[:at] {
		switch {
		case e.Kind == RedisHit:
			redisHit = true
		case e.Kind == RedisUp:
			redisHit, healthy = false, e.At
		case e.Kind == GatewayHit && e.Gateway == gateway:
			gatewayHit = true
		case e.Kind == GatewayUp && e.Gateway == gateway:
			gatewayHit, healthy = false, e.At
		case e.Kind == Healed:
			gatewayHit, redisHit = false, false
		}
	}
	return !gatewayHit && !redisHit && (healthy == 0 || d.h[at].At > healthy+recovery)
}

// recovery is how long a gateway may take to find the store again: the pause between two attempts to connect.
const recovery = time.Second
