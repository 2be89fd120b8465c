package chaos

import (
	"errors"
	"slices"
	"testing"
)

func TestShrinkKeepsWhatTheFailureNeeds(t *testing.T) {
	s := Random(1, Setting{Gateways: 3})
	s.Steps = append(s.Steps, Step{Verb: KillRedis}, Step{Verb: Thaw}, Step{Verb: DrainGateway})
	needs := func(c Schedule, v Verb) bool {
		return slices.ContainsFunc(c.Steps, func(s Step) bool { return s.Verb == v })
	}
	small, result := Shrink(s, func(c Schedule) (r Result) {
		if needs(c, KillRedis) && needs(c, DrainGateway) {
			r.Err = errors.New("failed")
		}
		return r
	})
	if len(small.Steps) != 2 || !needs(small, KillRedis) || !needs(small, DrainGateway) || !result.Failed() {
		t.Errorf("left (%v):\n%s", result.Err, small)
	}
}
