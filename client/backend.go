package client

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// This file is what an application's back end does with [Presence] besides asking who is online: it sends messages, manages
// groups and disconnects users. Errors are *[APIError] when the service answered with one.

// BackendMessage is a message that the back end sends. Exactly one of User, Users, Group and Everyone says to whom.
type BackendMessage struct {
	// ID makes the message the same one when it is sent again: with the same From and recipient it is stored once. At
	// most 128 bytes. Empty means that Send makes one up, with which Send itself repeats nothing.
	ID string `json:"id,omitempty"`
	// From is who the recipients see as the sender.
	From string `json:"from"`

	User     string   `json:"user,omitempty"`
	Users    []string `json:"users,omitempty"` // at most 1,000
	Group    string   `json:"group,omitempty"`
	Everyone bool     `json:"everyone,omitempty"` // who is online; not stored

	// Content is any JSON value, at most 64 KiB.
	Content json.RawMessage `json:"content"`
}

// BackendReceipt says what became of a message.
type BackendReceipt struct {
	// ID is what the message is to be sent again with.
	ID string `json:"id"`
	// MsgID is what recipients see as the id; of a message to several users it is in Results.
	MsgID string `json:"msgId"`
	// Time is when the gateway took the message.
	Time time.Time `json:"time"`
	// Results are one for each of Users, in their order.
	Results []BackendResult `json:"results"`
	// Gateways and Reached, of a message to everyone: how many gateways there are, and how many of them took it.
	Gateways int `json:"gateways"`
	Reached  int `json:"reached"`
}

// BackendResult is what became of a message for one of several users.
type BackendResult struct {
	User string `json:"user"`
	// Status is "stored", or the code of an error.
	Status string `json:"status"`
	MsgID  string `json:"msgId"`
}

// Send sends a message. Without an error it is stored for everybody whom it is for (or, to Everyone, handed to at least one
// gateway). With one it may be stored for some, or for all: the receipt's Results say what is known. Sending it again with
// the ID of the receipt does no harm, and finishes what was not done.
func (p *Presence) Send(ctx context.Context, m BackendMessage) (BackendReceipt, error) {
	if m.ID == "" {
		m.ID = rand.Text()
	}
	receipt := BackendReceipt{ID: m.ID}
	body, err := m.body()
	if err != nil {
		return receipt, fmt.Errorf("send message: %w", err)
	}
	err = p.call(ctx, http.MethodPost, "/v1/messages", body, &receipt)
	if refused, ok := errors.AsType[*APIError](err); ok {
		_ = json.Unmarshal(refused.body, &receipt) // an answer of somebody else has nothing to tell
	}
	return receipt, err
}

// body encodes the message with its content byte for byte: encoding/json would leave out white space and escape characters.
func (m *BackendMessage) body() (encodedJSON, error) {
	if !json.Valid(m.Content) {
		return nil, errors.New("the content is not JSON")
	}
	rest, err := json.Marshal(struct {
		*BackendMessage
		Content *struct{} `json:"content,omitempty"` // hides that of the message
	}{BackendMessage: m})
	if err != nil {
		return nil, err
	}
	body := append([]byte(`{"content":`), m.Content...)
	body = append(body, ',')
	return append(body, rest[1:]...), nil // there is at least From
}

// GroupInfo describes a group.
type GroupInfo struct {
	ID string `json:"group"`
	// Owner may change the group from a client; empty if only the back end may.
	Owner   string    `json:"owner"`
	Members int       `json:"members"`
	Created time.Time `json:"created"`
}

// NewGroup is a group to create.
type NewGroup struct {
	ID      string   `json:"group"`
	Owner   string   `json:"owner,omitempty"` // becomes a member
	Members []string `json:"members,omitempty"`
	// Key, if not empty, lets the call be repeated: the same key creates the group once. At most 128 bytes.
	Key string `json:"-"`
}

