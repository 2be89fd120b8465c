package chaos

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/imcluster/imcluster/internal/chaos/check"
)

// ackTime is how long a gateway has to write an acknowledgement: 200 ms, and a second because the machine may be busy.
const ackTime = 1200 * time.Millisecond

// number is the value of an environment variable, or else d.
func number(t *testing.T, name string, d uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return d
	}
	v, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v
}

// seeds are that of CHAOS_SEED, or as many random ones as CHAOS_SCHEDULES says, or else n; each CHAOS_REPEAT times.
func seeds(t *testing.T, n int) (list []uint64) {
	t.Helper()
	repeat := number(t, "CHAOS_REPEAT", 1)
	seed := number(t, "CHAOS_SEED", 0)
	count := number(t, "CHAOS_SCHEDULES", uint64(n))
	if seed != 0 {
		count = 1
	}
	for range count {
		next := seed
		if seed == 0 {
			next = 1 + rand.Uint64N(1e9)
		}
		for range repeat {
			list = append(list, next)
		}
	}
	return list
}

// suite is a kind of world with the schedules for it.
type suite struct {
	set    Setting
	worlds int // at the same time
	opts   check.Options
	config func(t *testing.T) WorldConfig
}

// TestRandomSchedules: whatever happens to connections, gateways and one Redis that syncs every write.
func TestRandomSchedules(t *testing.T) {
	t.Parallel()
	suite{
		set: Setting{Gateways: 3}, worlds: 3, opts: check.Options{AckTime: ackTime},
		config: func(t *testing.T) WorldConfig { return WorldConfig{Redis: StartDurable(t)} },
	}.run(t, seeds(t, 40))
}

// TestRandomSchedulesWithFullMailboxes: what is pushed out of a mailbox is counted, and nothing else is lost.
func TestRandomSchedulesWithFullMailboxes(t *testing.T) {
	t.Parallel()
	suite{
		set: Setting{Gateways: 2, Flood: true}, worlds: 1, opts: check.Options{AckTime: ackTime, Cap: 10},
		config: func(t *testing.T) WorldConfig {
			return WorldConfig{Redis: StartDurable(t), Args: []string{"--mailbox-max-messages=10"}}
		},
	}.run(t, seeds(t, 8))
}

// TestRandomSchedulesOnRedisCluster: primaries die for good, and gateways wait for the replica before they say that a
// message is stored.
func TestRandomSchedulesOnRedisCluster(t *testing.T) {
	t.Parallel()
	suite{
		set: Setting{Gateways: 3, Cluster: true}, worlds: 1, opts: check.Options{AckTime: ackTime, StoreLag: time.Second},
		config: func(t *testing.T) WorldConfig { return WorldConfig{Redis: StartReplicated(t)} },
	}.run(t, seeds(t, 4))
}

// run shares the seeds out among some worlds.
func (s suite) run(t *testing.T, list []uint64) {
	next := make(chan uint64, len(list))
	for _, seed := range list {
		next <- seed
	}
	close(next)
	t.Run("worlds", func(t *testing.T) { // returns when all have ended
		for i := range min(int(number(t, "CHAOS_WORLDS", uint64(s.worlds))), len(list)) {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				s.work(t, next)
			})
		}
	})
}

// maxFailures is after how many failures in one place the others are not run.
const maxFailures = 3

// work runs schedules in one world, and after one that failed in another one: what goes on there may be its consequence.
func (s suite) work(t *testing.T, next <-chan uint64) {
	w, failures := s.world(t), 0
	for seed := range next {
		schedule := s.schedule(t, seed)
		begun := time.Now()
		result := w.Run(t.Context(), schedule, s.opts)
		t.Logf("seed %d: %d steps, %d events, %v", seed, len(schedule.Steps), len(result.History), time.Since(begun).Round(time.Millisecond))
		if !result.Failed() {
			continue
		}
		report(t, w, schedule, result)
		if os.Getenv("CHAOS_SHRINK") != "" {
			small, result := Shrink(schedule, func(c Schedule) Result { return s.once(t, c) })
			t.Logf("what is left of the schedule fails too: %v %v\n%s", result.Err, first(result.Violations), small)
		}
		if failures++; failures == maxFailures {
			return
		}
		w = s.world(t)
	}
}

func first(list []check.Violation) any {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// schedule is the one of a seed, or that in the file CHAOS_SCHEDULE.
func (s suite) schedule(t *testing.T, seed uint64) Schedule {
	t.Helper()
	file := os.Getenv("CHAOS_SCHEDULE")
	if file == "" {
		return Random(seed, s.set)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	schedule, err := ParseSchedule(string(data))
	if err != nil {
		t.Fatal(err)
	}
	return schedule
}

// once runs a schedule in a world of its own.
func (s suite) once(t *testing.T, schedule Schedule) (r Result) {
	t.Helper()
	t.Run("once", func(t *testing.T) { r = s.world(t).Run(t.Context(), schedule, s.opts) })
	return r
}

func (s suite) world(t *testing.T) *World {
	t.Helper()
	cfg := s.config(t)
	cfg.Program, cfg.Gateways = gatewayProgram(t), s.set.Gateways
	cfg.Args = append(cfg.Args, "--redelivery-delay=300ms", "--store-timeout=2s")
	return NewWorld(t, cfg)
}

// shown is how many violations of a rule are told.
const shown = 3

// report tells everything that is known of a failure.
func report(t *testing.T, w *World, s Schedule, r Result) {
	t.Helper()
	t.Errorf("seed %d failed; CHAOS_SEED=%d repeats it", s.Seed, s.Seed)
	if r.Err != nil {
		t.Errorf("the schedule did not end: %v", r.Err)
	}
	count := map[check.Rule]int{}
	for _, v := range r.Violations {
		if count[v.Rule]++; count[v.Rule] <= shown {
			t.Errorf("%v", v)
		}
	}
	t.Logf("violations: %v", count)
	t.Logf("the schedule:\n%s", s)
	var history strings.Builder
	for _, e := range r.History {
		fmt.Fprintln(&history, e)
	}
	t.Logf("the history:\n%s", history.String())
	t.Logf("the gateways:\n%s", w.Logs())
}
