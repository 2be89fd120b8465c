package presencechaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/imcluster/imcluster/presence/store"
)

const (
	// people is how many users there are in a schedule; a third of them are steady.
	people = 18
	// calm is how long everybody may be connected before the faults begin, and after the last step until they have to be over.
	calm = 700 * time.Millisecond
	// lag is how much older an answer may be than it says: memory answers for a second after it was last told.
	lag = 1200 * time.Millisecond
	// patience is how long it may take until everybody tells the same when it is quiet. Hooks of a pod that died are taken
	// over after 5 s, and refused ones come again after some seconds.
	patience = 20 * time.Second
)

// Result is what became of a schedule.
type Result struct {
	Steps      []Step
	Violations []Violation
	Err        error
	Blamed     string // a user whom the Err is about
	Why        string // what presence says of that user
	History    []Event
	Settled    time.Duration // after how long all told the same
}

// Failed tells whether a promise was broken.
func (r Result) Failed() bool { return r.Err != nil || len(r.Violations) > 0 }

// run is a schedule that runs.
type run struct {
	w        *World
	store    *store.Store
	users    []*user
	names    []string
	watchers []*watcher
}

// Run runs the schedule of a seed. The store is asked how users really are.
func (w *World) Run(ctx context.Context, st *store.Store, seed uint64) Result {
	result := Result{Steps: Random(seed, w.cfg.Redis.cluster)}
	w.rec.take()
	w.devices.calm()
	r := &run{w: w, store: st}
	for i := range people {
		name := fmt.Sprintf("u%d-%d", seed, i)
		r.users = append(r.users, newUser(w, name, rand.New(rand.NewPCG(seed, uint64(100+i))), i%3 == 0))
		r.names = append(r.names, name)
	}
	watching, stop := context.WithCancel(ctx)
	var watchTasks sync.WaitGroup
	r.watch(watching, &watchTasks)
	result.Err = r.play(ctx, result.Steps)
	if result.Err == nil {
		begun := time.Now()
		result.Err = r.settle(ctx)
		result.Settled = time.Since(begun)
	}
	for _, name := range r.names {
		if result.Err != nil && result.Blamed == "" && strings.Contains(result.Err.Error(), name+" ") {
			result.Blamed = name
		}
	}
	if result.Blamed != "" {
		why, err := w.presence(0).Why(ctx, result.Blamed)
		text, _ := json.Marshal(why) // an answer in JSON
		result.Why = fmt.Sprintf("%s %v", text, err)
	}
	for _, u := range r.users {
		u.leave()
	}
	if result.Err == nil { // who has left is to be seen leaving
		result.Err = r.settle(ctx)
	}
	stop()
	watchTasks.Wait()
	asking.CloseIdleConnections()
	result.History = slices.DeleteFunc(w.rec.take(), func(e Event) bool { return e.User != "" && !slices.Contains(r.names, e.User) })
	result.Violations = Check(result.History, lag)
	return result
}

func (r *run) watch(ctx context.Context, tasks *sync.WaitGroup) {
	r.watchers = []*watcher{
		r.w.watchSSE(ctx, tasks, "users", 0, r.names), r.w.watchSSE(ctx, tasks, "some", 1, r.names[:4]), r.w.watchSSE(ctx, tasks, "all", 1, nil),
		r.w.watchGRPC(ctx, tasks, "users", 0, r.names), r.w.watchGRPC(ctx, tasks, "all", 1, nil),
		r.w.watchWS(ctx, tasks, "a", r.names), r.w.watchWS(ctx, tasks, "b", r.names),
	}
	for n := range r.w.pods {
		tasks.Go(func() { r.w.ask(ctx, n, r.names) })
	}
}

// play drives users while the faults happen, and waits until those are over.
func (r *run) play(ctx context.Context, steps []Step) error {
	var connecting sync.WaitGroup
	for _, u := range r.users {
		connecting.Go(func() {
			if u.steady || u.random.IntN(2) == 0 {
				u.want["d0"] = true
			}
			u.keep(ctx)
		})
	}
	connecting.Wait()
	driving, stop := context.WithCancel(ctx)
	defer stop()
	var drivers sync.WaitGroup
	for _, u := range r.users {
		drivers.Go(func() { u.drive(driving) })
	}
	wait(calm)
	for _, s := range steps {
		wait(s.After)
		r.w.do(s, r.watchers)
	}
	wait(calm)
	err := r.w.heal()
	stop()
	drivers.Wait()
	return err
}

// settle waits until everybody tells what the users know.
func (r *run) settle(ctx context.Context) error {
	deadline := time.Now().Add(patience)
	var last error
	for time.Now().Before(deadline) {
		if last = r.settled(ctx); last == nil {
			return nil
		}
		wait(200 * time.Millisecond)
	}
	return fmt.Errorf("not settled after %v: %w", patience, last)
}

