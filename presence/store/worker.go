package store

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

func (l *lanes) work(w *worker) {
	for {
		lease, until, ok := l.take(w)
		if !ok {
			return
		}
		if len(w.batch) == 0 {
			continue
		}
		l.send(w, lease, until)
		l.settle(w)
	}
}

// take fills the worker's batch. It waits until there is something to send; ok is false when the lanes are closed.
func (l *lanes) take(w *worker) (current *lease, until int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(w.ready) == 0 && !l.closed {
		w.wake.Wait()
	}
	if l.closed {
		return nil, 0, false
	}
	w.batch, w.parts, w.bytes = w.batch[:0], w.parts[:0], 0
	current = l.member.lease.Load()
	until = current.until[w.node]
	taken := 0
	for _, part := range w.ready {
		if w.full() {
			break
		}
		taken++
		q := &l.parts[part]
		q.ready = false
		if l.store.servers.routes.Load().node[part] != w.node {
			l.schedule(part) // its slot has moved
			continue
		}
		if until == 0 {
			// A node that joined since the last renewal: its clock must be read first.
			l.member.kickLease()
			l.hold(part)
			continue
		}
		if l.takeFrom(q, w) {
			q.busy = true
			w.parts = append(w.parts, part)
		}
	}
	w.ready = append(w.ready[:0], w.ready[taken:]...)
	if l.depth == 0 {
		l.tellDrained()
	}
	return current, until, true
}

// takeFrom moves what fits of a partition into the worker's batch, and tells whether that is anything; l.mu must be held. The
// appends go first, and there are no more than one call stores. So there is one call in a batch, which happens whole or not at
// all: of two, one might fail alone, because the slot is being moved or the script was forgotten, and be tried again
// behind the other. To the other ops it makes no difference: a login finds in the mailbox what it was not there for.
func (l *lanes) takeFrom(q *queue, w *worker) bool {
	begin := len(w.batch)
	w.later = w.later[:0]
	for q.head != nil && !w.full() {
		o := q.head
		isAppend := o.kind == opAppend
		if isAppend && len(w.batch)-begin == maxRun {
			break
		}
		q.head, o.next = o.next, nil
		switch {
		case o.abandoned && !o.sent:
			l.depth--
			o.free()
		case isAppend:
			w.batch = append(w.batch, o)
			w.bytes += len(o.mail.data.b)
		default:
			w.later = append(w.later, o)
		}
	}
	if q.head == nil {
		q.tail = nil
	}
	w.batch = append(w.batch, w.later...)
	w.later = w.later[:0]
	return len(w.batch) > begin
}

func (w *worker) full() bool {
	return len(w.batch)+len(w.later) >= maxBatch || w.bytes >= maxBatchBytes
}

// send runs the batch in one pipeline.
func (l *lanes) send(w *worker, current *lease, until int64) {
	ctx, cancel := context.WithTimeout(l.ctx, attemptTimeout)
	defer cancel()
	if w.node.relearn.Swap(false) && learnRun(ctx, w.node.writes, &w.node.run) != nil {
		w.node.relearn.Store(true) // the batch fails as well
	}
	p := w.node.writes.Pipeline()
	w.beginAppends()
	for i := 0; i < len(w.batch); {
		o := w.batch[i]
		if o.kind == opAppend {
			r := w.nextRun(w.batch[i:])
			r.cmd = redis.NewCmd(ctx, r.encode(l, w)...)
			_ = p.Process(ctx, r.cmd) // queues
			i += len(r.ops)
			continue
		}
		o.cmd = redis.NewCmd(ctx, o.encode(l, current, until)...)
		o.sent = true
		_ = p.Process(ctx, o.cmd) // queues
		i++
	}
	var wait *redis.Cmd
	if l.store.cfg.Durability == DurabilityReplicated && w.used > 0 {
		wait = p.Do(ctx, "wait", 1, replicaTimeout.Milliseconds())
	}
	cmds, err := p.Exec(ctx)
	spread(cmds, err)
	w.endAppends(l.member.view.Load(), wait)
}

// verdict says what becomes of an op that was sent.
type verdict int

const (
	finished verdict = iota
	retry            // at once
	retryHeld
	retrySlower // the node has a problem
)

