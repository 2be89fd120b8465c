package store

import (
	"context"
	"errors"
	"slices"
	"time"
)

// look is what a member sees of Redis in one pipelined read per node, once in 0.8 s. When nothing happens it is all that a
// gateway does beside renewing its lease: 128 partitions cost Redis 0.1 ms.
type look struct {
	table   *table
	clocks  map[*node]int64
	control []any // what follows in the control log
	parts   [Partitions]partLook
}

// partLook is what a member sees of a partition.
type partLook struct {
	gen      string
	done     bool // our epoch has registered everything in this generation
	fenced   bool // our epoch may not write
	sessions int  // in the index of our epoch
	read     bool // false if the partition could not be read
}

// look reads; control is the number of the last entry of the control log that is known.
func (m *Member) look(ctx context.Context, control int64) (*look, error) {
	s, l := m.store, m.lease.Load()
	s.servers.follow(ctx)
	var reqs []*request
	nodes := s.servers.routes.Load().nodes()
	for _, n := range nodes {
		reqs = append(reqs, &request{on: n, args: []any{"time"}})
	}
	t := s.tableRequests(true)
	log := s.controlRequest(control)
	reqs = append(reqs, t.requests()...)
	reqs = append(reqs, log)
	first := len(reqs)
	done, fenced := doneField+string(l.epoch), fencedField+string(l.epoch)
	for p := range Partitions {
		reqs = append(reqs,
			read(p, "hmget", s.keys.meta[p], generationField, done, fenced),
			read(p, "hlen", l.index[p]))
	}
	err := s.exchange(ctx, reqs...)
	v := &look{table: s.table(t), clocks: map[*node]int64{}}
	if v.table == nil || log.err != nil {
		return nil, err
	}
	v.control = log.list()
	for i, n := range nodes {
		if ms := timeOf(reqs[i]); ms > 0 {
			n.setClock(ms)
			v.clocks[n] = ms
		}
	}
	for p := range v.parts {
		meta, index := reqs[first+2*p], reqs[first+2*p+1]
		if meta.err != nil || index.err != nil {
			continue
		}
		fields := meta.list()
		gen := textOf(fields[0])
		v.parts[p] = partLook{
			gen: gen, done: gen != "" && textOf(fields[1]) == gen, fenced: fields[2] != nil,
			sessions: int(intOf(index.text())), read: true,
		}
	}
	return v, nil
}

// Run keeps the membership: it renews the lease, registers sessions again that Redis has lost, and takes a new epoch when
// the lease has ended. It returns nil when ctx ends, ErrBanned when the pod is banned, ErrForeignOwner or ErrIncompatible
// when the keys are not ours any more; whatever else goes wrong it tries again.
func (m *Member) Run(ctx context.Context) error {
	m.mu.Lock()
	m.running = true
	m.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		m.mu.Lock()
		m.running = false
		m.mu.Unlock()
		m.answer(m.takeWaiting())
	}()
	r := &runner{Member: m, control: control{gen: m.joined.gen, last: m.joined.control}, idle: make(chan struct{}, 1)}
	r.idle <- struct{}{}
	defer func() { <-r.idle }() // waits for the background job, whose context is cancelled just before
	defer cancel()

	timer := time.NewTimer(0)
	defer timer.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.kicks:
			timer.Reset(max(0, kickPause-time.Since(last)))
		case <-timer.C:
			if err := r.tick(ctx); err != nil {
				return err
			}
			last = time.Now()
			timer.Reset(jitter(m.store.cfg.lookInterval()))
		}
	}
}

// runner is the state of Run.
type runner struct {
	*Member
	renewAt time.Time // when it is due
	renewed time.Time // when it was tried last
	down    bool      // the last look failed
	checked time.Time // when the memory of the nodes was looked at
	// suspects counts for each partition the looks in a row in which the index and our count differed.
	suspects [Partitions]int
	control  control
	// idle holds a token while no background job runs.
	idle chan struct{}
}