func (r *run) settled(ctx context.Context) error {
	ready := make([]bool, len(r.users))
	var settling sync.WaitGroup
	for i, u := range r.users {
		settling.Go(func() { ready[i] = u.settle(ctx) })
	}
	settling.Wait()
	if i := slices.Index(ready, false); i >= 0 {
		return fmt.Errorf("%s cannot log in, or set a status", r.names[i])
	}
	truth, _, degraded := r.store.Users(ctx, r.names)
	if degraded {
		return errors.New("the store cannot tell")
	}
	want := make(map[string]view, len(truth))
	var online []string
	for i, u := range r.users {
		v := viewOfStore(&truth[i])
		if err := u.check(v); err != nil {
			return fmt.Errorf("the store: %w", err)
		}
		if want[u.name] = v; u.online() {
			online = append(online, u.name)
		}
	}
	slices.Sort(online)
	return errors.Join(r.compareAnswers(ctx, want, online), r.compareWatchers(want), r.compareHooks())
}

// check tells whether the store has what the user knows.
func (u *user) check(v view) error {
	var ids []string
	for name, d := range u.have {
		number := strings.TrimPrefix(strings.Split(d.gateway, ".")[0], "g")
		ids = append(ids, name+"@g"+number)
	}
	slices.Sort(ids)
	want := view{State: Online, Status: u.status.Status, Text: u.status.StatusText, Devices: strings.Join(ids, " ")}
	switch {
	case u.online() && v != want:
		return fmt.Errorf("%s is %v, and should be %v", u.name, v, want)
	case !u.online() && !v.State.gone():
		return fmt.Errorf("%s is %v, and should not be online", u.name, v)
	}
	return nil
}

// compareAnswers asks both pods in every way.
func (r *run) compareAnswers(ctx context.Context, want map[string]view, online []string) error {
	var errs []error
	for n := range r.w.pods {
		views, fresh, err := r.w.batch(ctx, n, r.names)
		if err != nil || fresh.Degraded {
			return fmt.Errorf("batch on p%d: degraded %v: %w", n, fresh.Degraded, err)
		}
		errs = append(errs, differences(fmt.Sprintf("batch p%d", n), want, func(name string) view { return views[name] }))
		listed, degraded, err := r.w.list(ctx, n, r.names)
		if err != nil || degraded || !slices.Equal(listed, online) {
			errs = append(errs, fmt.Errorf("list of p%d: %v, and should be %v (degraded %v, %w)", n, listed, online, degraded, err))
		}
		states, err := r.w.briefs(ctx, n, r.names)
		if err != nil {
			errs = append(errs, err)
		}
		for name, s := range states {
			if s != want[name].State {
				errs = append(errs, fmt.Errorf("getOnOffStatus p%d: %s is %s, and should be %s", n, name, s, want[name].State))
			}
		}
		errs = append(errs, r.compareCounts(ctx, n))
	}
	return errors.Join(errs...)
}

// compareCounts compares the counts of a pod with those of the store: others are online beside the users of the schedule.
func (r *run) compareCounts(ctx context.Context, n int) error {
	got, err := r.w.presence(n).Count(ctx)
	if err != nil {
		return err
	}
	want, err := r.store.Counts(ctx)
	if err != nil {
		return err
	}
	if got.Users != want.Users || got.Sessions != want.Sessions || got.Degraded || want.Degraded {
		return fmt.Errorf("counts of p%d: %d users, %d sessions, degraded %v, and should be %d, %d (%v)",
			n, got.Users, got.Sessions, got.Degraded, want.Users, want.Sessions, want.Degraded)
	}
	return nil
}

func differences(who string, want map[string]view, of func(string) view) error {
	var errs []error
	for name, w := range want {
		if got := of(name); got != w {
			errs = append(errs, fmt.Errorf("%s: %s is %v, and should be %v", who, name, got, w))
		}
	}
	return errors.Join(errs...)
}

func (r *run) compareWatchers(want map[string]view) error {
	var errs []error
	for _, w := range r.watchers {
		expect := map[string]view{}
		for name, v := range want {
			switch {
			case w.observer == "sse some" && !slices.Contains(r.names[:4], name):
				continue
			case strings.HasPrefix(w.observer, "ws"):
				v.Devices = "" // it is not told
			case w.all && v.State.gone() && w.of(name).State.gone():
				continue // it is told who goes, not what becomes of who is gone
			}
			expect[name] = v
		}
		errs = append(errs, differences(w.observer, expect, w.of))
	}
	return errors.Join(errs...)
}

func (r *run) compareHooks() error {
	var errs []error
	for _, u := range r.users {
		if r.w.hooks.online(u.name) != u.online() {
			errs = append(errs, fmt.Errorf("hooks: %s is online: %v, and should be %v", u.name, !u.online(), u.online()))
		}
	}
	return errors.Join(errs...)
}
