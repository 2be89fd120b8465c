package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// reregisterRate is how many sessions a gateway registers again per second: 10,000 in 1.25 s, while Redis, at 8 µs
	// each, is left 94 % for everything else.
	reregisterRate = 8000
	// snapshotDelay goes by between giving a partition its generation and asking the gateway for its sessions: a login
	// whose registration was lost with the data has reached the gateway's books by then. If not, audit finds it.
	snapshotDelay = 200 * time.Millisecond
	// reregisterStep is how many partitions are registered again at a time.
	reregisterStep = 8
)

// reassertion counts the sessions that are on their way to be registered again.
type reassertion struct {
	wg       sync.WaitGroup
	mu       sync.Mutex
	failed   error
	replaced int
}

func finishReassert(l *lanes, o *op, reply any, err error) {
	b, session := o.batch, o.session
	part := o.part
	o.free()
	newer, revoked := textOf(reply) == "N", textOf(reply) == "R"
	l.mu.Lock()
	if err == nil && !newer && !revoked {
		l.parts[part].count++
	}
	l.mu.Unlock()
	if err != nil || newer {
		b.mu.Lock()
		if err != nil {
			b.failed = err
		} else {
			b.replaced++
		}
		b.mu.Unlock()
	}
	if newer {
		l.member.local.Replaced(session)
	}
	if revoked {
		l.member.local.Revoked(Revocation{User: session.User, Device: session.Device, At: session.Since})
	}
	b.wg.Done()
}

// wait waits until all are registered, or ctx ends; then the rest finishes later.
func (b *reassertion) wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		b.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failed
}

// reregister registers the gateway's sessions of partitions again, which lost their data or do not know our epoch yet, and
// marks the partitions as done.
func (r *runner) reregister(ctx context.Context, parts []int) error {
	epoch, start := r.Epoch(), time.Now()
	gens, err := r.store.generations(ctx, parts)
	if err != nil {
		return fmt.Errorf("read generations: %w", err)
	}
	if r.local == nil || r.local.Count() == 0 {
		return r.store.markDone(ctx, epoch, gens)
	}
	if err := pause(ctx, snapshotDelay); err != nil {
		return err
	}
	total := 0
	// Gateways begin at different partitions, so as not to meet in the same.
	offset := rand.IntN(len(parts))
	for i := 0; i < len(parts); i += reregisterStep {
		began := time.Now()
		var step []int
		for j := i; j < min(i+reregisterStep, len(parts)); j++ {
			step = append(step, parts[(j+offset)%len(parts)])
		}
		n, err := r.reassert(ctx, step, gens)
		if err != nil {
			return fmt.Errorf("register sessions again: %w", err)
		}
		total += n
		if r.Epoch() != epoch {
			return nil // registered under the new epoch, which the next look takes up
		}
		done := make(map[int]string, len(step))
		for _, p := range step {
			done[p] = gens[p]
		}
		if err := r.store.markDone(ctx, epoch, done); err != nil {
			return fmt.Errorf("mark partitions: %w", err)
		}
		r.lanes.know(done)
		if err := pause(ctx, time.Duration(n)*time.Second/reregisterRate-time.Since(began)); err != nil {
			return err
		}
	}
	r.store.metrics.reregistered.Add(ctx, int64(total))
	r.store.log.Info("sessions are registered again", "sessions", total, "partitions", len(parts), "took", time.Since(start))
	return nil
}

// reassert queues all of the gateway's sessions in some partitions and waits until they are registered.
func (r *runner) reassert(ctx context.Context, parts []int, gens map[int]string) (int, error) {
	b, total := &reassertion{}, 0
	for _, p := range parts {
		sessions := r.lanes.snapshot(p, r.local)
		total += r.lanes.reassert(p, sessions, b, r.lanes.lost(p, gens[p]))
	}
	return total, b.wait(ctx)
}

// snapshot asks the gateway for its sessions in a partition and begins to note which of them end; reassert ends that.
func (l *lanes) snapshot(part int, local Local) []Session {
	l.mu.Lock()
	l.parts[part].ended = map[uint64]struct{}{}
	l.mu.Unlock()
	var sessions []Session
	for s := range local.Sessions(part) {
		if !s.Since.IsZero() { // else its registration is on its way
			sessions = append(sessions, s)
		}
	}
	return sessions
}

// reassert queues a snapshot without the sessions that ended meanwhile. One that ends from now on is unregistered behind it.
// What was lost with the data, the status, is put back with the session. Returns how many were queued.
func (l *lanes) reassert(part int, sessions []Session, b *reassertion, lost bool) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := &l.parts[part]
	ended := q.ended
	q.ended, q.count = nil, 0
	n := 0
	for _, s := range sessions {
		if _, ok := ended[s.Conn]; ok {
			continue
		}
		if len(s.Platform) > platformBytes {
			s.Platform = s.Platform[:platformBytes]
		}
		o := newOp(opReassert, part, s)
		o.batch, o.finish = b, finishReassert
		if lost && s.StatusSet > 0 {
			o.setStatus(s.Status)
		}
		b.wg.Add(1)
		if !l.pushLocked(o) {
			b.wg.Done()
			o.free()
			continue
		}
		n++
	}
	return n
}

// know notes the generations in which the gateway has registered its sessions.
func (l *lanes) know(gens map[int]string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p, g := range gens {
		l.parts[p].gen = g
	}
}

// lost tells whether a partition has lost its data since the gateway registered its sessions there.
func (l *lanes) lost(part int, gen string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.parts[part].gen != gen
}

func (l *lanes) resetCounts() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := range l.parts {
		l.parts[p].count = 0
	}
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
