package presence

import (
	"cmp"
	"strconv"
	"time"

	"github.com/tidwall/gjson"

	"github.com/imcluster/imcluster/presence/feed"
	"github.com/imcluster/imcluster/presence/store"
)

// The answers are appended to a buffer by hand: a batch has up to 5,000 users, and reflection takes four times as long
// (BenchmarkBatchAnswer). Their fields are those of docs/presence-api.md, in that order.

// timeFormat is RFC 3339 with milliseconds, of times in UTC.
const timeFormat = "2006-01-02T15:04:05.000Z"

func appendUserAnswer(b []byte, u *store.User, asOf time.Time, degraded bool) []byte {
	b = appendUser(b, u)
	b[len(b)-1] = ',' // reopens the object
	return appendFreshness(b, asOf, degraded)
}

func appendBatchAnswer(b []byte, users []store.User, asOf time.Time, degraded bool) []byte {
	b = appendUsers(append(b, `{"users":`...), users)
	return appendFreshness(append(b, ','), asOf, degraded)
}

func appendUsers(b []byte, users []store.User) []byte {
	b = append(b, '[')
	for i := range users {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendUser(b, &users[i])
	}
	return append(b, ']')
}

// appendFreshness ends an object with how far it can be believed.
func appendFreshness(b []byte, asOf time.Time, degraded bool) []byte {
	if asOf.IsZero() { // nothing was read
		asOf = time.Now()
	}
	b = appendTime(append(b, `"asOf":`...), asOf)
	b = append(b, `,"degraded":`...)
	return append(strconv.AppendBool(b, degraded), '}')
}

func appendUser(b []byte, u *store.User) []byte {
	b = appendString(append(b, `{"user":`...), u.ID)
	b = appendString(append(b, `,"state":`...), string(u.State))
	if u.State == store.Online {
		b = appendString(append(b, `,"status":`...), cmp.Or(u.Status, feed.ShowOnline))
		if u.Text != "" {
			b = appendString(append(b, `,"text":`...), u.Text)
		}
	}
	if u.State == store.Unknown {
		b = appendString(append(b, `,"reason":`...), string(u.Reason))
	}
	if u.State == store.Offline && !u.LastSeen.IsZero() {
		b = appendTime(append(b, `,"lastSeen":`...), u.LastSeen)
	}
	b = append(b, `,"devices":[`...)
	for i := range u.Devices {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendDevice(b, &u.Devices[i])
	}
	return append(b, ']', '}')
}

func appendDevice(b []byte, d *store.Device) []byte {
	b = appendString(append(b, `{"id":`...), d.ID)
	if d.Platform != "" {
		b = appendString(append(b, `,"platform":`...), d.Platform)
	}
	b = appendString(append(b, `,"gateway":`...), d.Gateway)
	b = appendTime(append(b, `,"loginTime":`...), d.LoginTime)
	return append(b, '}')
}

func appendPage(b []byte, p *store.Page) []byte {
	b = append(b, `{"users":[`...)
	for i, u := range p.Users {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, u)
	}
	b = append(b, ']')
	if p.Next != "" {
		b = appendString(append(b, `,"nextCursor":`...), p.Next)
	}
	return appendFreshness(append(b, ','), p.AsOf, p.Degraded)
}

func appendCounts(b []byte, c *store.Counts) []byte {
	b = strconv.AppendInt(append(b, `{"users":`...), int64(c.Users), 10)
	b = strconv.AppendInt(append(b, `,"sessions":`...), int64(c.Sessions), 10)
	b = append(b, `,"gateways":[`...)
	for i, g := range c.Gateways {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(append(b, `{"pod":`...), g.Pod)
		b = strconv.AppendInt(append(b, `,"sessions":`...), int64(g.Sessions), 10)
		b = append(b, '}')
	}
	b = append(b, ']', ',')
	return appendFreshness(b, c.AsOf, c.Degraded)
}

func appendTime(b []byte, t time.Time) []byte {
	b = append(b, '"')
	b = t.UTC().AppendFormat(b, timeFormat)
	return append(b, '"')
}

// appendString appends a JSON string. Most ids are plain ASCII and are copied.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return gjson.AppendJSONString(b, s)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
