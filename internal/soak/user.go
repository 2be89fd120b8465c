package soak

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/imcluster/imcluster/client"
)

// user is one of a pair: users 0 and 1 chat with each other, 2 and 3, and so on.
type user struct {
	// Fixed after construction.
	rehearsal *rehearsal
	index     int
	id        string
	conn      *client.Client // fixed after the login

	mu                       sync.Mutex
	sent                     int
	stored                   []int // numbers of the messages that were acknowledged to this user
	refused, unknown         int
	arrived                  map[int]bool // numbers of the partner's messages that came here
	last                     int          // the highest of them
	repeated                 int
	disordered, foreign      int
	online, everOnline, dead bool
}

func (u *user) partner() *user { return u.rehearsal.users[u.index^1] }

func (u *user) logIn(ctx context.Context) error {
	cfg := &u.rehearsal.cfg
	conn, err := client.Dial(ctx, client.Config{
		URLs: cfg.GatewayURLs, Platform: "imctl", DeviceID: "soak", RetryRefused: true,
		Token:     func(context.Context, bool) (string, error) { return cfg.Token(u.id) },
		OnMessage: func(_ context.Context, m client.Message) error { u.receive(m); return nil },
		OnState:   u.changed,
		Dedupe:    forgetful{},
	})
	u.conn = conn
	return err
}

// forgetful has every message handed over as often as it comes, so that repetitions are seen.
type forgetful struct{}

func (forgetful) Handled(context.Context, string) (bool, error) { return false, nil }
func (forgetful) SetHandled(context.Context, string) error      { return nil }

// changed counts logins after the first one.
func (u *user) changed(s client.StateChange) {
	u.mu.Lock()
	again := s.State == client.StateOnline && u.everOnline && !u.online
	u.online = s.State == client.StateOnline
	u.everOnline = u.everOnline || u.online
	ended := s.State == client.StateEnded
	u.mu.Unlock()
	r := u.rehearsal
	r.mu.Lock()
	if again {
		r.reconnects[time.Now().Unix()]++
	}
	closing := r.closing
	r.mu.Unlock()
	if ended && !closing {
		u.mu.Lock()
		u.dead = true
		u.mu.Unlock()
	}
}

// send sends the next message to the partner.
func (u *user) send(ctx context.Context) {
	u.mu.Lock()
	n := u.sent
	u.sent++
	u.mu.Unlock()
	begin := time.Now()
	r := u.rehearsal
	u.conn.SendAsync(ctx, client.Outgoing{To: u.partner().id, Content: encode(r.cfg.Prefix, n)}, func(_ client.Receipt, err error) {
		defer r.sends.Done()
		u.answered(n, time.Since(begin), err)
	})
}

func (u *user) answered(n int, took time.Duration, err error) {
	var refusal *client.Error
	u.mu.Lock()
	switch {
	case err == nil:
		u.stored = append(u.stored, n)
	case errors.As(err, &refusal), errors.Is(err, client.ErrNotSent), errors.Is(err, client.ErrQueueFull):
		u.refused++
	default:
		u.unknown++
	}
	u.mu.Unlock()
	if err == nil {
		u.rehearsal.mu.Lock()
		u.rehearsal.acks = append(u.rehearsal.acks, took)
		u.rehearsal.mu.Unlock()
	}
}

func (u *user) receive(m client.Message) {
	var c content
	from := u.partner()
	from.mu.Lock()
	sent := from.sent
	from.mu.Unlock()
	u.mu.Lock()
	defer u.mu.Unlock()
	switch err := json.Unmarshal(m.Content, &c); {
	case err != nil || m.From != from.id || c.Rehearsal != u.rehearsal.cfg.Prefix || c.N < 0 || c.N >= sent:
		u.foreign++
	case u.arrived[c.N]:
		u.repeated++
	default:
		u.arrived[c.N] = true
		if c.N < u.last {
			u.disordered++
		}
		u.last = max(u.last, c.N)
	}
}

// count adds what this user sent and received to the report.
func (u *user) count(r *Report) {
	u.mu.Lock()
	stored := slices.Clip(u.stored)
	r.Sent += u.sent
	r.Stored += len(stored)
	r.Refused += u.refused
	r.Unknown += u.unknown
	r.Delivered += len(u.arrived)
	r.Repeated += u.repeated
	r.Foreign += u.foreign
	r.Disordered += u.disordered
	if u.dead {
		r.Ended++
	}
	u.mu.Unlock()
	to := u.partner()
	to.mu.Lock()
	defer to.mu.Unlock()
	for _, n := range stored {
		if !to.arrived[n] {
			r.Lost++
		}
	}
}
