package internalapi

import "time"

// Paths of the API, relative to the base URL.
const (
	IncarnationsPath = "/internal/incarnations"
	FencePath        = "/internal/fence"
	HooksPath        = "/internal/hooks"
)

// State says whether an incarnation takes new sessions.
type State string

const (
	// StateActive is an incarnation that holds a lease and takes new sessions.
	StateActive State = "active"
	// StateDraining is an incarnation that was asked to stop and is moving its clients away.
	StateDraining State = "draining"
)

// Incarnation is one run of a gateway process as the gateway registry knows it. A gateway that
// restarts in the same pod is a new incarnation with a new epoch.
type Incarnation struct {
	// Epoch identifies the incarnation; it is opaque to everybody but presence.
	Epoch string `json:"epoch"`
	// PodName and PodUID are those of the pod that the incarnation runs in.
	PodName string `json:"podName"`
	PodUID  string `json:"podUID"`
	// Address is the host:port on which peers reach the incarnation.
	Address string `json:"address"`
	State   State  `json:"state"`
	// LeaseRemainingMs is how long the lease still lasts without another renewal, in milliseconds of
	// store time; zero or less means that it has ended.
	LeaseRemainingMs int64 `json:"leaseRemainingMs"`
	// Connections is the number of connections that the incarnation last reported.
	Connections int64 `json:"connections"`
}

// IncarnationList is the answer to GET [IncarnationsPath].
type IncarnationList struct {
	// AsOf is when the registry was read.
	AsOf time.Time `json:"asOf"`
	// Degraded is true while the counts may be too low, for example after Redis lost its data and
	// before every gateway has registered its sessions again.
	Degraded bool `json:"degraded"`
	// Connections is the sum over all live incarnations.
	Connections int64 `json:"connections"`
	// OnlineUsers is the number of users with at least one live session.
	OnlineUsers  int64         `json:"onlineUsers"`
	Incarnations []Incarnation `json:"incarnations"`
}

// FenceRequest is the body of POST [FencePath]. Fencing is idempotent.
type FenceRequest struct {
	// Epochs are ended: their leases are cut to the last renewal plus the grace, and cannot be renewed.
	Epochs []string `json:"epochs"`
	// BanPodUIDs may never register again. It is for pods that are gone from the API server while
	// their process may still run on a node that has not heard of it.
	BanPodUIDs []string `json:"banPodUIDs"`
}

// FenceResponse is the answer to POST [FencePath]. Every epoch of the request is in one of the lists.
type FenceResponse struct {
	Fenced []string `json:"fenced"`
	// Unknown are epochs that the registry does not hold, because they ended long ago or never were.
	Unknown []string `json:"unknown"`
}

// HookDelivery is the answer to GET [HooksPath]: what the receiver of the hooks is still to be told, over all presence pods.
type HookDelivery struct {
	// AsOf is when it was asked.
	AsOf time.Time `json:"asOf"`
	// Pods is how many presence pods tell the receiver; 0 if there are no hooks, or before any pod reported.
	Pods int `json:"pods"`
	// Pending is how many users the receiver is still to be told about, and OldestPending since when; zero if there are none.
	Pending       int64     `json:"pending"`
	OldestPending time.Time `json:"oldestPending,omitzero"`
	// LastSuccess is when the receiver last took events; zero if never since the pods started.
	LastSuccess time.Time `json:"lastSuccess,omitzero"`
	// LastError is why it did not take the last ones, and Refusal the status that it answered with; empty if it took them, and
	// Refusal is 0 if it did not answer.
	LastError string `json:"lastError,omitempty"`
	Refusal   int    `json:"refusal,omitempty"`
}

// ErrorBody is the body of every answer that is not a success.
type ErrorBody struct {
	Error ErrorDetail `json:"error"`
}

// ErrorDetail says what went wrong, for a program (Code) and for a person (Message).
type ErrorDetail struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}
