package gateway

import (
	"math/rand/v2"
	"time"

	"github.com/imcluster/imcluster/api/wire"
)

// delay is how many milliseconds a client should wait before it tries again, at random, so that those who were refused
// together do not come back together.
func delay(code wire.Code) int64 {
	switch code {
	case wire.CodeTooManyFrames:
		return between(500*time.Millisecond, time.Second)
	case wire.CodeTooManyConns:
		return between(5*time.Second, 15*time.Second)
	default:
		return between(time.Second, 3*time.Second)
	}
}

// between returns a random number of milliseconds.
func between(low, high time.Duration) int64 {
	return (low + rand.N(high-low)).Milliseconds()
}
