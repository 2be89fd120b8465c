package main

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/imcluster/imcluster/internal/soak"
)

type soakCommand struct {
	gatewayFlags  `embed:""`
	presenceFlags `embed:""`
	tokenFlags    `embed:""`
	Users         int           `default:"100" help:"Users who chat, in pairs."`
	Rate          float64       `default:"0" help:"Messages a second, over all users. Default: one for each user every two seconds."`
	For           time.Duration `default:"1m" help:"How long they chat."`
	Settle        time.Duration `default:"30s" help:"How long what is due may take to arrive in the end."`
	Prefix        string        `help:"What the names of the users begin with. Default: soak-, and a random word"`
	NoPresence    bool          `help:"Do not ask presence about the users."`
}

// errPromise is why a rehearsal failed that could be done.
var errPromise = errors.New("the platform did not keep its promises: see lost, foreign and ended")

func (c *soakCommand) Run(ctx context.Context, p *printer) error {
	urls, err := c.urls()
	if err != nil {
		return err
	}
	cfg := soak.Config{GatewayURLs: urls, Users: c.Users, Rate: c.Rate, For: c.For, Settle: c.Settle, Prefix: c.Prefix}
	if cfg.Prefix == "" {
		cfg.Prefix = "soak-" + rand.Text()[:6] + "-"
	}
	if cfg.Token, err = c.signer(); err != nil {
		return err
	}
	if !c.NoPresence {
		presence, err := c.client()
		if err != nil {
			return err
		}
		cfg.Presence = &presence
	}
	cfg.Progress = func(r soak.Report) {
		if p.json {
			_ = p.value(r)
			return
		}
		p.warn("%d sent, %d stored, %d arrived, %d reconnects", r.Sent, r.Stored, r.Delivered, r.Reconnects)
	}
	p.warn("%d users log in and chat for %v.", c.Users, c.For)
	report, err := soak.Run(ctx, cfg)
	if err != nil {
		return err
	}
	if err := printSoak(p, &report); err != nil {
		return err
	}
	if !report.OK() {
		return errPromise
	}
	return nil
}

func printSoak(p *printer, r *soak.Report) error {
	if p.json {
		return p.value(r)
	}
	p.line("Messages     %d sent, %d stored, %d refused, %d of unknown outcome", r.Sent, r.Stored, r.Refused, r.Unknown)
	p.line("Arrived      %d, %d of them again; %d lost, %d foreign, %d out of order", r.Delivered+r.Repeated, r.Repeated, r.Lost, r.Foreign, r.Disordered)
	p.line("Answered in  %.1f ms (p50), %.1f ms (p99)", r.P50, r.P99)
	p.line("Connections  %d, connected again %d times, at most %.0f a second (p99); %d ended", r.Users, r.Reconnects, r.ReconnectsPerSecond, r.Ended)
	if r.Looks > 0 {
		p.line("Presence     asked %d times, said offline %d times and unknown %d times", r.Looks, r.Offline, r.UnknownState)
	}
	return nil
}
