package store

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestHolderOnAnEpochTooYoungToBeKnown is not dead: the answer waits for a look that succeeds, and when none does for long,
// names the holder.
func TestHolderOnAnEpochTooYoungToBeKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &Member{kicks: make(chan struct{}, 1), running: true}
		m.view.Store(newView(&table{now: 10, deadlines: map[Epoch]int64{"live": 20, "dead": 5}}))
		var got []Holder
		answered := false
		m.located([]Holder{{Epoch: "live"}, {Epoch: "dead"}, {Epoch: "young"}}, func(list []Holder, err error) {
			if got, answered = list, true; err != nil {
				t.Error(err)
			}
		})
		m.waitOn(m.takeWaiting()) // a look failed
		if answered {
			t.Fatalf("answered with %v before the table could be read", got)
		}
		time.Sleep(unknownPatience + time.Millisecond) //nolint:forbidigo // synctest's clock
		m.waitOn(m.takeWaiting())
		if len(got) != 2 || got[0].Epoch != "live" || got[1].Epoch != "young" {
			t.Errorf("answered with %v", got)
		}
		if left := m.takeWaiting(); len(left) != 0 {
			t.Errorf("%d still wait", len(left))
		}
	})
}
