package store

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// table is the lease table as it was read at one moment.
type table struct {
	present bool
	now     int64 // store time, ms, as the next step would set it, at most a second ahead
	wall    int64 // unix ms
	born    int64 // store time at which the table was made
	gen     string
	ttl     int64 // ms
	offset  int64 // of the wall clock from store time at the last step, ms
	control int64 // number of the last entry of the control log
	// deadlines of all epochs, those that have ended and wait for the reaper included.
	deadlines map[Epoch]int64
	// records, if they were asked for.
	records map[Epoch]record
}

// record is what an incarnation tells about itself.
type record struct {
	PodName  string `json:"pod"`
	Address  string `json:"addr"`
	Version  string `json:"ver,omitempty"`
	Draining bool   `json:"drain,omitempty"`
	Waiting  bool   `json:"wait,omitempty"`
	Keeps    bool   `json:"keep,omitempty"` // an external server that keeps its lease alive
	Sessions int    `json:"n"`

	podUID    string
	renewable bool
	reaped    bool
	renewed   int64 // store time of the last renewal, ms
}

// peer is the gateway that a record tells of.
func (r record) peer(e Epoch) Peer {
	return Peer{Epoch: e, PodName: r.PodName, Address: r.Address, Draining: r.Draining, Waiting: r.Waiting, Sessions: r.Sessions}
}

// settled tells whether the table is old enough to know every epoch that is alive.
func (t *table) settled() bool { return t.present && t.now >= t.born+t.ttl }

func (t *table) live(e Epoch) bool { return t.deadlines[e] > t.now }

// ended returns when a dead epoch ended, by the wall clock, alike for all readers. Of an epoch that the table does not know it is
// known that it was not there when the table was made.
func (t *table) ended(e Epoch) time.Time {
	deadline, ok := t.deadlines[e]
	if !ok {
		deadline = t.born
	}
	return time.UnixMilli(t.offset + deadline)
}

// tableRead is the set of requests that read the table.
type tableRead struct {
	clock, live, time, records *request
}

// tableRequests returns the requests; records are asked for only if full.
func (s *Store) tableRequests(full bool) *tableRead {
	r := &tableRead{
		clock: read(gateways, "hmget", s.keys.clock, "now", "wall", "gen", "born", "ctl"),
		live:  read(gateways, "zrange", s.keys.live, 0, -1, "withscores"),
		time:  read(gateways, "time"),
	}
	if full {
		r.records = read(gateways, "hgetall", s.keys.records)
	}
	return r
}

func (r *tableRead) requests() []*request {
	if r.records == nil {
		return []*request{r.clock, r.live, r.time}
	}
	return []*request{r.clock, r.live, r.time, r.records}
}

// table builds the table from the replies; nil if any request failed.
func (s *Store) table(r *tableRead) *table {
	for _, q := range r.requests() {
		if q.err != nil {
			return nil
		}
	}
	t := &table{ttl: s.cfg.LeaseTTL.Milliseconds(), wall: timeOf(r.time), deadlines: map[Epoch]int64{}}
	if clock := r.clock.list(); len(clock) == 5 && clock[0] != nil {
		t.present = true
		t.gen, t.born, t.control = textOf(clock[2]), intOf(clock[3]), intOf(clock[4])
		// Between the steps, which are up to a second apart, readers see time go on. Never further than a step would.
		ahead := min(t.wall-intOf(clock[1]), 1000, s.cfg.step().Milliseconds())
		t.now = intOf(clock[0]) + max(0, ahead)
		t.offset = intOf(clock[1]) - intOf(clock[0])
	}
	live := r.live.list()
	for i := 0; i+1 < len(live); i += 2 {
		t.deadlines[Epoch(textOf(live[i]))] = intOf(live[i+1])
	}
	if r.records != nil {
		t.records = map[Epoch]record{}
		records := r.records.list()
		for i := 0; i+1 < len(records); i += 2 {
			t.records[Epoch(textOf(records[i]))] = parseRecord(textOf(records[i+1]))
		}
		s.records.Store(&t.records)
		s.latest.Store(t)
	}
	return t
}

// readTable reads the whole table.
func (s *Store) readTable(ctx context.Context) (*table, error) {
	r := s.tableRequests(true)
	if err := s.exchange(ctx, r.requests()...); err != nil {
		return nil, err
	}
	return s.table(r), nil
}

// parseRecord reads "<flag><last renewal> <pod UID> <json>"; clock.lua explains it.
func parseRecord(text string) record {
	var r record
	head, rest, _ := strings.Cut(text, " ")
	uid, body, _ := strings.Cut(rest, " ")
	_ = json.Unmarshal([]byte(body), &r) // a record that cannot be read is an incarnation without a name
	r.podUID = uid
	if head != "" {
		r.renewable, r.reaped = head[0] == '+', head[0] == '='
		r.renewed, _ = strconv.ParseInt(head[1:], 10, 64)
	}
	return r
}

// meta is what a partition says about itself.
type meta struct {
	gen     string
	buckets int
	// done are the epochs that have registered everything in this generation.
	done map[Epoch]struct{}
	// known are all epochs that ever registered anything, or that are marked, each once.
	known []Epoch
	// dead are epochs whose sessions are over, and when their leases ended, unix ms.
	dead map[Epoch]int64
	// revision of the newest fact
	revision uint64
}

// parseMeta reads the reply of HGETALL.
func parseMeta(fields []any) *meta {
	m := &meta{buckets: 1, done: map[Epoch]struct{}{}, dead: map[Epoch]int64{}}
	values := map[Epoch]string{}
	for i := 0; i+1 < len(fields); i += 2 {
		field, value := textOf(fields[i]), textOf(fields[i+1])
		switch {
		case field == generationField:
			m.gen = value
		case field == bucketsField:
			m.buckets = max(1, int(intOf(value)))
		case field == revisionField:
			m.revision = uint64(max(0, intOf(value)))
		case strings.HasPrefix(field, doneField):
			values[Epoch(field[len(doneField):])] = value
		case strings.HasPrefix(field, fencedField):
			e := Epoch(field[len(fencedField):])
			if end, ok := strings.CutPrefix(value, deadMark); ok {
				m.dead[e] = intOf(end)
			}
			if _, ok := values[e]; !ok {
				values[e] = ""
			}
		}
	}
	for e, v := range values {
		m.known = append(m.known, e)
		if v == m.gen && v != "" {
			m.done[e] = struct{}{}
		}
	}
	return m
}

// complete tells whether a partition holds every session that it should: no live epoch is still to register.
func (m *meta) complete(t *table) bool {
	if m.gen == "" || !t.settled() {
		return false
	}
	for e, deadline := range t.deadlines {
		if _, ok := m.done[e]; !ok && deadline > t.now && !e.External() {
			return false
		}
	}
	return true
}

// entry is a parsed session field.
type entry struct {
	epoch    Epoch
	conn     uint64
	since    time.Time
	platform string
}

// parseEntry reads "epoch.connection.since[.platform]"; ok is false for anything else.
func parseEntry(text string) (e entry, ok bool) {
	epoch, rest, _ := strings.Cut(text, ".")
	conn, rest, _ := strings.Cut(rest, ".")
	since, platform, _ := strings.Cut(rest, ".")
	c, err := strconv.ParseUint(conn, 36, 64)
	if err != nil {
		return entry{}, false
	}
	ms, err := strconv.ParseInt(since, 36, 64)
	if err != nil {
		return entry{}, false
	}
	return entry{epoch: Epoch(epoch), conn: c, since: time.UnixMilli(ms), platform: platform}, true
}
