package chaos

import "slices"

// attempts is how often a schedule that may fail is tried: most failures need some luck.
const attempts = 3

// Shrink drops steps of a schedule that fails, as long as it fails, halves first (Zeller and Hildebrandt, Simplifying and
// isolating failure-inducing input). It returns what is left and how it failed.
func Shrink(s Schedule, run func(Schedule) Result) (Schedule, Result) {
	var last Result
	fails := func(c Schedule) bool {
		for range attempts {
			if r := run(c); r.Failed() {
				last = r
				return true
			}
		}
		return false
	}
	for size := max(len(s.Steps)/2, 1); ; size /= 2 {
		for from := 0; from < len(s.Steps); {
			c := s
			c.Steps = slices.Delete(slices.Clone(s.Steps), from, min(from+size, len(s.Steps)))
			if fails(c) {
				s = c
			} else {
				from += size
			}
		}
		if size <= 1 {
			return s, last
		}
	}
}
