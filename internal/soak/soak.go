// Package soak rehearses what a platform promises about messages: many users chat in pairs for a while, and in the end
// every message that was acknowledged to its sender must have reached its recipient, whatever was done to the platform
// meanwhile. It also tells how often users had to connect again, and what presence said of them.
package soak

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/imcluster/imcluster/client"
)

// Config says what to rehearse. GatewayURLs and Token are required.
type Config struct {
	GatewayURLs []string
	// Token returns the token of a user.
	Token func(user string) (string, error)
	// Presence is asked about the users five times a second; nil means not.
	Presence *client.Presence
	// Users is how many users chat, an even number. Zero means 100. They are called Prefix and a number.
	Users  int
	Prefix string
	// Rate is how many messages are sent a second, over all users. Zero means one for each user every two seconds.
	Rate float64
	// For is how long messages are sent. Zero means a minute. What is due may then take Settle, zero means 30 s, to arrive.
	For, Settle time.Duration
	// Progress is called once a second while messages are sent. Optional.
	Progress func(Report)
}

// Report says what happened. A platform that keeps its promises has no Lost and no Foreign.
type Report struct {
	// Final is false while messages are sent: what was stored may be on its way.
	Final bool `json:"final"`
	Users int  `json:"users"`
	// Sent is how many messages there were; Stored how many of them were acknowledged to their senders. The others were
	// Refused, or nothing is known of them.
	Sent    int `json:"sent"`
	Stored  int `json:"stored"`
	Refused int `json:"refused"`
	Unknown int `json:"unknown"`
	// Delivered is how many messages arrived, each counted once; Repeated how many arrived again.
	Delivered int `json:"delivered"`
	Repeated  int `json:"repeated"`
	// Lost is how many were acknowledged and did not arrive; Foreign how many arrived that nobody had sent. Disordered is
	// how many arrived after a later one of the same sender, which those do that were refused at first and sent again.
	Lost       int `json:"lost"`
	Foreign    int `json:"foreign"`
	Disordered int `json:"disordered"`

	// Reconnects is how often users logged in again; ReconnectsPerSecond how often at most, in 99 of 100 seconds of those
	// in which anybody did.
	Reconnects          int     `json:"reconnects"`
	ReconnectsPerSecond float64 `json:"reconnectsPerSecondP99"`
	// Ended is how many users were cut off for good.
	Ended int `json:"ended"`

	// Looks is how often presence was asked; Offline and UnknownState how many of its answers said so of a user who chats.
	Looks        int `json:"presenceLooks"`
	Offline      int `json:"presenceOffline"`
	UnknownState int `json:"presenceUnknown"`

	// P50 and P99 are the times from sending to the acknowledgement, in ms.
	P50 float64 `json:"ackMillisP50"`
	P99 float64 `json:"ackMillisP99"`
}

// OK tells whether every promise was kept.
func (r *Report) OK() bool { return r.Lost == 0 && r.Foreign == 0 && r.Ended == 0 }

func (c Config) withDefaults() (Config, error) {
	if c.Users == 0 {
		c.Users = 100
	}
	if c.Users < 2 || c.Users%2 != 0 {
		return c, fmt.Errorf("the number of users must be even and at least 2, not %d", c.Users)
	}
	if c.Rate == 0 {
		c.Rate = float64(c.Users) / 2
	}
	if c.Rate < 0 || c.For < 0 || c.Settle < 0 {
		return c, errors.New("the rate and the times must not be negative")
	}
	if c.For == 0 {
		c.For = time.Minute
	}
	if c.Settle == 0 {
		c.Settle = 30 * time.Second
	}
	return c, nil
}

// Run logs the users in, has them chat, and reports. The error says that it could not be done; broken promises are in the
// report only.
func Run(ctx context.Context, cfg Config) (Report, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return Report{}, err
	}
	r := &rehearsal{cfg: cfg, reconnects: map[int64]int{}, users: make([]*user, cfg.Users)}
	for i := range r.users {
		r.users[i] = &user{rehearsal: r, index: i, id: fmt.Sprintf("%s%d", cfg.Prefix, i), arrived: map[int]bool{}, last: -1}
	}
	defer r.close()
	if err := r.logIn(ctx); err != nil {
		return r.report(), err
	}
	var watching sync.WaitGroup
	stop, cancel := context.WithCancel(ctx)
	watching.Go(func() { r.watch(stop) })
	watching.Go(func() { r.tell(stop) })
	err = r.send(ctx)
	cancel()
	watching.Wait()
	if err == nil {
		r.settle(ctx)
	}
	report := r.report()
	report.Final = true
	return report, err
}

