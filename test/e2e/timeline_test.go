package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// The observers of a timeline.
const (
	byQuery = "query" // a batch query, ten times a second
	byWatch = "watch" // a watch by Server-Sent Events
	byHook  = "hook"  // the receiver of the hooks
)

var observers = []string{byQuery, byWatch, byHook}

// witness comes online at the end of each story, so that an observer that has become deaf is found out.
const witness = "witness"

// timeline records what a query, a watch and the receiver of the hooks say of some users while something fails.
type timeline struct {
	p     *platform
	users []string
	start time.Time
	stop  context.CancelFunc
	wg    sync.WaitGroup
	// query and watch may be led to different presence pods, as callers of the Service are.
	queries, watches *door

	mu   sync.Mutex
	seen []sighting
	now  map[string]map[string]string // observer to user to state
}

// sighting is a change of what an observer sees, or, without an observer, a remark.
type sighting struct {
	at                    time.Duration
	observer, user, state string
	all                   string // what everybody saw then
}

// watch starts a timeline when all observers know that the users are online.
func (p *platform) watch(users ...string) *timeline {
	p.t.Helper()
	ctx, stop := context.WithCancel(p.t.Context())
	tl := &timeline{p: p, users: append(users, witness), start: time.Now(), stop: stop, queries: &door{p: p}, watches: &door{p: p},
		now: map[string]map[string]string{byQuery: {}, byWatch: {}, byHook: {}}}
	for _, observe := range []func(context.Context){tl.query, tl.follow, tl.receive} {
		tl.wg.Go(func() { observe(ctx) })
	}
	p.t.Cleanup(tl.end)
	online := map[string]string{}
	for _, user := range users {
		online[user] = "online"
	}
	tl.until(settled, online, observers...)
	return tl
}

// see notes what an observer says of a user.
func (tl *timeline) see(observer, user, state string) {
	tl.mu.Lock()
	defer tl.mu.Unlock()
	if tl.now[observer][user] == state {
		return
	}
	tl.now[observer][user] = state
	tl.add(sighting{observer: observer, user: user, state: state})
}

// mark notes an event of the test, or of an observer.
func (tl *timeline) mark(format string, args ...any) {
	tl.mu.Lock()
	defer tl.mu.Unlock()
	tl.add(sighting{state: fmt.Sprintf(format, args...)})
}

func (tl *timeline) add(s sighting) {
	s.at, s.all = time.Since(tl.start), tl.row()
	tl.seen = append(tl.seen, s)
}

// row shows what all observers say at the moment.
func (tl *timeline) row() string {
	var columns []string
	for _, observer := range observers {
		column := observer + ":"
		for _, user := range slices.Sorted(maps.Keys(tl.now[observer])) {
			column += " " + user + "=" + tl.now[observer][user]
		}
		columns = append(columns, column)
	}
	return strings.Join(columns, " | ")
}

// end stops the observers and logs what they saw: all changes, those of the same tenth of a second in one line.
func (tl *timeline) end() {
	tl.stop()
	tl.wg.Wait()
	for i, s := range tl.seen {
		at := fmt.Sprintf("%6.1f s", s.at.Seconds())
		if s.observer == "" {
			tl.p.t.Logf("%s  -- %s --", at, s.state)
			continue
		}
		if i+1 < len(tl.seen) && tl.seen[i+1].observer != "" && fmt.Sprintf("%6.1f s", tl.seen[i+1].at.Seconds()) == at {
			continue
		}
		tl.p.t.Logf("%s  %s", at, s.all)
	}
}

// until waits until observers say so of users.
func (tl *timeline) until(timeout time.Duration, states map[string]string, who ...string) {
	tl.p.t.Helper()
	began := time.Now()
	eventually(tl.p.t, timeout, func() error {
		tl.mu.Lock()
		defer tl.mu.Unlock()
		for _, observer := range who {
			for user, want := range states {
				if got := tl.now[observer][user]; got != want {
					return fmt.Errorf("%s is %q for the %s, want %q: %s", user, got, observer, want, tl.row())
				}
			}
		}
		return nil
	})
	tl.mark("%s: %v after %.1f s", strings.Join(who, ", "), states, time.Since(began).Seconds())
}

// length is how much was seen until now.
func (tl *timeline) length() int {
	tl.mu.Lock()
	defer tl.mu.Unlock()
	return len(tl.seen)
}

// never fails the test if an observer ever said a state of one of the users.
func (tl *timeline) never(state string, users ...string) {
	tl.p.t.Helper()
	tl.neverAfter(0, observers, state, users...)
}

// neverAfter is never for some observers, and what was seen from a moment on.
func (tl *timeline) neverAfter(length int, who []string, state string, users ...string) {
	tl.p.t.Helper()
	tl.mu.Lock()
	defer tl.mu.Unlock()
	for _, s := range tl.seen[length:] {
		if s.state == state && slices.Contains(who, s.observer) && slices.Contains(users, s.user) {
			tl.p.t.Errorf("at %.1f s the %s said that %s is %s", s.at.Seconds(), s.observer, s.user, state)
		}
	}
}

// converge ends a story: everybody who observes says the same, and none has become deaf, for a login of the witness at a
// gateway is seen by all.
func (tl *timeline) converge(gateway *corev1.Pod, states map[string]string) {
	tl.p.t.Helper()
	tl.until(settled, states, observers...)
	login(tl.p.t, forward(tl.p.t, gateway, 8080), witness).hold()
	states[witness] = "online"
	tl.until(settled, states, observers...)
}

// door leads to a presence pod, and to another one after shut, as the Service does.
type door struct {
	p     *platform
	tries int
	stop  func() error

	mu   sync.Mutex
	addr string
	pod  *corev1.Pod
}

func (d *door) open(ctx context.Context) (string, error) {
	if d.stop != nil {
		return d.addr, nil
	}
	pods, err := d.p.podsOf(ctx, "presence")
	if err != nil {
		return "", err
	}
	if len(pods) == 0 {
		return "", fmt.Errorf("no presence pod runs")
	}
	pod := pods[d.tries%len(pods)]
	addr, stop, err := tunnel(pod, 8080)
	if err != nil {
		d.tries++
		return "", err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.addr, d.pod, d.stop = addr, pod, stop
	return addr, nil
}

// shut has the next open lead elsewhere.
func (d *door) shut() {
	if d.stop != nil {
		_ = d.stop() // it is known to be broken, or not needed any more
		d.stop = nil
		d.tries++
	}
}

// behind is the pod that the door leads to.
func (d *door) behind(t *testing.T) *corev1.Pod {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pod == nil {
		t.Fatal("the door leads nowhere")
	}
	return d.pod
}
