package main

import (
	"context"
	"encoding/json"

	"fmt"
	"strings"
	"time"

	"github.com/mattn/go-runewidth"

	"github.com/imcluster/imcluster/client"
	"github.com/imcluster/imcluster/internal/cli"
)

type watchCommand struct {
	presenceFlags `embed:""`
	All           bool     `help:"Watch everybody."`
	Users         []string `arg:"" optional:"" name:"user" help:"User ids."`
}

// Run prints a line for every change until it is interrupted.
func (c *watchCommand) Run(ctx context.Context, p *printer) error {
	if c.All == (len(c.Users) > 0) {
		return cli.Configf("name the users to watch, or watch everybody with --all")
	}
	pc, err := c.client()
	if err != nil {
		return err
	}
	v := &watchView{p: p}
	for _, u := range c.Users {
		v.width = max(v.width, runewidth.StringWidth(printable(u)))
	}
	events := pc.Watch(ctx, client.WatchOptions{Users: c.Users, All: c.All, Interrupted: v.interrupted})
	for event, err := range events {
		switch {
		case err != nil && ctx.Err() != nil:
			return nil // Ctrl-C is how it ends
		case err != nil:
			return err
		case p.json:
			if err := p.value(watchJSON{Event: event.Kind, Users: event.Users, More: event.More, Freshness: freshnessOf(event)}); err != nil {
				return err
			}
		default:
			v.show(event)
		}
	}
	return nil
}

// watchJSON is a line of --json.
type watchJSON struct {
	Event string                `json:"event"`
	Users []client.UserPresence `json:"users,omitempty"`
	More  bool                  `json:"more,omitempty"`
	*client.Freshness
	Error string `json:"error,omitempty"`
}

func freshnessOf(e client.WatchEvent) *client.Freshness {
	if e.Kind == client.Relist {
		return nil
	}
	return &e.Freshness
}

// watchView shows a watch to people.
type watchView struct {
	p        *printer
	width    int // of the widest user so far
	degraded bool
	lost     bool
}

func (v *watchView) interrupted(reason error, pause time.Duration) {
	if v.p.json {
		line := watchJSON{Event: "interrupted"}
		if reason != nil {
			line.Error = reason.Error()
		}
		_ = v.p.value(line)
		return
	}
	if !v.lost {
		why := "the service ended it"
		if reason != nil {
			why = hint(reason).Error()
		}
		v.p.warn("%s", v.p.bad(fmt.Sprintf("Interrupted (%s); connecting again.", printable(why))))
	}
	v.lost = true
}

func (v *watchView) show(e client.WatchEvent) {
	if v.lost {
		v.p.warn("%s", v.p.faint("Connected again."))
	}
	v.lost = false
	if e.Kind == client.Relist {
		v.p.warn("%s", v.p.faint("Too much has happened meanwhile; how it is now:"))
		return
	}
	for i := range e.Users {
		v.p.line("%s", v.line(&e.Users[i], e.AsOf))
	}
	if e.Degraded != v.degraded {
		v.degraded = e.Degraded
		if v.degraded {
			v.p.warn("%s", v.p.bad("Degraded: changes may be late, because Redis does not answer or is being filled again."))
		} else {
			v.p.warn("%s", v.p.faint("Not degraded any more."))
		}
	}
}

// line is such as "12:00:05 alice  online   away, "Back at two"; phone (ios) on gateway-1".
func (v *watchView) line(u *client.UserPresence, asOf time.Time) string {
	v.width = max(v.width, runewidth.StringWidth(printable(u.User)))
	padding := strings.Repeat(" ", v.width-runewidth.StringWidth(printable(u.User)))
	return fmt.Sprintf("%s %s%s  %s %s", v.p.faint(clock(asOf, time.Now())), v.p.user(u.User), padding,
		v.p.state(u.State), v.p.faint(summary(u, asOf)))
}

// summary is what is to be said of a user beside the state, on one line.
func summary(u *client.UserPresence, asOf time.Time) string {
	switch u.State {
	case client.Offline:
		return "last seen " + ago(u.LastSeen, asOf)
	case client.Unknown:
		return reasonText(u.Reason)
	}
	var parts []string
	if s := statusText(u.Status, u.Text); s != "" {
		parts = append(parts, s)
	}
	for _, d := range u.Devices {
		parts = append(parts, deviceName(d.ID, d.Platform)+" on "+printable(d.Gateway))
	}
	return strings.Join(parts, "; ")
}

// statusText is what a user shows beside being online; empty if that is nothing.
func statusText(status client.Status, text string) string {
	var parts []string
	if status != "" && status != client.StatusOnline {
		parts = append(parts, string(status))
	}
	if text != "" {
		quoted, err := json.Marshal(printable(text))
		if err == nil {
			parts = append(parts, string(quoted))
		}
	}
	return strings.Join(parts, ", ")
}

func deviceName(id, platform string) string {
	if platform == "" {
		return printable(id)
	}
	return printable(id) + " (" + printable(platform) + ")"
}
