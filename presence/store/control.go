package store

import (
	"context"
	"encoding/json"
	"slices"
	"sync/atomic"
	"time"
)

const (
	// maxControl is how many entries the control log keeps: 0.5 MB.
	maxControl = 4096
	// controlPage is how many entries a look reads. When there are more the next look follows at once.
	controlPage = 512
	// controlRepeat is for how long an entry is told to the gateway with every look: a session that was registered just
	// before may come to the gateway only after it, by as long as a reply may be on its way.
	controlRepeat = 10 * time.Second
)

// control is a member's place in the control log. The log is dense: who finds a number missing, or another entry under the
// last number, because Redis lost the log or the end of it, compares all sessions with what is kept of the revocations.
type control struct {
	gen  string // of the lease table that the log belongs to
	last int64  // number of the last entry that was read
	text string // that entry; empty if it was never read
	// recent are the entries of the last controlRepeat, oldest first.
	recent []recentRevocation
	// behind says that entries were missed and the sessions are still to be compared.
	behind atomic.Bool
}

type recentRevocation struct {
	Revocation
	until time.Time
}

// controlRequest reads the log from the last entry on that is known.
func (s *Store) controlRequest(last int64) *request {
	return read(gateways, "xrange", s.keys.control, entryID(last), "+", "count", controlPage)
}

func entryID(n int64) string { return textOf(n) + "-0" }

// follow takes what a look found in the log. It returns the revocations to tell the gateway of, and whether there is more
// to read at once.
func (c *control) follow(t *table, entries []any, now time.Time) (tell []Revocation, more bool) {
	if t.gen != c.gen || c.rewound(t, entries) {
		// What was read belongs to another log than the place that it was read from.
		c.gen, c.last, c.text = t.gen, 0, ""
		c.behind.Store(true)
		return nil, true
	}
	c.recent = slices.DeleteFunc(c.recent, func(r recentRevocation) bool { return !now.Before(r.until) })
	for _, e := range entries {
		n, text := parseEntryOfLog(e)
		if n > c.last+1 {
			c.behind.Store(true)
		}
		known := n <= c.last && c.last > 0
		c.last, c.text = max(c.last, n), text
		if r, ok := parseControl(text); ok && !known {
			c.recent = append(c.recent, recentRevocation{r, now.Add(controlRepeat)})
		}
	}
	if more = len(entries) == controlPage; !more && c.last < t.control {
		c.last, c.text = t.control, "" // the end of the log is lost
		c.behind.Store(true)
	}
	for _, r := range c.recent {
		tell = append(tell, r.Revocation)
	}
	return tell, more
}

// rewound tells whether the log ends before the last entry that is known, or has another one in its place: a replica that
// took over, or a server that restarted, did not have the end.
func (c *control) rewound(t *table, entries []any) bool {
	if t.control < c.last {
		return true
	}
	if len(entries) == 0 || c.text == "" {
		return false
	}
	n, text := parseEntryOfLog(entries[0])
	return n == c.last && text != c.text
}

// controlEntry is an entry of the control log. Fields that are not known are for newer gateways.
type controlEntry struct {
	User   string `json:"u"`
	Device string `json:"d,omitempty"`
	Token  string `json:"t,omitempty"`
	Before int64  `json:"b"` // unix ms
	At     int64  `json:"a"` // unix ms
	Reason string `json:"r,omitempty"`
}

func encodeControl(r Revocation) string {
	b, _ := json.Marshal(controlEntry{r.User, r.Device, r.TokenID, r.Before.UnixMilli(), r.At.UnixMilli(), r.Reason}) // strings and numbers
	return string(b)
}

// parseEntryOfLog reads the number and the text of an entry as XRANGE returns it.
func parseEntryOfLog(entry any) (n int64, text string) {
	pair, _ := entry.([]any)
	if len(pair) != 2 {
		return 0, ""
	}
	id := textOf(pair[0])
	if fields, _ := pair[1].([]any); len(fields) > 1 {
		text = textOf(fields[1])
	}
	return intOf(id[:max(0, len(id)-len("-0"))]), text
}

// parseControl reads the text of an entry. ok is false for one that is not a revocation.
func parseControl(text string) (r Revocation, ok bool) {
	var e controlEntry
	if json.Unmarshal([]byte(text), &e) != nil || e.User == "" {
		return r, false
	}
	return Revocation{
		User: e.User, Device: e.Device, TokenID: e.Token, Reason: e.Reason,
		Before: time.UnixMilli(e.Before), At: time.UnixMilli(e.At),
	}, true
}

// obey tells the gateway what the look found in the control log.
func (r *runner) obey(v *look) {
	before := r.control.last
	tell, more := r.control.follow(v.table, v.control, time.Now())
	if read := r.control.last - before; read > 0 {
		r.store.metrics.revocations.Add(context.Background(), read)
	}
	for _, rev := range tell {
		r.local.Revoked(rev)
	}
	if more {
		r.kick()
	}
}

// compareBatch is how many users' revocations are read in one pipeline.
const compareBatch = 500

// compare holds every local session against the revocations that are kept, after entries of the log were missed.
func (r *runner) compare(ctx context.Context) (err error) {
	r.control.behind.Store(false) // what is missed from now on is compared by the next one
	defer func() {
		if err != nil {
			r.control.behind.Store(true)
		}
	}()
	r.store.metrics.compared.Add(ctx, 1)
	r.store.log.Info("entries of the control log were missed: all sessions are compared with the revocations")
	for p := range Partitions {
		for batch := range slices.Chunk(slices.Collect(r.local.Sessions(p)), compareBatch) {
			if err := r.compareUsers(ctx, p, batch); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *runner) compareUsers(ctx context.Context, part int, sessions []Session) error {
	reqs := []*request{read(part, "time")}
	for _, s := range sessions {
		reqs = append(reqs, read(part, "hgetall", r.store.keys.revokedKey(part, s.User)))
	}
	if err := r.store.exchange(ctx, reqs...); err != nil {
		return err
	}
	now := timeOf(reqs[0])
	for i, s := range sessions {
		for _, rev := range parseRevocations(s.User, reqs[1+i].list(), now) {
			if rev.Covers(s) {
				r.local.Revoked(rev)
			}
		}
	}
	return nil
}
