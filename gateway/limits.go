package gateway

import "time"

// limits are two token buckets, for frames and bytes, without a timer. Both hold what two seconds allow. Whoever goes on
// to send at more than twice either rate is a flood.
type limits struct {
	last          time.Duration // wheel time
	frames, bytes float32
	excess        float32 // seconds that what was refused would have taken, less those that went by
}

// limitsRefill is how long it takes until limits are as new.
const limitsRefill = 4 * time.Second

type verdict uint8

const (
	allowed verdict = iota
	refused
	flood
)

func newLimits(now time.Duration, frameRate, byteRate int) limits {
	return limits{last: now, frames: 2 * float32(frameRate), bytes: 2 * float32(byteRate)}
}

// refund takes a frame back that was allowed.
func (l *limits) refund(size int) {
	l.frames++
	l.bytes += float32(size)
}

// take judges a frame of the given size. Rates are per second; negative means no limit.
func (l *limits) take(now time.Duration, size, frameRate, byteRate int) verdict {
	elapsed := float32((now - l.last).Seconds())
	l.last = now
	fr, br := float32(frameRate), float32(byteRate)
	l.frames = min(l.frames+elapsed*fr, 2*fr)
	l.bytes = min(l.bytes+elapsed*br, 2*br)
	l.excess = max(l.excess-elapsed, 0)
	if (frameRate < 0 || l.frames >= 1) && (byteRate < 0 || l.bytes >= float32(size)) {
		l.frames--
		l.bytes -= float32(size)
		return allowed
	}
	l.excess += max(1/fr, float32(size)/br) // that of a rate without a limit is negative
	if l.excess > 2 {
		return flood
	}
	return refused
}