// CreateGroup creates a group. The code of its error is group_exists if there is one with that id.
func (p *Presence) CreateGroup(ctx context.Context, g NewGroup) (GroupInfo, error) {
	var header http.Header
	if g.Key != "" {
		header = http.Header{"Idempotency-Key": {g.Key}}
	}
	var info GroupInfo
	err := p.callWith(ctx, header, http.MethodPost, "/v1/groups", g, &info)
	return info, err
}

// Group describes a group. The code of its error is group_not_found if there is none.
func (p *Presence) Group(ctx context.Context, id string) (GroupInfo, error) {
	var info GroupInfo
	err := p.call(ctx, http.MethodGet, "/v1/groups/"+segment(id), nil, &info)
	return info, err
}

// DeleteGroup deletes a group. Messages that were sent to it stay due.
func (p *Presence) DeleteGroup(ctx context.Context, id string) error {
	return p.call(ctx, http.MethodDelete, "/v1/groups/"+segment(id), nil, &struct{}{})
}

// AddGroupMembers adds up to 2,000 users to a group, all or none. Who is a member already stays one.
func (p *Presence) AddGroupMembers(ctx context.Context, id string, users ...string) (GroupInfo, error) {
	return p.changeMembers(ctx, id, "add", users)
}

// RemoveGroupMembers removes users from a group. Who is no member is passed over.
func (p *Presence) RemoveGroupMembers(ctx context.Context, id string, users ...string) (GroupInfo, error) {
	return p.changeMembers(ctx, id, "remove", users)
}

func (p *Presence) changeMembers(ctx context.Context, id, change string, users []string) (GroupInfo, error) {
	var info GroupInfo
	body := map[string][]string{"users": users}
	err := p.call(ctx, http.MethodPost, "/v1/groups/"+segment(id)+"/members:"+change, body, &info)
	return info, err
}

// GroupMembers yields the members of a group in the order of their bytes, asking for a page at a time. An error ends it. Who
// comes and goes meanwhile may or may not be in it.
func (p *Presence) GroupMembers(ctx context.Context, id string) iter.Seq2[string, error] {
	const perPage = 1000
	return func(yield func(string, error) bool) {
		for cursor := ""; ; {
			var page struct {
				Users      []string `json:"users"`
				NextCursor string   `json:"nextCursor"`
			}
			query := url.Values{"limit": {strconv.Itoa(perPage)}}
			if cursor != "" {
				query.Set("cursor", cursor)
			}
			err := p.call(ctx, http.MethodGet, "/v1/groups/"+segment(id)+"/members?"+query.Encode(), nil, &page)
			if err != nil {
				yield("", err)
				return
			}
			for _, u := range page.Users {
				if !yield(u, nil) {
					return
				}
			}
			if cursor = page.NextCursor; cursor == "" {
				return
			}
		}
	}
}

// Disconnection says which sessions of a user end. Device or TokenID narrow it down; at most one may be set.
type Disconnection struct {
	Device  string `json:"device,omitempty"`
	TokenID string `json:"tokenId,omitempty"`
	// Until is for how long tokens that were issued until now are refused. Zero means 24 h from now; a time that has
	// passed ends the sessions and refuses nothing.
	Until time.Time `json:"until,omitzero"`
	// Reason is told to the clients; at most 256 bytes.
	Reason string `json:"reason,omitempty"`
}

// Disconnect ends sessions of a user on every gateway within a second, and has their tokens refused.
func (p *Presence) Disconnect(ctx context.Context, user string, d Disconnection) error {
	return p.call(ctx, http.MethodPost, "/v1/users/"+segment(user)+"/disconnect", d, &struct{}{})
}

// Reinstate has no token of a user refused any more.
func (p *Presence) Reinstate(ctx context.Context, user string) error {
	return p.call(ctx, http.MethodDelete, "/v1/users/"+segment(user)+"/disconnect", nil, &struct{}{})
}

// segment escapes an id as one segment of a path. One called ".." must not be taken for a step up the path.
func segment(id string) string { return strings.ReplaceAll(url.PathEscape(id), ".", "%2E") }
