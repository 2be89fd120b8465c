package store

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"time"
)

const (
	// reapStep is how many sessions one script removes: 1 ms of Redis at most.
	reapStep = 128
	// reapAtOnce is how many partitions are reaped in one pipeline, so that others get their turn in between.
	reapAtOnce = 8
)

// reap removes the sessions of a dead epoch from every partition. Who moved to another epoch stays.
func (s *Store) reap(ctx context.Context, e Epoch) error {
	// Several pods that reap at once begin at different partitions, and so share the work.
	offset := rand.IntN(Partitions)
	for i := 0; i < Partitions; i += reapAtOnce {
		var parts []int
		for j := i; j < min(i+reapAtOnce, Partitions); j++ {
			parts = append(parts, (j+offset)%Partitions)
		}
		for len(parts) > 0 {
			var err error
			if parts, err = s.reapStep(ctx, parts, e); err != nil {
				return err
			}
		}
	}
	return nil
}

// reapStep removes up to reapStep sessions from each partition, and returns the partitions that have more.
func (s *Store) reapStep(ctx context.Context, parts []int, e Epoch) (more []int, err error) {
	var reads []*request
	for _, p := range parts {
		reads = append(reads,
			read(p, "hkeys", s.keys.indexKey(p, e)),
			read(p, "hget", s.keys.meta[p], bucketsField))
	}
	if err := s.exchange(ctx, reads...); err != nil {
		return nil, err
	}
	var calls []*request
	var of []int
	for i, p := range parts {
		sessions := reads[2*i].list()
		if len(sessions) == 0 {
			continue
		}
		if len(sessions) > reapStep {
			sessions = sessions[:reapStep]
		}
		more = append(more, p) // until it is seen to be empty
		calls = append(calls, s.reapCall(p, e, sessions, max(1, int(intOf(reads[2*i+1].text())))))
		of = append(of, p)
	}
	if len(calls) == 0 {
		return nil, nil
	}
	if err := s.exchange(ctx, calls...); err != nil {
		return nil, err
	}
	for i, c := range calls {
		if c.text() == "A" {
			return nil, errNotDead // the partition has lost its data just now
		}
		n := intOf(c.text()) // 0 for "B<n>": read the number of buckets again
		if n < 0 {
			n = -n - 1
			if err := s.splitNext(ctx, of[i]); err != nil {
				return nil, err
			}
		}
		s.metrics.reaped.Add(ctx, n)
	}
	return more, nil
}

func (s *Store) reapCall(part int, e Epoch, sessions []any, buckets int) *request {
	keys := []string{s.keys.meta[part], s.keys.indexKey(part, e), s.keys.hidden[part]}
	args := []any{string(e), buckets, s.cfg.mailKept().Milliseconds()}
	for _, v := range sessions {
		user, device, _ := strings.Cut(textOf(v), "\x00")
		field := seenField(user)
		keys = append(keys, s.keys.userKey(part, user), s.keys.mailKey(part, user), s.keys.seenKey(part, seenBucket(field, buckets)))
		args = append(args, textOf(v), device, field, deviceHash(user, device))
	}
	return eval(part, reapScript, keys, args...)
}

var errNotDead = errors.New("the epoch is not known to be dead")

// splitNext splits buckets of last seen until none is too full.
func (s *Store) splitNext(ctx context.Context, part int) error {
	for {
		count := read(part, "hget", s.keys.meta[part], bucketsField)
		if err := s.exchange(ctx, count); err != nil {
			return err
		}
		n := max(1, int(intOf(count.text())))
		from, modulus := splitBucket(n)
		split := eval(part, splitScript,
			[]string{s.keys.meta[part], s.keys.seenKey(part, from), s.keys.seenKey(part, n)}, n, from, modulus)
		if err := s.exchange(ctx, split); err != nil {
			return err
		}
		if !strings.HasSuffix(split.text(), "!") {
			return nil
		}
	}
}

// forgetAtOnce is how many buckets of last seen are looked through per second. Readers check the retention themselves; this
// only frees the memory, of 5 million users a pod and day.
const forgetAtOnce = 4

// forget removes expired entries from the next buckets of last seen.
func (k *keeper) forget(ctx context.Context, t *table) error {
	now := t.wall / 1000
	oldest := now - int64(k.cfg.Retention/time.Second)
	for range forgetAtOnce {
		count := read(k.part, "hget", k.keys.meta[k.part], bucketsField)
		key := k.keys.seenKey(k.part, k.bucket)
		bucket := read(k.part, "hgetall", key)
		if err := k.exchange(ctx, count, bucket); err != nil {
			return err
		}
		var old []any
		entries := bucket.list()
		for i := 0; i+1 < len(entries); i += 2 {
			if parseSeen(textOf(entries[i+1]), now) < oldest {
				old = append(old, entries[i], entries[i+1])
			}
		}
		if len(old) > 0 {
			if err := k.exchange(ctx, eval(k.part, forgetScript, []string{key}, old...)); err != nil {
				return err
			}
		}
		if k.bucket++; int64(k.bucket) >= max(1, intOf(count.text())) {
			k.part, k.bucket = (k.part+1)%Partitions, 0
		}
	}
	return nil
}
