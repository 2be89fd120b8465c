package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/imcluster/imcluster/client"
)

// obeyStatus sets the status, or shows it.
func (v *conversation) obeyStatus(ctx context.Context, words []string) error {
	if len(words) > 0 {
		if err := v.chat.SetStatus(ctx, client.Status(words[0]), strings.Join(words[1:], " ")); err != nil {
			return err
		}
	}
	status, text := v.chat.Status()
	status = cmp.Or(status, client.StatusOnline)
	if v.p.json {
		return v.p.value(map[string]string{"event": "status", "status": string(status), "text": text})
	}
	v.p.warn("Others see you as %s.", withText(string(seenAs(status)), text))
	return nil
}

// seenAs is what others see of a status.
func seenAs(s client.Status) client.Status {
	if s == client.StatusInvisible {
		return "offline"
	}
	return s
}

// obeyWatch has changes of users shown from now on, or shows how those are.
func (v *conversation) obeyWatch(ctx context.Context, words []string) error {
	contacts := v.chat.Contacts()
	if len(words) > 0 {
		var err error
		if contacts, err = v.chat.Subscribe(ctx, words...); err != nil {
			return err
		}
	} else if len(contacts) == 0 {
		return errors.New("nobody is watched; \":watch USER…\" begins")
	}
	v.know(words...)
	v.showContacts(contacts)
	return nil
}

// obeyUnwatch ends what obeyWatch began, of all without a word.
func (v *conversation) obeyUnwatch(ctx context.Context, words []string) error {
	if len(words) == 0 {
		_, err := v.chat.Replace(ctx)
		return err
	}
	return v.chat.Unsubscribe(ctx, words...)
}

// contactJSON is how a watched user is.
type contactJSON struct {
	Event     string        `json:"event"`
	User      string        `json:"user"`
	State     client.State  `json:"state"`
	Reason    string        `json:"reason,omitempty"`
	Status    client.Status `json:"status,omitempty"`
	Text      string        `json:"text,omitempty"`
	LastSeen  time.Time     `json:"lastSeen,omitzero"`
	Platforms []string      `json:"platforms,omitempty"`
}

// changed shows watched users who have changed.
func (v *conversation) changed(contacts []client.Contact) {
	<-v.ready
	v.showContacts(contacts)
}

func (v *conversation) showContacts(contacts []client.Contact) {
	for _, c := range contacts {
		if v.p.json {
			_ = v.p.value(contactJSON{"presence", c.User, c.State, c.Reason, c.Status, c.Text, c.LastSeen, c.Platforms})
			continue
		}
		v.p.warn("%s %s", v.p.user(c.User), describe(&c, time.Now()))
	}
}

// describe says for people how a user is.
func describe(c *client.Contact, now time.Time) string {
	switch {
	case c.State == client.Online:
		text := "is " + withText(string(c.Status), c.Text)
		if len(c.Platforms) > 0 {
			text += " (" + strings.Join(c.Platforms, ", ") + ")"
		}
		return text
	case c.State == client.Offline && c.LastSeen.IsZero():
		return "is offline"
	case c.State == client.Offline:
		return "is offline since " + clock(c.LastSeen, now)
	case c.Reason == client.NeverSeen:
		return "was never seen"
	}
	return "may be online or not: it cannot be found out now"
}

func withText(status, text string) string {
	if text == "" {
		return status
	}
	return fmt.Sprintf("%s: %s", status, printable(text))
}
