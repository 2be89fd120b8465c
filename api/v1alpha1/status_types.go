package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Condition types of an IMCluster. Ready, GatewayAvailable,
// PresenceAvailable and RedisAvailable are always there, HooksDelivering
// with spec.presence.hooks; the others only while they are true.
const (
	// ConditionReady is true when the spec of the observed generation is fully
	// in effect.
	ConditionReady = "Ready"
	// ConditionGatewayAvailable is true while at least one gateway pod takes
	// connections.
	ConditionGatewayAvailable = "GatewayAvailable"
	// ConditionPresenceAvailable is true while at least one presence pod answers
	// queries.
	ConditionPresenceAvailable = "PresenceAvailable"
	// ConditionRedisAvailable is true while the Redis can be used.
	ConditionRedisAvailable = "RedisAvailable"
	// ConditionReconciling is true while the operator or Kubernetes still works
	// on the spec.
	ConditionReconciling = "Reconciling"
	// ConditionStalled is true when nothing goes on without a change by the
	// user.
	ConditionStalled = "Stalled"
	// ConditionInsecureAuth is true while anybody can log in as anybody.
	ConditionInsecureAuth = "InsecureAuth"
	// ConditionHooksDelivering is true while the receiver of the hooks is told
	// of every change within a minute. It is there only with
	// spec.presence.hooks.
	ConditionHooksDelivering = "HooksDelivering"
)

// IMClusterStatus is what the operator last observed.
type IMClusterStatus struct {
	// conditions say what works and what does not: Ready, GatewayAvailable,
	// PresenceAvailable and RedisAvailable always; HooksDelivering with
	// spec.presence.hooks; Reconciling, Stalled and InsecureAuth only while they
	// are true.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the metadata.generation that the rest of the status
	// speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration"`

	// gateway counts the gateway pods.
	// +optional
	Gateway *GatewayStatus `json:"gateway,omitempty"`

	// presence counts the presence pods.
	// +optional
	Presence *PresenceStatus `json:"presence,omitempty"`

	// redis says which Redis is used.
	// +optional
	Redis *RedisStatus `json:"redis,omitempty"`

	// urls are where to reach the platform.
	// +optional
	URLs *URLs `json:"urls,omitempty"`

	// usage counts connections and users. It is collected beside everything else
	// and written at most every 30 s, when a number has moved by 1 % or more.
	// +optional
	Usage *Usage `json:"usage,omitempty"`

	// hooks says what the receiver of the hooks is still to be told. It is
	// collected beside everything else, and written at most every 30 s.
	// +optional
	Hooks *HooksStatus `json:"hooks,omitempty"`
}

// GatewayStatus counts the gateway pods.
type GatewayStatus struct {
	// summary is ready/wanted, as in the column Gateways.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Summary string `json:"summary,omitempty"`

	// replicas is the number of gateway pods that are not terminating.
	// +optional
	Replicas int32 `json:"replicas"`

	// desiredReplicas is the number of gateway pods that are wanted.
	// +optional
	DesiredReplicas int32 `json:"desiredReplicas"`

	// readyReplicas is the number of gateway pods that take connections.
	// +optional
	ReadyReplicas int32 `json:"readyReplicas"`

	// updatedReplicas is the number of gateway pods with the current pod
	// template.
	// +optional
	UpdatedReplicas int32 `json:"updatedReplicas"`

	// selector finds the gateway pods; the scale subresource shows it.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Selector string `json:"selector,omitempty"`

	// image is the data-plane image that is wanted.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Image string `json:"image,omitempty"`
}

// PresenceStatus counts the presence pods.
type PresenceStatus struct {
	// summary is ready/wanted, as in the column Presence.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Summary string `json:"summary,omitempty"`

	// readyReplicas is the number of presence pods that answer queries.
	// +optional
	ReadyReplicas int32 `json:"readyReplicas"`
}

// RedisStatus says which Redis is used.
type RedisStatus struct {
	// summary is the kind of Redis and its state, as in the column Redis.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Summary string `json:"summary,omitempty"`

	// mode is Standalone, Sentinel or Cluster.
	// +optional
	Mode RedisMode `json:"mode,omitempty"`
}

// URLs are where to reach the platform.
type URLs struct {
	// websocket is where clients connect: through the Ingress if there is one,
	// otherwise inside the cluster.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	WebSocket string `json:"websocket,omitempty"`

	// presenceHTTP is the base URL of the presence API inside the cluster.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	PresenceHTTP string `json:"presenceHTTP,omitempty"`
}

// Usage counts connections and users.
type Usage struct {
	// connections is the number of open client connections.
	// +optional
	Connections int64 `json:"connections"`

	// onlineUsers is the number of users with at least one live session.
	// +optional
	OnlineUsers int64 `json:"onlineUsers"`

	// asOf is when these numbers were read. While they move by less than 1 % it
	// stays as it is.
	// +optional
	AsOf metav1.Time `json:"asOf,omitzero"`
}

// HooksStatus says how far the receiver of the hooks is behind.
type HooksStatus struct {
	// pending is the number of users that the receiver is still to be told
	// about, if one of them has waited for 10 s; otherwise 0, for what is on its
	// way does not count.
	// +optional
	Pending int64 `json:"pending"`

	// oldestPending is since when one of them has waited. Absent if pending is
	// 0.
	// +optional
	OldestPending metav1.Time `json:"oldestPending,omitzero"`

	// lastSuccess is when the receiver last took events, before asOf.
	// +optional
	LastSuccess metav1.Time `json:"lastSuccess,omitzero"`

	// lastError is why it did not take the last ones. Absent if pending is 0.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	LastError string `json:"lastError,omitempty"`

	// asOf is when all of this was asked. While nothing is wrong it stays as it
	// is.
	// +optional
	AsOf metav1.Time `json:"asOf,omitzero"`
}
