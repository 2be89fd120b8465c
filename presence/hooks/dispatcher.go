package hooks

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/imcluster/imcluster/presence/store"
)

// Dispatcher tells the receiver. Make it with [New].
type Dispatcher struct {
	cfg      Config
	claimant string
	telem    *instruments
	senders  [senders]*sender
}

// Status says how the hooks are doing, as far as this pod sees.
type Status struct {
	// Partitions is how many of the 128 partitions this pod tells of.
	Partitions int `json:"partitions"`
	// Pending is how many users the receiver is still to be told about, and OldestPending since when, zero if there are none.
	Pending       int       `json:"pending"`
	OldestPending time.Time `json:"oldestPending,omitzero"`
	// LastSuccess is when the receiver last took events.
	LastSuccess time.Time `json:"lastSuccess,omitzero"`
	// LastError is why it did not take the last ones; empty if it did, or if there is nothing any more that it is to be told.
	LastError string `json:"lastError,omitempty"`
	// Refusal is the status that it answered then; 0 if it did not answer.
	Refusal int `json:"refusal,omitempty"`
}

// New checks the configuration. [Dispatcher.Run] must follow.
func New(cfg Config) (*Dispatcher, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	d := &Dispatcher{cfg: cfg, claimant: rand.Text()}
	for i := range d.senders {
		d.senders[i] = newSender(d, i)
	}
	if d.telem, err = newInstruments(cfg.Meters, d); err != nil {
		return nil, fmt.Errorf("hooks: %w", err)
	}
	return d, nil
}

// Run tells the receiver until ctx ends. What is under way then is finished, for as long as the receiver may take.
func (d *Dispatcher) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, s := range d.senders {
		wg.Go(func() { s.run(ctx) })
	}
	wg.Go(func() { d.report(ctx) })
	err := d.cfg.Presence.Changes(ctx, d.changed)
	wg.Wait()
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// changed takes the users whose state may have changed; nil means anybody's.
func (d *Dispatcher) changed(users []string) {
	if users == nil {
		for _, s := range d.senders {
			s.notice(nil)
		}
		return
	}
	var of [senders][]string
	for _, u := range users {
		i := store.Partition(u) % senders
		of[i] = append(of[i], u)
	}
	for i, s := range d.senders {
		if len(of[i]) > 0 {
			s.notice(of[i])
		}
	}
}

// reportInterval is how often the status is written to Redis, where any pod can tell the sum.
const reportInterval = 5 * time.Second

func (d *Dispatcher) report(ctx context.Context) {
	tick := time.NewTicker(reportInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_ = d.cfg.Memory.ReportHooks(ctx, d.claimant, d.Status()) // the next one comes soon
		}
	}
}

// Status tells how the hooks are doing.
func (d *Dispatcher) Status() Status {
	statuses := make([]Status, 0, senders)
	for _, s := range d.senders {
		statuses = append(statuses, s.status())
	}
	return Sum(statuses)
}

// Sum adds up what several pods say.
func Sum(statuses []Status) Status {
	var sum Status
	for _, one := range statuses {
		sum.Partitions += one.Partitions
		sum.Pending += one.Pending
		sum.OldestPending = earliest(sum.OldestPending, one.OldestPending)
		if one.LastSuccess.After(sum.LastSuccess) {
			sum.LastSuccess = one.LastSuccess
		}
		if one.LastError != "" {
			sum.LastError, sum.Refusal = one.LastError, one.Refusal
		}
	}
	return sum
}

// backoff is the pause before the next attempt after so many failures in a row, before jitter.
func backoff(failures int) time.Duration {
	return min(maxBackoff, minBackoff<<min(failures-1, 20))
}
