package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/imcluster/imcluster/client"
	"github.com/imcluster/imcluster/internal/version"
)

type versionCommand struct{}

func (c *versionCommand) Run(p *printer) error {
	v := struct {
		Version  string `json:"version"`
		Commit   string `json:"commit,omitempty"`
		Go       string `json:"go"`
		Platform string `json:"platform"`
	}{version.Version(), version.Commit(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
	if p.json {
		return p.value(v)
	}
	p.line("%s", versionText())
	return nil
}

func versionText() string {
	return fmt.Sprintf("imctl %s %s (%s, %s/%s)", version.Version(), version.Commit(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

type presenceCommand struct {
	presenceFlags `embed:""`
	Users         []string `arg:"" name:"user" help:"User ids."`
}

func (c *presenceCommand) Run(ctx context.Context, p *printer) error {
	pc, err := c.client()
	if err != nil {
		return err
	}
	users, fresh, err := pc.BatchGet(ctx, c.Users)
	if err != nil {
		return err
	}
	if p.json {
		return p.value(struct {
			Users []client.UserPresence `json:"users"`
			client.Freshness
		}{users, fresh})
	}
	printUsers(p, users, fresh)
	return nil
}

// printUsers prints a line for every device, or one for a user without.
func printUsers(p *printer, users []client.UserPresence, fresh client.Freshness) {
	var rows [][]string
	for _, u := range users {
		switch u.State {
		case client.Online:
			for i, d := range u.Devices {
				user, state := u.User, string(u.State)
				if i > 0 {
					user, state = "", ""
				}
				if s := statusText(u.Status, u.Text); s != "" && i == 0 {
					state += ": " + s
				}
				rows = append(rows, []string{user, state, deviceName(d.ID, d.Platform), d.Gateway, "logged in " + ago(d.LoginTime, fresh.AsOf)})
			}
		case client.Offline:
			rows = append(rows, []string{u.User, string(u.State), "-", "-", "last seen " + ago(u.LastSeen, fresh.AsOf)})
		default:
			rows = append(rows, []string{u.User, string(u.State), "-", "-", reasonText(u.Reason)})
		}
	}
	p.table([]string{"USER", "STATE", "DEVICE", "GATEWAY", "WHEN"}, rows)
	warnDegraded(p, fresh)
}

func reasonText(reason string) string {
	switch reason {
	case client.NeverSeen:
		return "never seen"
	case client.Unavailable:
		return "cannot be found out now"
	}
	return reason
}

func warnDegraded(p *printer, fresh client.Freshness) {
	if fresh.Degraded {
		p.warn("Degraded: presence cannot see everything now, because Redis does not answer or is being filled again.")
	}
}

type onlineCommand struct {
	presenceFlags `embed:""`
	Limit         int `default:"100" help:"How many users to list; 0 lists all."`
}

func (c *onlineCommand) Run(ctx context.Context, p *printer) error {
	pc, err := c.client()
	if err != nil {
		return err
	}
	counts, err := pc.Count(ctx)
	if err != nil {
		return err
	}
	var ids []string
	for id, err := range pc.Online(ctx) {
		if err != nil {
			return err
		}
		if ids = append(ids, id); c.Limit > 0 && len(ids) >= c.Limit {
			break
		}
	}
	slices.Sort(ids)
	users, fresh, err := details(ctx, &pc, ids)
	if err != nil {
		return err
	}
	if p.json {
		return p.value(struct {
			Counts client.Counts         `json:"counts"`
			Users  []client.UserPresence `json:"users"`
			client.Freshness
		}{counts, users, fresh})
	}
	if complete := c.Limit == 0 || len(ids) < c.Limit; complete {
		counts.Users, counts.Sessions = countUsers(users) // the service's counts may be a second older
	}
	p.line("%s online with %s on %s.", number(counts.Users, "user"), number(counts.Sessions, "device"), number(len(counts.Gateways), "gateway"))
	if len(users) > 0 {
		p.line("")
		printUsers(p, users, fresh)
	} else {
		warnDegraded(p, fresh)
	}
	if counts.Users > len(users) && c.Limit > 0 && len(users) >= c.Limit {
		p.line("\nThe first %d; --limit shows more.", len(users))
	}
	return nil
}

// countUsers counts who is online, and with how many devices.
func countUsers(users []client.UserPresence) (online, devices int) {
	for _, u := range users {
		if u.State == client.Online {
			online++
			devices += len(u.Devices)
		}
	}
	return online, devices
}

// details asks for the devices of users, in as few calls as the service allows.
func details(ctx context.Context, pc *client.Presence, ids []string) (users []client.UserPresence, fresh client.Freshness, err error) {
	const perCall = 1000
	users, fresh.AsOf = []client.UserPresence{}, time.Now()
	for len(ids) > 0 {
		n := min(len(ids), perCall)
		part, f, err := pc.BatchGet(ctx, ids[:n])
		if err != nil {
			return nil, fresh, err
		}
		users, ids = append(users, part...), ids[n:]
		fresh = client.Freshness{AsOf: f.AsOf, Degraded: fresh.Degraded || f.Degraded}
	}
	return users, fresh, nil
}

func number(n int, of string) string {
	if n == 1 {
		return "1 " + of
	}
	return fmt.Sprintf("%d %ss", n, of)
}
