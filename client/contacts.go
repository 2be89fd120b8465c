package client

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/imcluster/imcluster/api/wire"
)

// Status is what a user shows to others while online.
type Status string

// Statuses. Who is invisible looks offline to everybody.
const (
	StatusOnline    Status = wire.StatusOnline
	StatusAway      Status = wire.StatusAway
	StatusBusy      Status = wire.StatusBusy
	StatusInvisible Status = wire.StatusInvisible
)

// Contact is how another user is, as far as this one may know.
type Contact struct {
	User  string
	State State
	// Reason is why the State is Unknown: NeverSeen or Unavailable.
	Reason string
	// Status and Text are what the user shows, if Online: StatusOnline, StatusAway or StatusBusy.
	Status Status
	Text   string
	// LastSeen is when the user's last device went, if Offline.
	LastSeen time.Time
	// Platforms of the devices that are online, each once.
	Platforms []string
}

func contactOf(p *wire.Presence) Contact {
	c := Contact{User: p.UserID, State: State(p.State), Reason: p.Reason, Status: Status(p.Status), Text: p.Text, Platforms: p.Platforms}
	if p.LastSeen != 0 {
		c.LastSeen = time.UnixMilli(p.LastSeen)
	}
	return c
}

// unavailable tells that the server could not find out.
func (c *Contact) unavailable() bool { return c.State == Unknown && c.Reason != NeverSeen }

func (c *Contact) equal(o *Contact) bool {
	return c.State == o.State && c.Reason == o.Reason && c.Status == o.Status && c.Text == o.Text &&
		c.LastSeen.Equal(o.LastSeen) && slices.Equal(c.Platforms, o.Platforms)
}

// Query asks once how users are: at most as many as a connection may subscribe to, 1,000 unless the server is set up
// otherwise. The answers come in the order of the users. To be told what changes, subscribe. A server that does not let
// clients ask answers with wire.CodeForbidden.
func (c *Client) Query(ctx context.Context, users ...string) ([]Contact, Freshness, error) {
	if err := checkUsers(users); err != nil {
		return nil, Freshness{}, fmt.Errorf("query: %w", err)
	}
	fr := wire.Frame{Type: wire.TypePresenceQuery, Users: users, RequestID: uuid.NewString()}
	answer, err := c.call(ctx, &request{frame: fr, key: waitKey{wire.TypePresenceResp, fr.RequestID}, resend: true, retry: c.cfg.RetryRefused})
	if err == nil && len(answer.Presence) != len(users) {
		err = fmt.Errorf("asked for %d users, answered about %d", len(users), len(answer.Presence))
	}
	if err != nil {
		return nil, Freshness{}, fmt.Errorf("query: %w", err)
	}
	contacts := make([]Contact, len(users))
	for i := range contacts {
		contacts[i] = contactOf(&answer.Presence[i])
	}
	return contacts, Freshness{AsOf: time.UnixMilli(answer.AsOf), Degraded: answer.Degraded}, nil
}

// SetStatus sets what others see of this user, on all devices. It persists until it is set again. Without a text there is none.
func (c *Client) SetStatus(ctx context.Context, status Status, text string) error {
	fr := wire.Frame{Type: wire.TypeSetStatus, Status: string(status), StatusText: text, RequestID: uuid.NewString()}
	answer, err := c.call(ctx, &request{frame: fr, key: waitKey{wire.TypeSetStatusResp, fr.RequestID}, resend: true, retry: c.cfg.RetryRefused})
	if err != nil {
		return fmt.Errorf("set status: %w", err)
	}
	c.mu.Lock()
	c.login.Status, c.login.StatusText = answer.Status, answer.StatusText
	c.mu.Unlock()
	return nil
}

// Status is what others see of this user, by the last login and the last SetStatus of this client.
func (c *Client) Status() (status Status, text string) {
	login := c.lastLogin()
	return Status(login.Status), login.StatusText
}

// Subscribe has the client be told of more users: from now on changes go to [Config.OnPresence]. It returns how they are,
// each once. The server allows 1,000 subscriptions of a connection unless it is set up otherwise: going beyond that is an
// [*Error] with wire.CodeTooMuch, and nothing changes.
//
// Subscriptions outlive connections: when the client has logged in again it subscribes again, and OnPresence is told what is
// different, and nothing else. Calls that change subscriptions are done one after the other.
func (c *Client) Subscribe(ctx context.Context, users ...string) ([]Contact, error) {
	return c.contacts.change(ctx, wire.Subscribe, users)
}

// Unsubscribe ends subscriptions. Users without one are passed over.
func (c *Client) Unsubscribe(ctx context.Context, users ...string) error {
	_, err := c.contacts.change(ctx, wire.Unsubscribe, users)
	return err
}

// Replace ends all subscriptions but those to users, to whom it subscribes, and returns how they are, each once.
func (c *Client) Replace(ctx context.Context, users ...string) ([]Contact, error) {
	return c.contacts.change(ctx, wire.Replace, users)
}

// Contacts is how those are to whom the client is subscribed, sorted by user, as far as it knows. While there is no connection
// it is how they were.
func (c *Client) Contacts() []Contact { return c.contacts.all() }

func checkUsers(users []string) error {
	for _, user := range users {
		if err := wire.CheckUserID(user); err != nil {
			return err
		}
	}
	return nil
}
