package client

import (
	"math/rand/v2"
	"time"
)

// stableAfter is how long a connection must have lasted for the pauses to begin anew. Beginning anew at every login would
// have a client that is thrown out right after it log in twice a second for ever.
const stableAfter = 30 * time.Second

// backoff is the pauses between attempts: they double from low to high, each jittered by a half so that clients that were
// cut off together do not come back together.
type backoff struct {
	low, high time.Duration
	failures  int
}

func (b *backoff) next() time.Duration {
	d := b.high
	if shift := b.failures; shift < 32 && b.low<<shift < b.high && b.low<<shift > 0 {
		d = b.low << shift
	}
	b.failures++
	return jitter(d)
}

func (b *backoff) reset() { b.failures = 0 }

// jitter returns a random duration between d/2 and d.
func jitter(d time.Duration) time.Duration {
	if d < 2 {
		return d
	}
	return d/2 + rand.N(d/2+1)
}
