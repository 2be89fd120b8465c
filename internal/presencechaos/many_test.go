package presencechaos

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"
)

// many is how many sessions there are, on two gateways.
const many = 10_000

// crowd is devices of as many users, and what is asked about them.
type crowd struct {
	t       *testing.T
	w       *World
	names   []string
	devices []*device
}

// TestTenThousandSessionsAreBackAfterDataLoss: and meanwhile nobody is told that anybody is gone.
func TestTenThousandSessionsAreBackAfterDataLoss(t *testing.T) {
	c := &crowd{t: t, w: newWorld(t, Config{Gateways: 2, Redis: StartRedis(t), Lease: 15 * time.Second, Grace: 10 * time.Second})}
	c.devices, c.names = make([]*device, many), make([]string, many)
	c.each(func(i int) {
		var err error
		c.names[i] = fmt.Sprintf("user%05d", i)
		if c.devices[i], err = c.w.login(t.Context(), i, c.names[i], "d0", nil); err != nil {
			t.Errorf("%s cannot log in: %v", c.names[i], err)
		}
	})
	if t.Failed() {
		return
	}
	t.Cleanup(func() { c.each(func(i int) { c.devices[i].close() }) })
	ctx, cancel := context.WithCancel(t.Context())
	var tasks sync.WaitGroup
	watcher := c.w.watchSSE(ctx, &tasks, "all", 0, nil)
	defer func() {
		cancel()
		tasks.Wait()
		asking.CloseIdleConnections()
	}()
	c.allOnline("before")
	if !within(patience, func() bool { return len(watcher.online()) == many }) {
		t.Fatalf("the watch of everybody has told of %d", len(watcher.online()))
	}
	c.w.rec.take()
	begun := time.Now()
	c.w.cfg.Redis.flush(-1)
	back := c.allOnline("after FLUSHALL")
	t.Logf("all %d sessions were answered to be online %v after FLUSHALL", many, back.Sub(begun).Round(time.Millisecond))
	for _, e := range c.w.rec.take() {
		if e.Kind == Told && e.State.gone() {
			t.Fatalf("somebody is told to be gone: %v", e)
		}
	}
}

// each does something for every user, some at a time.
func (c *crowd) each(f func(i int)) {
	const some = 64
	var tasks sync.WaitGroup
	for k := range some {
		tasks.Go(func() {
			for i := k; i < many; i += some {
				f(i)
			}
		})
	}
	tasks.Wait()
}

// allOnline asks both pods until everybody is answered to be online, and returns when that was.
func (c *crowd) allOnline(when string) time.Time {
	c.t.Helper()
	last := ""
	all := func() bool {
		last = ""
		for n := range c.w.pods {
			for from := 0; from < many; from += 5000 {
				names := c.names[from : from+5000]
				views, _, err := c.w.batch(c.t.Context(), n, names)
				if text := tally(func(name string) State { return views[name].State }, names); err != nil || text != "5000 online" {
					last = fmt.Sprintf("p%d: %s, %v", n, text, err)
				}
			}
		}
		if last != "" {
			c.t.Logf("%s: %s", when, last)
		}
		return last == ""
	}
	if !within(patience, all) {
		c.t.Fatalf("%s: not everybody is online: %s", when, last)
	}
	return time.Now()
}

// within tries until something is so.
func within(d time.Duration, is func() bool) bool {
	for deadline := time.Now().Add(d); time.Now().Before(deadline); {
		if is() {
			return true
		}
		wait(20 * time.Millisecond)
	}
	return false
}
