// Package demo shows on real connections that an IMCluster does its job: two users on two different gateways chat, a
// message waits for one of them, and presence tells who is online, who is not, and who was never there.
package demo

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/imcluster/imcluster/client"
)

// pollEvery is how often presence is asked until it says what is expected.
const pollEvery = 50 * time.Millisecond

// stays is the step that is left out when nobody wants to look.
const stays = "both stay online"

// Config says what to demonstrate.
type Config struct {
	// GatewayURLs are one or more addresses. Behind a single one, a Kubernetes Service say, there may be several
	// gateways: the second user logs in until they sit on different ones.
	GatewayURLs []string
	// Presence is the query service.
	Presence client.Presence
	// Token makes the token that a user logs in with.
	Token func(user string) (string, error)
	// StepTimeout bounds each step; zero means 30 s. A platform whose Redis is new may take half of that until it is
	// sure that it has not lost anything.
	StepTimeout time.Duration
	// Stay is how long both users stay connected before they log out, so that others can look at them.
	Stay time.Duration
	// Report is called after every step.
	Report func(Step)
	// Note is called with what people should know while a step takes long. Optional.
	Note func(string)
}

// Step is one thing that was shown, or could not be.
type Step struct {
	Name   string
	Detail string // what was seen
	Took   time.Duration
	Err    error
}

// demonstration is one run.
type demonstration struct {
	cfg        Config
	alice, bob *user
	stranger   string // who never logs in
}

// Run goes through all steps and stops at the first that fails, with its error.
func Run(ctx context.Context, cfg Config) error {
	if len(cfg.GatewayURLs) == 0 {
		return errors.New("no gateway to connect to")
	}
	cfg.StepTimeout = cmp.Or(cfg.StepTimeout, 30*time.Second)
	// New names for every run: who takes part in it was never seen before.
	run := strings.ToLower(rand.Text()[:6])
	d := &demonstration{cfg: cfg, alice: newUser("alice-" + run), bob: newUser("bob-" + run), stranger: "carol-" + run}
	defer func() { d.alice.close(); d.bob.close() }()
	for _, step := range []struct {
		name string
		run  func(context.Context) (string, error)
	}{
		{"alice logs in", d.aliceLogsIn},
		{"bob logs in on another gateway", d.bobLogsIn},
		{"alice writes to bob", func(ctx context.Context) (string, error) { return chat(ctx, d.alice, d.bob, "你好 bob") }},
		{"bob answers alice", func(ctx context.Context) (string, error) { return chat(ctx, d.bob, d.alice, "hi alice") }},
		{"presence sees both online, on two gateways", d.bothOnline},
		{"carol, who never logged in, is unknown", d.strangerUnknown},
		{"both are listed and counted", d.listed},
		{stays, d.stay},
		{"a message waits for bob, who is away", d.waits},
		{"both log out", d.logOut},
		{"presence sees both offline", d.bothOffline},
	} {
		if step.name == stays && cfg.Stay == 0 {
			continue
		}
		if err := d.step(ctx, step.name, step.run); err != nil {
			return err
		}
	}
	return nil
}

func (d *demonstration) step(ctx context.Context, name string, run func(context.Context) (string, error)) error {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.StepTimeout+d.cfg.Stay)
	defer cancel()
	start := time.Now()
	detail, err := run(ctx)
	d.cfg.Report(Step{Name: name, Detail: detail, Took: time.Since(start), Err: err})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (d *demonstration) aliceLogsIn(ctx context.Context) (string, error) {
	if err := d.alice.logIn(ctx, d.cfg, d.cfg.GatewayURLs[0]); err != nil {
		return "", err
	}
	return "on " + d.alice.gateway, nil
}

// Of two gateways behind one address, 20 connections in a row reach the same one once in a million times. The pauses
// between them grow from 100 ms to 2 s, which makes half a minute.
const (
	maxConnections = 20
	noteAfter      = 3
	firstPause     = 100 * time.Millisecond
	longestPause   = 2 * time.Second
)