// tick looks once and does what follows. Its error ends Run.
func (r *runner) tick(ctx context.Context) error {
	waiting := r.takeWaiting()
	v, err := r.look(ctx, r.control.last)
	r.noteState(err)
	if v != nil {
		r.notePeers(r.view.Load(), v.table)
		r.view.Store(newView(v.table))
	}
	if v == nil {
		r.waitOn(waiting)
		return nil
	}
	r.answer(waiting)
	r.obey(v)
	fenced := slices.ContainsFunc(v.parts[:], func(p partLook) bool { return p.fenced })
	changed, err := r.keepLease(ctx, v, fenced)
	if err != nil {
		return err
	}
	if changed {
		r.local.Fenced()
		// Every partition misses the new epoch's sessions; what the look said is about the old one.
		for p := range v.parts {
			v.parts[p].done = false
		}
	}
	r.checkMemory(ctx)
	r.heal(ctx, v)
	return nil
}

// noteState logs when Redis is lost and found.
func (r *runner) noteState(err error) {
	switch down := err != nil; {
	case down && !r.down:
		r.store.log.Warn("redis does not answer: logins are refused, connections stay", "error", err)
	case !down && r.down:
		r.store.log.Info("redis answers again")
		r.suspect("redis answers again")
	}
	r.down = err != nil
}

// renewPause is the least time between renewals that lanes ask for. They ask until they get what they need, and a node
// that is down has no clock to give.
const renewPause = 200 * time.Millisecond

// keepLease renews the lease when it is due, and takes a new epoch if it has ended; changed tells so. Its error ends Run.
func (r *runner) keepLease(ctx context.Context, v *look, fenced bool) (changed bool, err error) {
	r.leaseMu.Lock()
	left, draining := r.left, r.draining
	r.leaseMu.Unlock()
	if left {
		return false, nil
	}
	wanted := r.renewWanted.Load() && time.Since(r.renewed) >= renewPause
	// While it drains with every look: others wait for the number of its sessions to fall, which the record tells them.
	if !wanted && !fenced && !draining && time.Now().Before(r.renewAt) && v.table.live(r.Epoch()) {
		return false, nil
	}
	r.renewWanted.Store(false)
	r.renewed = time.Now()
	if fenced {
		err = ErrFenced
	} else {
		err = r.renew(ctx, v.clocks, nil)
	}
	if errors.Is(err, ErrFenced) {
		old := r.Epoch()
		if err = r.acquire(ctx, newEpoch()); err == nil {
			changed = true
			r.lanes.resetCounts()
			r.store.metrics.fenced.Add(ctx, 1)
			r.store.log.Warn("the lease had ended: sessions are registered again under a new epoch", "old", old, "new", r.Epoch())
		}
	}
	switch {
	case err == nil:
		r.renewAt = time.Now().Add(jitter(r.store.cfg.LeaseTTL / 3))
		return changed, nil
	case errors.Is(err, ErrBanned), errors.Is(err, ErrForeignOwner), errors.Is(err, ErrIncompatible):
		return false, err
	default:
		r.store.log.Debug("the lease could not be renewed; trying again", "error", err)
		return false, nil
	}
}

// heal starts what the look showed to be needed, unless something runs already.
func (r *runner) heal(ctx context.Context, v *look) {
	select {
	case <-r.idle:
	default:
		return
	}
	var lost []int
	for p, part := range v.parts {
		if part.read && !part.done {
			lost = append(lost, p)
		}
	}
	var differ []int
	if len(lost) == 0 {
		differ = r.audit(v)
	}
	if len(lost) == 0 && len(differ) == 0 {
		r.tellSuspicion()
	}
	behind := r.control.behind.Load()
	if len(lost) == 0 && len(differ) == 0 && !behind {
		r.idle <- struct{}{}
		return
	}
	go func() {
		defer func() { r.idle <- struct{}{} }()
		var err error
		if len(lost) > 0 {
			err = r.reregister(ctx, lost)
		} else {
			err = r.reconcile(ctx, differ)
		}
		if behind && err == nil {
			err = r.compare(ctx)
		}
		if err != nil {
			r.store.log.Debug("sessions could not be registered again; trying again", "error", err)
			return
		}
		// Meanwhile nobody who appended for these sessions saw them.
		r.suspect("sessions were registered again") // and kicks: perhaps there is more
	}()
}