// rehearsal is one run.
type rehearsal struct {
	cfg   Config
	users []*user
	sends sync.WaitGroup

	mu         sync.Mutex
	reconnects map[int64]int // by Unix second
	acks       []time.Duration
	looks      Report // what presence said
	closing    bool
}

// content is what users send each other.
type content struct {
	Rehearsal string `json:"rehearsal"`
	N         int    `json:"n"`
}

func (r *rehearsal) logIn(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(32)
	for _, u := range r.users {
		g.Go(func() error { return u.logIn(ctx) })
	}
	return g.Wait()
}

// send has the users send in turn, at an even pace, and waits for the answers.
func (r *rehearsal) send(ctx context.Context) error {
	begin := time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for n := 0; time.Since(begin) < r.cfg.For; {
		for due := int(time.Since(begin).Seconds() * r.cfg.Rate); n < due; n++ {
			r.sends.Add(1)
			r.users[n%len(r.users)].send(ctx)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	answered := make(chan struct{})
	go func() { r.sends.Wait(); close(answered) }()
	select {
	case <-answered:
	case <-time.After(r.cfg.Settle):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// settle waits until everything stored has arrived, or the time for that is over.
func (r *rehearsal) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Settle)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if report := r.report(); report.Lost == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// tell reports the progress once a second.
func (r *rehearsal) tell(ctx context.Context) {
	if r.cfg.Progress == nil {
		return
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.cfg.Progress(r.report())
		case <-ctx.Done():
			return
		}
	}
}

// watch asks presence about all users until ctx ends.
func (r *rehearsal) watch(ctx context.Context) {
	if r.cfg.Presence == nil {
		return
	}
	const most = 1000 // of 5,000 that one call may ask for: the answers are large
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		for batch := range slices.Chunk(r.users, most) {
			r.look(ctx, batch)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (r *rehearsal) look(ctx context.Context, users []*user) {
	ids := make([]string, len(users))
	for i, u := range users {
		ids[i] = u.id
	}
	answers, _, err := r.cfg.Presence.BatchGet(ctx, ids)
	r.mu.Lock()
	defer r.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	r.looks.Looks++
	if err != nil {
		r.looks.UnknownState += len(users) // no answer
		return
	}
	for _, a := range answers {
		switch a.State {
		case client.Online:
		case client.Offline:
			r.looks.Offline++
		default:
			r.looks.UnknownState++
		}
	}
}

func (r *rehearsal) close() {
	r.mu.Lock()
	r.closing = true
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for _, u := range r.users {
		if u.conn != nil {
			wg.Go(func() {
				_ = u.conn.Logout(ctx) // the report is made already
				<-u.conn.Done()
			})
		}
	}
	wg.Wait()
}

// report counts.
func (r *rehearsal) report() Report {
	r.mu.Lock()
	report := r.looks
	acks := slices.Clone(r.acks)
	var seconds []int
	for _, n := range r.reconnects {
		seconds = append(seconds, n)
		report.Reconnects += n
	}
	r.mu.Unlock()
	report.Users = len(r.users)
	for _, u := range r.users {
		u.count(&report)
	}
	slices.Sort(seconds)
	report.ReconnectsPerSecond = float64(quantile(seconds, 0.99))
	slices.Sort(acks)
	report.P50 = float64(quantile(acks, 0.50).Microseconds()) / 1000
	report.P99 = float64(quantile(acks, 0.99).Microseconds()) / 1000
	return report
}

// quantile returns the q-th of sorted values, zero if there are none.
func quantile[T any](sorted []T, q float64) (v T) {
	if len(sorted) > 0 {
		v = sorted[int(q*float64(len(sorted)-1)+0.5)]
	}
	return v
}

func encode(rehearsal string, n int) json.RawMessage {
	b, _ := json.Marshal(content{rehearsal, n}) // a string and a number
	return b
}
