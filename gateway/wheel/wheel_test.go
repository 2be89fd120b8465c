package wheel

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const tick = 100 * time.Millisecond

// start runs a wheel inside a synctest bubble until the test ends.
func start(t *testing.T) *Wheel {
	w := New(tick)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return w
}

// sleep lets synctest's clock run, and what is due then finish.
func sleep(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // synctest's clock
	synctest.Wait()
}

func TestTimersFireOnceWithinOneTick(t *testing.T) {
	for _, d := range []time.Duration{0, time.Millisecond, tick, 3 * tick, 10 * time.Second, 51200 * time.Millisecond, 5 * time.Minute} {
		t.Run(d.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := start(t)
				begin, fired := time.Now(), []time.Duration{}
				w.AfterFunc(d, func() { fired = append(fired, time.Since(begin)) })
				sleep(d + 2*time.Minute)
				if len(fired) != 1 {
					t.Fatalf("fired %d times", len(fired))
				}
				if fired[0] < d || fired[0] > d+2*tick {
					t.Errorf("fired after %v, want %v to %v", fired[0], d, d+2*tick)
				}
			})
		})
	}
}

func TestStoppedTimerDoesNotFire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		timer := w.AfterFunc(time.Second, func() { t.Error("fired") })
		if !w.Stop(timer) {
			t.Error("Stop says that the timer was not scheduled")
		}
		if w.Stop(timer) {
			t.Error("a second Stop says that the timer was scheduled")
		}
		sleep(time.Minute)
	})
}

func TestRescheduleMovesTheTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		var at time.Duration
		begin := time.Now()
		fire := expireFunc(func() { at = time.Since(begin) })
		timer := &Timer{}
		w.Schedule(timer, time.Second, fire)
		w.Schedule(timer, 5*time.Second, fire)
		sleep(time.Minute)
		if at < 5*time.Second || at > 5*time.Second+2*tick {
			t.Errorf("fired after %v, want 5s", at)
		}
	})
}

func TestTimersMayScheduleAndStopFromExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		fired := 0
		var victim *Timer
		var again func()
		again = func() {
			if fired++; fired == 1 {
				w.Stop(victim)
			}
			if fired < 10 {
				w.AfterFunc(tick, again)
			}
		}
		victim = w.AfterFunc(10*tick, func() { t.Error("the stopped timer fired") })
		w.AfterFunc(tick, again)
		sleep(time.Minute)
		if fired != 10 {
			t.Errorf("fired %d times, want 10", fired)
		}
	})
}

func TestManyTimersOfOneTick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		var fired atomic.Int32
		for i := range 10000 {
			w.AfterFunc(time.Duration(i%7)*time.Second+time.Second, func() { fired.Add(1) })
		}
		sleep(time.Minute)
		if fired.Load() != 10000 {
			t.Errorf("fired %d of 10000", fired.Load())
		}
	})
}

// TestStoppedProcessIsForgiven: after a pause (here the wheel's goroutine blocked in an Expire) the clock advances by no
// more than MaxStep.
func TestStoppedProcessIsForgiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		w.AfterFunc(tick, func() { time.Sleep(time.Minute) }) //nolint:forbidigo // a stopped process
		sleep(time.Minute + 5*tick)
		if now := w.Now(); now > MaxStep+10*tick {
			t.Errorf("the wheel's clock advanced by %v", now)
		}
	})
}
