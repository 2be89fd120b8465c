package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// IMCluster is a messaging and presence platform: gateway pods that hold the
// WebSocket connections of clients, presence pods that answer who is online,
// and a Redis that both share.
//
// +genclient
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=imclusters,singular=imcluster,shortName=imc,categories=im
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.gateway.replicas,statuspath=.status.gateway.replicas,selectorpath=.status.gateway.selector
// +kubebuilder:printcolumn:name="Gateways",type=string,JSONPath=`.status.gateway.summary`,description="Ready gateway pods of those wanted"
// +kubebuilder:printcolumn:name="Presence",type=string,JSONPath=`.status.presence.summary`,description="Ready presence pods of those wanted"
// +kubebuilder:printcolumn:name="Redis",type=string,JSONPath=`.status.redis.summary`,description="State of the Redis"
// +kubebuilder:printcolumn:name="Connections",type=integer,JSONPath=`.status.usage.connections`,description="Open client connections"
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`,description="Whether the spec is fully in effect"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Online users",type=integer,priority=1,JSONPath=`.status.usage.onlineUsers`,description="Users with at least one live session"
// +kubebuilder:printcolumn:name="Image",type=string,priority=1,JSONPath=`.status.gateway.image`,description="Data-plane image in use"
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,description="What the operator is waiting for, or what to do"
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 40",message="metadata.name must be at most 40 characters, so that the names of pods and Services derived from it stay valid"
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",message="metadata.name must start with a letter and contain only lower-case letters, digits and dashes, because Services are named after it"
type IMCluster struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the platform that is wanted.
	// +required
	Spec IMClusterSpec `json:"spec"`

	// status is what the operator last observed. Ready is Unknown until the
	// operator has looked at the IMCluster for the first time.
	// +optional
	// +kubebuilder:default={observedGeneration: 0, conditions: {{type: "Ready", status: "Unknown", reason: "Pending", message: "Waiting for the operator", lastTransitionTime: "1970-01-01T00:00:00Z"}}}
	Status IMClusterStatus `json:"status,omitzero"`
}

// IMClusterList is a list of IMClusters.
//
// +kubebuilder:object:root=true
type IMClusterList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []IMCluster `json:"items"`
}

// IMClusterSpec is the platform that is wanted.
//
// +kubebuilder:validation:XValidation:rule="has(self.redis.managed) == has(oldSelf.redis.managed)",message="redis cannot move between managed and external in place: what it holds would stay behind; create another IMCluster instead"
// +kubebuilder:validation:XValidation:rule="!has(self.redis.managed) || self.?messages.?durability.orValue('Default') != 'Replicated'",message="messages.durability Replicated needs an external Redis with replicas: a managed one has none, so no message would ever count as stored"
type IMClusterSpec struct {
	// image is the data-plane image, which gateway and presence pods run. If
	// unset, the operator uses the image that it was installed with; set it to
	// pin the data plane across operator upgrades, or to use a mirror. A change
	// replaces gateway and presence pods one after the other.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Image string `json:"image,omitempty"`

	// suspend stops the operator from changing anything that belongs to this
	// IMCluster. Pods keep running and users stay connected; nothing is scaled,
	// repaired or deleted until suspend is false again. It does not protect from
	// deletion: deleting the IMCluster still deletes all that belongs to it, but
	// volumes with whenDeleted Retain. Default false. To stop the pods instead,
	// scale to 0.
	// +optional
	// +kubebuilder:default=false
	Suspend bool `json:"suspend,omitempty"`

	// auth says how clients prove who they are when they log in. There is no
	// default.
	// +required
	Auth Auth `json:"auth"`

	// gateway configures the pods that hold the WebSocket connections of
	// clients.
	// +optional
	// +kubebuilder:default={}
	Gateway Gateway `json:"gateway,omitempty"`

	// presence configures the pods that answer who is online.
	// +optional
	// +kubebuilder:default={}
	Presence Presence `json:"presence,omitempty"`

	// messages says how messages are kept for those who have not read them.
	// +optional
	Messages *Messages `json:"messages,omitempty"`

	// redis is where sessions and messages are kept, and when users were last
	// seen: exactly one of managed (a Redis that the operator runs) and external (your own).
	// +required
	Redis Redis `json:"redis"`

	// observability configures where the pods send traces. Metrics are always
	// served, at /metrics on the ops port of every pod.
	// +optional
	Observability *Observability `json:"observability,omitempty"`
}

// SecretReference names a Secret in the namespace of the IMCluster.
type SecretReference struct {
	// name of the Secret.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// Observability configures where the pods send traces.
type Observability struct {
	// otlpEndpoint is the host:port of an OpenTelemetry collector that takes
	// traces over gRPC. If unset, no traces are sent. A change replaces gateway
	// and presence pods one after the other.
	// +optional
	// +kubebuilder:validation:MaxLength=261
	// +kubebuilder:validation:XValidation:rule="self.matches('^([^[:space:],/]+:[0-9]{1,5})?$')",message="must be host:port without scheme and path, for example otel-collector:4317"
	OTLPEndpoint string `json:"otlpEndpoint,omitempty"`
}