// bobLogsIn tries the gateway URLs in turn until bob's session is not on alice's gateway.
func (d *demonstration) bobLogsIn(ctx context.Context) (string, error) {
	urls := d.cfg.GatewayURLs
	wait := firstPause
	for attempt := 1; ; attempt++ {
		if err := d.bob.logIn(ctx, d.cfg, urls[attempt%len(urls)]); err != nil {
			return "", err
		}
		if d.bob.gateway != d.alice.gateway {
			return fmt.Sprintf("on %s (connections tried: %d)", d.bob.gateway, attempt), nil
		}
		if err := d.onlyGateway(ctx); err != nil {
			return "", err
		}
		if err := d.bob.logOut(ctx); err != nil {
			return "", err
		}
		d.bob = newUser(d.bob.id)
		seemsAlone := fmt.Sprintf("after %d connections still on alice's gateway %s; there may be just one", attempt, d.alice.gateway)
		if attempt == noteAfter && d.cfg.Note != nil {
			d.cfg.Note(seemsAlone)
		}
		if attempt == maxConnections {
			return "", errors.New(seemsAlone)
		}
		if err := pause(ctx, wait); err != nil {
			return "", fmt.Errorf("%s: %w", seemsAlone, err)
		}
		wait = min(wait*3/2, longestPause)
	}
}

// onlyGateway fails when there is just one gateway.
func (d *demonstration) onlyGateway(ctx context.Context) error {
	counts, err := d.cfg.Presence.Count(ctx)
	if err != nil {
		return err
	}
	if len(counts.Gateways) == 1 && !counts.Degraded {
		return fmt.Errorf("there is only one gateway, %s: run at least two, as spec.gateway.replicas of the IMCluster says",
			counts.Gateways[0].Pod)
	}
	return nil
}

