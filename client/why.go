package client

import (
	"context"
	"net/http"
	"time"
)

// UserStatus is what a user has set.
type UserStatus struct {
	Status Status `json:"status"`
	Text   string `json:"text,omitempty"`
	// Since is when it was set; zero if it never was.
	Since time.Time `json:"since,omitzero"`
}

// UserStatus returns what a user has set, also StatusInvisible, which nobody else may know.
func (p *Presence) UserStatus(ctx context.Context, user string) (UserStatus, error) {
	var status UserStatus
	err := p.call(ctx, http.MethodGet, "/v1/users/"+segment(user)+"/status", nil, &status)
	return status, err
}

// SetUserStatus sets what a user shows. It persists; who is not connected shows it at the next login. Text is at most 128
// bytes without control characters. StatusOnline without a text takes back what was set.
func (p *Presence) SetUserStatus(ctx context.Context, user string, status Status, text string) error {
	body := map[string]string{"status": string(status), "text": text}
	return p.call(ctx, http.MethodPut, "/v1/users/"+segment(user)+"/status", body, &struct{}{})
}

// Explanation says why a user is shown as it is. It is for people, and tells what other users must not know.
type Explanation struct {
	User string `json:"user"`
	// Answer is what everybody else is told.
	Answer struct {
		UserPresence
		Freshness
	} `json:"answer"`
	// AnsweredFrom is "memory", or "redis" while the pod that answered does not know for certain.
	AnsweredFrom string     `json:"answeredFrom"`
	Status       UserStatus `json:"status"`
	// Sessions are all that Redis holds, also those of gateways that have ended.
	Sessions []ExplainedSession `json:"sessions"`
	// Transitions are the last ones, the newest first, as far as the feed still holds them.
	Transitions []Transition       `json:"transitions"`
	Partition   ExplainedPartition `json:"partition"`
	AsOf        time.Time          `json:"asOf"`
}

// ExplainedSession is a session and the gateway that holds it.
type ExplainedSession struct {
	Device     string    `json:"device"`
	Platform   string    `json:"platform,omitempty"`
	LoginTime  time.Time `json:"loginTime"`
	Connection uint64    `json:"connection"`
	// Epoch is the incarnation of the gateway. State says whether it is "alive" or "ended"; "unknown" if Redis knows nothing
	// of it, and then there is no Gateway.
	Epoch   string            `json:"epoch"`
	State   string            `json:"state"`
	Gateway *ExplainedGateway `json:"gateway,omitempty"`
}

// ExplainedGateway is the gateway of a session.
type ExplainedGateway struct {
	Pod      string `json:"pod"`
	PodUID   string `json:"podUID"`
	Address  string `json:"address"`
	Draining bool   `json:"draining,omitempty"`
	// Fenced: its lease cannot be renewed any more.
	Fenced bool `json:"fenced,omitempty"`
	// LastHeartbeat is when it last renewed its lease, and LeaseLeftMs how many milliseconds are left of it without another
	// renewal.
	LastHeartbeat time.Time `json:"lastHeartbeat,omitzero"`
	LeaseLeftMs   int64     `json:"leaseLeftMs"`
}

// Transition is something that happened to a user.
type Transition struct {
	Revision uint64    `json:"revision"`
	Time     time.Time `json:"time,omitzero"`
	// Event is "login", "ended", "status" or "gateway_ended".
	Event    string `json:"event"`
	Device   string `json:"device,omitempty"`
	Platform string `json:"platform,omitempty"`
	Epoch    string `json:"epoch,omitempty"`
	// Address is the IP address of a login.
	Address string `json:"address,omitempty"`
	// Cause is why a session or a gateway ended.
	Cause  string      `json:"cause,omitempty"`
	Status *UserStatus `json:"status,omitempty"`
}

// ExplainedPartition is the part of the data that a user is in.
type ExplainedPartition struct {
	Number int `json:"number"`
	// Generation changes when the data is lost; empty while there is none.
	Generation string `json:"generation,omitempty"`
	Revision   uint64 `json:"revision"`
	// Complete: who is not found is not online. Settled: all gateways that are alive are known.
	Complete bool `json:"complete"`
	Settled  bool `json:"settled"`
}

// Why explains why a user is shown as it is.
func (p *Presence) Why(ctx context.Context, user string) (*Explanation, error) {
	var e Explanation
	if err := p.call(ctx, http.MethodGet, "/v1/users/"+segment(user)+"/why", nil, &e); err != nil {
		return nil, err
	}
	return &e, nil
}
