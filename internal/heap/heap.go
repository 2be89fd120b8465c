// Package heap keeps a small heap from being collected too often.
//
// Go collects when the heap has doubled. A gateway whose clients send much and are few has 6 MB that live, so it collects
// 15 times a second, with all that this stops and assists; one with 20,000 clients has 60 MB, and its own size is enough.
package heap

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// Slack is by how many bytes the heap may grow before it is collected, if it has less than that: so much more memory a
// process takes at most than without. A one-to-one message costs the gateways 17.6 µs of processor time without, 15.3 with
// 16 MB, 14.9 with 32, and 15.1 with 64.
const Slack = 32 << 20

// Let lets the heap of this process grow by at least Slack between two collections, and by its own size as ever. A limit
// on memory (GOMEMLIMIT) is kept: close to it the runtime collects earlier. It does nothing if GOGC is set.
func Let() {
	if os.Getenv("GOGC") == "" {
		after(&generation{})
	}
}

// generation is garbage as soon as it is made, so that its finalizer runs after every collection.
type generation struct {
	percent int
	_       *byte // not among the tiny objects, which live with their neighbours
}

func after(g *generation) {
	if p := percent(live()); p != g.percent {
		g.percent = p
		debug.SetGCPercent(p)
	}
	runtime.SetFinalizer(g, after)
}

// live is what the growth of the heap is measured by: what was alive at the last collection, stacks, and globals.
func live() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(s)
	var n uint64
	for i := range s {
		n += s[i].Value.Uint64()
	}
	return n
}

// percent is by how much of so many bytes the heap may grow. It goes in steps of an eighth, since it stops the world to
// change it.
func percent(live uint64) int {
	if live >= Slack {
		return 100
	}
	const most = 1600
	p := 100.0
	for p < most && float64(live)*p*9/8/100 <= Slack {
		p = p * 9 / 8
	}
	return int(p)
}
