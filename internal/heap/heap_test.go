package heap

import "testing"

func TestTheHeapGrowsByTheSlackOrByItsOwnSize(t *testing.T) {
	for _, live := range []uint64{0, 1 << 20, 4 << 20, 10 << 20, Slack - 1, Slack, 10 * Slack} {
		p := percent(live)
		growth := live * uint64(p) / 100
		switch {
		case p < 100:
			t.Errorf("%d bytes: %d %%, less than without", live, p)
		case live >= Slack && p != 100:
			t.Errorf("%d bytes: %d %%, and the slack is less than the heap", live, p)
		case growth > max(Slack, live):
			t.Errorf("%d bytes: the heap grows by %d", live, growth)
		case live >= 4<<20 && live < Slack && growth < Slack*7/8:
			t.Errorf("%d bytes: the heap grows by %d only", live, growth)
		}
	}
}
