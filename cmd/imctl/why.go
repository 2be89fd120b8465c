package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/imcluster/imcluster/client"
)

type whyCommand struct {
	presenceFlags `embed:""`
	User          string `arg:"" name:"user" help:"User id."`
}

// Run explains why a user is shown as it is.
func (c *whyCommand) Run(ctx context.Context, p *printer) error {
	pc, err := c.client()
	if err != nil {
		return err
	}
	e, err := pc.Why(ctx, c.User)
	if err != nil {
		return err
	}
	if p.json {
		return p.value(e)
	}
	showAnswer(p, e)
	showSessions(p, e)
	showTransitions(p, e)
	return nil
}

func showAnswer(p *printer, e *client.Explanation) {
	answer := string(e.Answer.State)
	if s := summary(&e.Answer.UserPresence, e.Answer.AsOf); s != "" {
		answer += " (" + s + ")"
	}
	p.line("%s is %s to everybody else, answered from %s.", p.user(e.User), answer, e.AnsweredFrom)
	status := string(e.Status.Status)
	if e.Status.Text != "" {
		status = statusText(e.Status.Status, e.Status.Text)
	}
	if !e.Status.Since.IsZero() {
		status += ", set " + ago(e.Status.Since, e.AsOf)
	}
	p.line("Status      %s", status)
	complete := "complete"
	switch {
	case !e.Partition.Settled:
		complete = p.bad("gateways may be alive that Redis does not know yet")
	case !e.Partition.Complete:
		complete = p.bad("gateways are still registering their sessions")
	}
	p.line("Partition   %d, generation %s, %d changes; %s", e.Partition.Number, orDash(e.Partition.Generation), e.Partition.Revision, complete)
}

func showSessions(p *printer, e *client.Explanation) {
	p.line("")
	if len(e.Sessions) == 0 {
		p.line("No sessions.")
		return
	}
	rows := make([][]string, len(e.Sessions))
	for i, s := range e.Sessions {
		rows[i] = []string{deviceName(s.Device, s.Platform), "-", s.Epoch, strconv.FormatUint(s.Connection, 10), ago(s.LoginTime, e.AsOf), "-", "gateway is not known"}
		if g := s.Gateway; g != nil {
			rows[i][1], rows[i][5], rows[i][6] = printable(g.Pod), precisely(e.AsOf.Sub(g.LastHeartbeat))+" ago", leaseText(s.State, g)
		}
	}
	p.table([]string{"DEVICE", "GATEWAY", "EPOCH", "CONNECTION", "LOGIN", "LAST HEARTBEAT", "LEASE"}, rows)
}

// leaseText says how the lease of a gateway is.
func leaseText(state string, g *client.ExplainedGateway) string {
	left := time.Duration(g.LeaseLeftMs) * time.Millisecond
	switch {
	case state != "alive":
		return "ended " + precisely(-left) + " ago"
	case g.Fenced:
		return precisely(left) + " left, fenced"
	case g.Draining:
		return precisely(left) + " left, draining"
	}
	return precisely(left) + " left"
}

// precisely is a duration of seconds to a tenth.
func precisely(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

func showTransitions(p *printer, e *client.Explanation) {
	p.line("")
	if len(e.Transitions) == 0 {
		p.line("Nothing has happened lately.")
		return
	}
	rows := make([][]string, len(e.Transitions))
	for i, t := range e.Transitions {
		when := "-"
		if !t.Time.IsZero() {
			when = t.Time.Local().Format("2006-01-02 15:04:05.000")
		}
		rows[i] = []string{when, transitionText(&t), orDash(printable(t.Device)), orDash(t.Epoch), orDash(t.Cause), orDash(printable(t.Address))}
	}
	p.table([]string{"TIME", "EVENT", "DEVICE", "EPOCH", "CAUSE", "ADDRESS"}, rows)
}

func transitionText(t *client.Transition) string {
	switch t.Event {
	case "gateway_ended":
		return "gateway ended"
	case "status":
		if t.Status == nil {
			return "status"
		}
		text := string(t.Status.Status)
		if t.Status.Text != "" {
			text += " " + strconv.Quote(printable(t.Status.Text))
		}
		return "status " + text
	}
	return printable(t.Event)
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