// stay keeps both connected; neither may be lost meanwhile.
func (d *demonstration) stay(ctx context.Context) (string, error) {
	select {
	case <-time.After(d.cfg.Stay):
		return "", nil
	case <-d.alice.conn.Done():
		return "", fmt.Errorf("alice was disconnected: %w", d.alice.conn.Err())
	case <-d.bob.conn.Done():
		return "", fmt.Errorf("bob was disconnected: %w", d.bob.conn.Err())
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// chat sends a text and waits until it has arrived and was acknowledged.
func chat(ctx context.Context, from, to *user, text string) (string, error) {
	start := time.Now()
	receipt, err := send(ctx, from, to, text)
	if err != nil {
		return "", err
	}
	answered := time.Since(start)
	if err := expect(ctx, from, to, text, receipt); err != nil {
		return "", err
	}
	return fmt.Sprintf("%q, stored after %s, acknowledged after %s", text, round(answered), round(time.Since(start))), nil
}

// send sends a text, which must be stored.
func send(ctx context.Context, from, to *user, text string) (client.Receipt, error) {
	receipt, err := from.conn.SendText(ctx, to.id, text)
	if err == nil && !receipt.Stored() {
		err = fmt.Errorf("the message was accepted with code %d, and not stored", receipt.Code)
	}
	return receipt, err
}

// expect waits for a message and acknowledges it.
func expect(ctx context.Context, from, to *user, text string, receipt client.Receipt) error {
	select {
	case m := <-to.received:
		if m.ID != receipt.MsgID || m.From != from.id || m.Text() != text {
			return fmt.Errorf("another message arrived: %q from %s", m.Text(), m.From)
		}
		return to.conn.Ack(ctx, m.ID)
	case <-to.conn.Done():
		return fmt.Errorf("%s was disconnected: %w", to.id, to.conn.Err())
	case <-ctx.Done():
		return fmt.Errorf("the message was stored but did not arrive: %w", ctx.Err())
	}
}

// waits has bob log out, alice write, and bob find the message when he comes back.
func (d *demonstration) waits(ctx context.Context) (string, error) {
	const text = "are you there?"
	if err := d.bob.logOut(ctx); err != nil {
		return "", err
	}
	d.bob = newUser(d.bob.id)
	receipt, err := send(ctx, d.alice, d.bob, text)
	if err != nil {
		return "", err
	}
	urls := d.cfg.GatewayURLs
	if err := d.bob.logIn(ctx, d.cfg, urls[len(urls)-1]); err != nil {
		return "", err
	}
	if err := expect(ctx, d.alice, d.bob, text, receipt); err != nil {
		return "", err
	}
	return fmt.Sprintf("%q, there when he logged in again", text), nil
}

func (d *demonstration) bothOnline(ctx context.Context) (string, error) {
	users, err := d.ask(ctx, client.Online, d.alice.id, d.bob.id)
	if err != nil {
		return "", err
	}
	var where []string
	for _, u := range users {
		if len(u.Devices) != 1 {
			return "", fmt.Errorf("%s has %d devices, not 1", u.User, len(u.Devices))
		}
		where = append(where, u.User+" on "+u.Devices[0].Gateway)
	}
	if users[0].Devices[0].Gateway == users[1].Devices[0].Gateway {
		return "", fmt.Errorf("both are on %s", users[0].Devices[0].Gateway)
	}
	return strings.Join(where, ", "), nil
}

func (d *demonstration) strangerUnknown(ctx context.Context) (string, error) {
	var last client.UserPresence
	err := poll(ctx, func() (bool, error) {
		u, _, err := d.cfg.Presence.Get(ctx, d.stranger)
		last = u
		return u.State == client.Unknown && u.Reason == client.NeverSeen, err
	})
	if err != nil {
		return "", fmt.Errorf("%s is %s (%s): %w", d.stranger, last.State, last.Reason, err)
	}
	return fmt.Sprintf("%s, %s", last.State, last.Reason), nil
}

func (d *demonstration) listed(ctx context.Context) (string, error) {
	var missing []string
	var counts client.Counts
	err := poll(ctx, func() (done bool, err error) {
		missing = []string{d.alice.id, d.bob.id}
		for u, err := range d.cfg.Presence.Online(ctx) {
			if err != nil {
				return false, err
			}
			missing = slices.DeleteFunc(missing, func(m string) bool { return m == u })
		}
		counts, err = d.cfg.Presence.Count(ctx)
		return len(missing) == 0 && counts.Users >= 2 && counts.Sessions >= 2, err
	})
	if err != nil {
		return "", fmt.Errorf("missing in the list: %v; counted %d users: %w", missing, counts.Users, err)
	}
	return fmt.Sprintf("%d users in %d sessions on %d gateways", counts.Users, counts.Sessions, len(counts.Gateways)), nil
}

func (d *demonstration) logOut(ctx context.Context) (string, error) {
	if err := d.alice.logOut(ctx); err != nil {
		return "", err
	}
	return "", d.bob.logOut(ctx)
}

func (d *demonstration) bothOffline(ctx context.Context) (string, error) {
	users, err := d.ask(ctx, client.Offline, d.alice.id, d.bob.id)
	if err != nil {
		return "", err
	}
	for _, u := range users {
		if u.LastSeen.IsZero() {
			return "", fmt.Errorf("nothing says when %s was last seen", u.User)
		}
	}
	return "last seen " + users[1].LastSeen.Local().Format("15:04:05"), nil
}

// ask asks presence for users until all have the state.
func (d *demonstration) ask(ctx context.Context, want client.State, ids ...string) ([]client.UserPresence, error) {
	var users []client.UserPresence
	err := poll(ctx, func() (done bool, err error) {
		users, _, err = d.cfg.Presence.BatchGet(ctx, ids)
		return !slices.ContainsFunc(users, func(u client.UserPresence) bool { return u.State != want }), err
	})
	if err != nil {
		var states []string
		for _, u := range users {
			states = append(states, strings.TrimSpace(fmt.Sprintf("%s is %s %s", u.User, u.State, u.Reason)))
		}
		return nil, fmt.Errorf("%s: %w", strings.Join(states, ", "), err)
	}
	return users, nil
}

// poll calls check until it says that it is done, it fails for good, or ctx ends. A platform that is just starting
// refuses connections for a moment.
func poll(ctx context.Context, check func() (bool, error)) error {
	for {
		done, err := check()
		if (done && err == nil) || permanent(err) {
			return err
		}
		if ended := pause(ctx, pollEvery); ended != nil {
			return cmp.Or(err, ended)
		}
	}
}

// refusedFor is how long connections to an address that never answered may be refused: for the first seconds of a Service
// whose pods have just become ready.
const refusedFor = 5 * time.Second

// unreachableError says that an address refused connections for too long.
type unreachableError struct{ err error }

func (e *unreachableError) Error() string {
	return fmt.Sprintf("nothing listens there (tried for %s): %v", refusedFor, e.err)
}

func (e *unreachableError) Unwrap() error { return e.err }

// reach is a poll of an address that may be wrong: it fails early if nothing but refused connections is seen.
func reach(ctx context.Context, check func() (bool, error)) error {
	answered, start := false, time.Now()
	return poll(ctx, func() (bool, error) {
		done, err := check()
		if !errors.Is(err, syscall.ECONNREFUSED) {
			answered = true
		} else if !answered && time.Since(start) > refusedFor {
			err = &unreachableError{err}
		}
		return done, err
	})
}

// permanent tells whether it is of no use to try again after err.
func permanent(err error) bool {
	var refused *client.Error
	var answer *client.APIError
	var unreachable *unreachableError
	switch {
	case errors.As(err, &unreachable):
		return true
	case errors.As(err, &refused):
		return !refused.Retryable()
	case errors.As(err, &answer):
		return answer.Status < 500
	}
	return false
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return fmt.Errorf("no success in time: %w", ctx.Err())
	}
}

// round makes a duration fit for people.
func round(d time.Duration) time.Duration {
	if d < time.Millisecond {
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(100 * time.Microsecond)
}
