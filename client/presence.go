package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxAnswerBytes bounds what is read of an answer: 5,000 users with 8 devices each take 10 MB.
const maxAnswerBytes = 64 << 20

// Presence is an application's back end's way to the platform: it asks who is online, sends messages, manages groups and
// disconnects users. It keeps no state; the context bounds every call.
type Presence struct {
	// URL of the service: scheme, host and port, such as http://chat-presence.
	URL string
	// Key is the API key.
	Key string
	// HTTP sends the requests; nil means http.DefaultClient.
	HTTP *http.Client
}

// State says whether a user is online.
type State string

// States of a user.
const (
	Online  State = "online"
	Offline State = "offline"
	// Unknown is not offline: the Reason says what it is.
	Unknown State = "unknown"
)

// Reasons why a state is Unknown.
const (
	// NeverSeen: the user never logged in, or so long ago that it is forgotten.
	NeverSeen = "never_seen"
	// Unavailable: the service could not find out now.
	Unavailable = "unavailable"
)

// UserPresence is what the service knows of a user.
type UserPresence struct {
	User   string `json:"user"`
	State  State  `json:"state"`
	Reason string `json:"reason,omitempty"` // only if State is Unknown
	// Status is StatusOnline, StatusAway or StatusBusy, and Text what the user says about it; only if State is Online.
	Status Status `json:"status,omitempty"`
	Text   string `json:"text,omitempty"`
	// LastSeen is when an offline user's last session ended.
	LastSeen time.Time `json:"lastSeen,omitzero"`
	// Devices are those online.
	Devices []Device `json:"devices"`
}

// Device is an online device of a user.
type Device struct {
	ID       string `json:"id"`
	Platform string `json:"platform,omitempty"`
	// Gateway is the pod that the device is connected to.
	Gateway   string    `json:"gateway"`
	LoginTime time.Time `json:"loginTime"`
}

// Freshness says how far an answer can be believed.
type Freshness struct {
	// AsOf is when the answer was true.
	AsOf time.Time `json:"asOf"`
	// Degraded is true when something could not be read: users may be missing from lists and counts, and answers about
	// users may be unknown.
	Degraded bool `json:"degraded"`
}

// APIError is an answer other than 200.
type APIError struct {
	Status        int // HTTP status
	Code, Message string
	// RetryAfter is how long to wait before trying again, if the service said so.
	RetryAfter time.Duration

	body []byte
}

func (e *APIError) Error() string {
	if e.Code == "" { // not in the words of the service
		return fmt.Sprintf("presence answered %d %s", e.Status, e.Message)
	}
	return fmt.Sprintf("presence answered %d %s: %s", e.Status, e.Code, e.Message)
}

// Get asks for one user.
func (p *Presence) Get(ctx context.Context, user string) (UserPresence, Freshness, error) {
	var answer struct {
		UserPresence
		Freshness
	}
	err := p.call(ctx, http.MethodGet, "/v1/presence/"+segment(user), nil, &answer)
	return answer.UserPresence, answer.Freshness, err
}

// BatchGet asks for up to 5,000 users. The answers come in the order of the request, one for each.
func (p *Presence) BatchGet(ctx context.Context, users []string) ([]UserPresence, Freshness, error) {
	if users == nil {
		users = []string{}
	}
	var answer struct {
		Users []UserPresence `json:"users"`
		Freshness
	}
	err := p.call(ctx, http.MethodPost, "/v1/presence:batchGet", map[string][]string{"users": users}, &answer)
	if err == nil && len(answer.Users) != len(users) {
		err = fmt.Errorf("asked for %d users, answered about %d", len(users), len(answer.Users))
	}
	return answer.Users, answer.Freshness, err
}

// OnlinePage is a part of the list of online users.
type OnlinePage struct {
	Users []string `json:"users"`
	// NextCursor asks for the next page; empty after the last one.
	NextCursor string `json:"nextCursor"`
	Freshness
}

// OnlinePage returns up to limit (0 means 100, at most 1,000) online users, from a cursor on or, if it is empty, from
// the start.
func (p *Presence) OnlinePage(ctx context.Context, cursor string, limit int) (OnlinePage, error) {
	query := url.Values{}
	if cursor != "" {
		query.Set("cursor", cursor)
	}
	if limit > 0 {
		query.Set("limit", strconv.Itoa(limit))
	}
	path := "/v1/online"
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	var page OnlinePage
	err := p.call(ctx, http.MethodGet, path, nil, &page)
	return page, err
}

// Online yields all online users, page by page. An error ends it. Users who come and go meanwhile may or may not be in
// it.
func (p *Presence) Online(ctx context.Context) iter.Seq2[string, error] {
	const perPage = 1000
	return func(yield func(string, error) bool) {
		for cursor := ""; ; {
			page, err := p.OnlinePage(ctx, cursor, perPage)
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

// Counts says how many are online.
type Counts struct {
	// Users counts each user once; Sessions counts devices.
	Users    int            `json:"users"`
	Sessions int            `json:"sessions"`
	Gateways []GatewayCount `json:"gateways"`
	Freshness
}

// GatewayCount is the number of sessions on one gateway pod.
type GatewayCount struct {
	Pod      string `json:"pod"`
	Sessions int    `json:"sessions"`
}

// Count counts who is online.
func (p *Presence) Count(ctx context.Context) (Counts, error) {
	var counts Counts
	err := p.call(ctx, http.MethodGet, "/v1/online/count", nil, &counts)
	return counts, err
}

// encodedJSON is a body that is sent as it is.
type encodedJSON []byte

func (p *Presence) call(ctx context.Context, method, path string, in, out any) error {
	return p.callWith(ctx, nil, method, path, in, out)
}

func (p *Presence) callWith(ctx context.Context, header http.Header, method, path string, in, out any) error {
	resp, err := p.send(ctx, header, method, path, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return fmt.Errorf("ask presence: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return apiError(resp, data)
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("ask presence: the answer cannot be read: %w", err)
	}
	return nil
}

// send sends a request, whatever is answered.
func (p *Presence) send(ctx context.Context, header http.Header, method, path string, in any) (*http.Response, error) {
	var body io.Reader
	if data, ok := in.(encodedJSON); ok {
		body = bytes.NewReader(data)
	} else if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("ask presence: %w", err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(p.URL, "/")+path, body)
	if err != nil {
		return nil, fmt.Errorf("ask presence: %w", err)
	}
	maps.Copy(req.Header, header)
	req.Header.Set("Authorization", "Bearer "+p.Key)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	hc := p.HTTP
	if hc == nil {
		hc = http.DefaultClient
	}
	resp, err := hc.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask presence: %w", err)
	}
	return resp, nil
}

func apiError(resp *http.Response, data []byte) error {
	var body struct {
		Error struct{ Code, Message string }
	}
	e := &APIError{Status: resp.StatusCode, Message: http.StatusText(resp.StatusCode), body: data}
	if json.Unmarshal(data, &body) == nil && body.Error.Message != "" {
		e.Code, e.Message = body.Error.Code, body.Error.Message
	} else if resp.StatusCode == http.StatusNotFound {
		e.Message += ": there is no presence service at this address"
	}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		e.RetryAfter = time.Duration(s) * time.Second
	}
	return e
}