// settle finishes what succeeded and queues the rest again, in front of what is younger.
func (l *lanes) settle(w *worker) {
	var slow, refresh, teach bool
	var held []int
	failedPart := -1
	again := w.batch[:0] // what is read is ahead of what is written
	done := 0
	for _, o := range w.batch {
		if o.part == failedPart {
			again = append(again, o)
			continue
		}
		err := o.cmd.Err()
		f := classify(err)
		var v verdict
		var reply any
		if o.kind == opAppend {
			v, err = w.judgeAppend(o, f, err)
		} else {
			v, reply = l.judge(o, f)
		}
		if v == finished {
			if f == success {
				if o.kind != opAppend {
					err = nil // it may be redis.Nil
				}
				l.member.worked.Store(true)
			}
			done++
			l.complete(o, reply, err)
			continue
		}
		refresh = refresh || f == moved || f == connection || f == demoted
		w.troubled = w.troubled || f == connection || f == demoted
		if f == demoted {
			w.node.relearn.Store(true)
		}
		teach = teach || f == noScript
		slow = slow || v == retrySlower
		if v == retryHeld {
			held = append(held, o.part)
		}
		failedPart = o.part
		again = append(again, o)
	}
	if refresh {
		_ = l.store.servers.refresh(l.ctx) // asked again with the next failure
	}
	if teach {
		_ = loadScripts(l.ctx, w.node.writes) // taught again with the next failure
	}
	again, n := l.giveUp(again)
	l.requeue(w, again, held, done+n)
	if !slow {
		l.tellTrouble(w)
		w.backoff = minBackoff
		return
	}
	pause := time.NewTimer(w.backoff/2 + rand.N(w.backoff))
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-l.ctx.Done():
	}
	w.backoff = min(2*w.backoff, maxBackoff)
}

// tellTrouble suspects lost pushes when a worker gets answers again.
func (l *lanes) tellTrouble(w *worker) {
	if w.unpeeked.Swap(false) {
		l.member.suspect("too many messages were in doubt")
	}
	if w.troubled {
		// Redis may have been restarted or replaced between two looks.
		w.troubled = false
		l.member.suspect("redis did not answer")
	}
}

// giveUp refuses ops that failed and are past their deadline, which expire does not see while they are in a batch: almost
// always, while Redis does not answer. It returns the others, and how many it refused.
func (l *lanes) giveUp(failed []*op) (again []*op, refused int) {
	now := time.Now()
	again = failed[:0]
	for _, o := range failed {
		if o.deadline.IsZero() || now.Before(o.deadline) {
			again = append(again, o)
			continue
		}
		refused++
		l.complete(o, nil, o.refusal())
	}
	return again, refused
}

// judge decides what becomes of an op by its reply.
func (l *lanes) judge(o *op, f failure) (verdict, any) {
	switch f {
	case success:
		reply := o.cmd.Val()
		text, _ := reply.(string)
		if text == "" || o.kind == opSplit {
			return finished, reply
		}
		switch text[0] {
		case 'X', 'L':
			// Run renews the lease, or takes a new epoch, and the op is sent under that.
			o.err = ErrFenced
			l.member.kickLease()
			return retryHeld, nil
		case 'W':
			if o.kind == opRegister || o.kind == opStatus {
				o.err = errBeingReaped
				return retryHeld, nil
			}
		case 'B':
			l.setBuckets(o.part, text[1:])
			return retry, nil
		}
		return finished, reply
	case fatal:
		return finished, nil
	case moved, migrating:
		return retryHeld, nil
	case noScript:
		return retry, nil
	default:
		return retrySlower, nil
	}
}

// requeue puts ops back in front of their queues and frees the partitions of the batch.
func (l *lanes) requeue(w *worker, again []*op, held []int, done int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range slices.Backward(again) {
		q := &l.parts[o.part]
		o.next, q.head = q.head, o
		if q.tail == nil {
			q.tail = o
		}
	}
	for _, part := range held {
		l.hold(part)
	}
	for _, part := range w.parts {
		l.parts[part].busy = false
		l.schedule(part)
	}
	l.depth -= done
	if l.depth == 0 {
		l.tellDrained()
	}
}

// expire refuses what has waited too long, until the lanes are closed.
func (l *lanes) expire() {
	tick := time.NewTicker(min(l.store.cfg.OpTimeout/8, 500*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-l.ctx.Done():
			return
		case now := <-tick.C:
			for _, o := range l.takeExpired(now) {
				l.complete(o, nil, o.refusal())
			}
		}
	}
}

// takeExpired takes what is past its deadline out of the queues. What is in a batch is left: it returns soon.
func (l *lanes) takeExpired(now time.Time) []*op {
	l.mu.Lock()
	defer l.mu.Unlock()
	var expired []*op
	for p := range l.parts {
		q := &l.parts[p]
		var last *op
		for link := &q.head; *link != nil; {
			o := *link
			if o.deadline.IsZero() || now.Before(o.deadline) {
				last, link = o, &o.next
				continue
			}
			*link, o.next = o.next, nil
			expired = append(expired, o)
		}
		q.tail = last
	}
	l.depth -= len(expired)
	if len(expired) > 0 && l.depth == 0 {
		l.tellDrained()
	}
	return expired
}

// tellDrained wakes who waits for empty lanes; l.mu must be held.
func (l *lanes) tellDrained() {
	for _, c := range l.drained {
		close(c)
	}
	l.drained = nil
}

// drain waits until everything queued is written, or ctx ends.
func (l *lanes) drain(ctx context.Context) error {
	l.mu.Lock()
	if l.depth == 0 {
		l.mu.Unlock()
		return nil
	}
	empty := make(chan struct{})
	l.drained = append(l.drained, empty)
	l.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
