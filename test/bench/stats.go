package main

import (
	"fmt"
	"slices"
)

// spread is the median and the range of a figure over the rounds of a run.
type spread struct{ median, low, high float64 }

func spreadOf(values []float64) spread {
	sorted := slices.Sorted(slices.Values(values))
	if len(sorted) == 0 {
		return spread{}
	}
	median := sorted[len(sorted)/2]
	if len(sorted)%2 == 0 {
		median = (median + sorted[len(sorted)/2-1]) / 2
	}
	return spread{median: median, low: sorted[0], high: sorted[len(sorted)-1]}
}

// spreadBy is the spread of one figure of the rounds.
func spreadBy[R any](rounds []R, of func(R) float64) spread {
	values := make([]float64, len(rounds))
	for i, r := range rounds {
		values[i] = of(r)
	}
	return spreadOf(values)
}

// show prints the figure as text in the given unit.
func (s spread) show(format, unit string) string {
	return fmt.Sprintf(format+" %s ("+format+" to "+format+")", s.median, unit, s.low, s.high)
}
