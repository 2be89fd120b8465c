package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
)

// Gateway configures the pods that hold the WebSocket connections of
// clients.
//
// +kubebuilder:validation:XValidation:rule="!has(self.ingress) || !has(self.limits) || !has(self.limits.perAddress) || (has(self.limits.trustedProxies) && self.limits.trustedProxies.size() > 0)",message="limits.perAddress together with ingress needs limits.trustedProxies: without it, all clients have the address of the ingress controller"
// +kubebuilder:validation:XValidation:rule="self.?maxConnectionsPerPod.orValue(20000) <= self.?drain.?windowSeconds.orValue(120) * self.?drain.?maxReconnectsPerSecond.orValue(200)",message="a full pod must be able to drain in time: maxConnectionsPerPod (20000 if unset) must not exceed drain.windowSeconds (120 if unset) x drain.maxReconnectsPerSecond (200 if unset)",messageExpression="'a full pod cannot drain in time: maxConnectionsPerPod is %d, which must not exceed drain.windowSeconds x drain.maxReconnectsPerSecond, here %d x %d'.format([self.?maxConnectionsPerPod.orValue(20000), self.?drain.?windowSeconds.orValue(120), self.?drain.?maxReconnectsPerSecond.orValue(200)])"
type Gateway struct {
	// replicas is the number of gateway pods. Default 2. "kubectl scale", a
	// HorizontalPodAutoscaler and KEDA write it through the scale subresource.
	// Pods that go away drain their connections first.
	// +optional
	// +kubebuilder:default=2
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	Replicas *int32 `json:"replicas,omitempty"`

	// maxConnectionsPerPod is the number of connections that one pod accepts;
	// further clients are told to come back later. Default 20000. A change
	// replaces the gateway pods one after the other.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	MaxConnectionsPerPod *int32 `json:"maxConnectionsPerPod,omitempty"`

	// drain says how a pod that goes away moves its clients to other pods.
	// +optional
	Drain *Drain `json:"drain,omitempty"`

	// resources of a gateway container. Default: requests of 100m CPU and 128Mi
	// memory, and a limit of 512Mi memory. What is set here replaces that as a
	// whole. Plan 10 KB of memory per connection. With a memory limit, the Go
	// runtime is told to stay below 90 % of it. A change replaces the gateway
	// pods one after the other.
	// +optional
	Resources *Resources `json:"resources,omitempty"`

	// limits of what clients may do.
	// +optional
	Limits *GatewayLimits `json:"limits,omitempty"`

	// allowedOrigins are the origins of web pages that may connect, such as
	// https://chat.example.com, or https://*.example.com for all names below
	// example.com; pages of others are answered with 403. Programs that are no
	// browsers do not have an origin and are not held up. If unset, pages of all
	// origins may connect: what proves who a client is, is its token. A change
	// replaces the gateway pods one after the other.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	AllowedOrigins []Origin `json:"allowedOrigins,omitempty"`

	// clients says what clients may do besides chatting.
	// +optional
	Clients *Clients `json:"clients,omitempty"`

	Scheduling `json:",inline"`

	// service configures the Service in front of the gateways, named
	// <name>-gateway, with WebSocket on port 80.
	// +optional
	Service *GatewayService `json:"service,omitempty"`

	// ingress publishes the gateways outside of the cluster at /ws of a host
	// name. If unset, there is no Ingress; removing it deletes the Ingress. No
	// pods are replaced.
	// +optional
	Ingress *Ingress `json:"ingress,omitempty"`
}

// Drain says how a gateway pod that goes away moves its clients to other
// pods. Changing it replaces the gateway pods one after the other.
type Drain struct {
	// windowSeconds is how long a pod may take to move its clients, in seconds;
	// what is left then is closed. Default 120. It also sets the pods'
	// termination grace period (15 s more).
	// +optional
	// +kubebuilder:validation:Minimum=5
	// +kubebuilder:validation:Maximum=3600
	WindowSeconds *int32 `json:"windowSeconds,omitempty"`

	// maxReconnectsPerSecond caps how many clients are asked to reconnect per
	// second, over all pods that drain at the same time. Default 200. A new pod
	// is not ready while more clients are still to be moved than the cap allows
	// in 5 s, so that rollouts, evictions and node drains go on at the pace at
	// which clients really move; but it is if no other pod takes clients, if the
	// others are more than 90 % full, when it has waited for windowSeconds and
	// 15 s, and when Redis cannot be asked.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100000
	MaxReconnectsPerSecond *int32 `json:"maxReconnectsPerSecond,omitempty"`
}

// GatewayService configures the Service in front of the gateways.
type GatewayService struct {
	// type of the Service: ClusterIP, NodePort or LoadBalancer. Default
	// ClusterIP. No pods are replaced.
	// +optional
	// +kubebuilder:validation:Enum=ClusterIP;NodePort;LoadBalancer
	Type corev1.ServiceType `json:"type,omitempty"`

	// annotations are put on the Service, for example to configure a cloud load
	// balancer. Its idle timeout should be above 60 s: clients are pinged when
	// they were silent for 15 s.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	Annotations map[string]AnnotationValue `json:"annotations,omitempty"`
}

// Ingress publishes the gateways outside of the cluster.
type Ingress struct {
	// host is the host name under which clients connect, for example
	// im.example.com.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^([*][.])?[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",message="must be a host name in lower case without scheme, port and path, for example im.example.com"
	Host string `json:"host"`

	// className is the IngressClass. If unset, the cluster's default class is
	// used.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	ClassName string `json:"className,omitempty"`

	// tlsSecretName names a Secret of type kubernetes.io/tls with the
	// certificate for host. If unset, the Ingress serves plain WebSocket.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	TLSSecretName string `json:"tlsSecretName,omitempty"`

	// annotations are put on the Ingress, for example to configure the
	// controller or cert-manager.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	Annotations map[string]AnnotationValue `json:"annotations,omitempty"`
}

// AnnotationValue is the value of an annotation.
//
// +kubebuilder:validation:MaxLength=4096
type AnnotationValue string

// Presence configures the pods that answer who is online.
type Presence struct {
	// replicas is the number of presence pods. Default 2.
	// +optional
	// +kubebuilder:default=2
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	Replicas *int32 `json:"replicas,omitempty"`

	// graceSeconds is how long a user still counts as online after the
	// connection was lost, in seconds, so that a reconnect is not seen as going
	// offline. A clean logout shows at once. Default 10. A change replaces
	// gateway and presence pods one after the other.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=3600
	GraceSeconds *int32 `json:"graceSeconds,omitempty"`

	// lastSeenRetentionSeconds is how long it is remembered when a user was last
	// seen, in seconds; after that the user is unknown. Default 604800 (7 days).
	// A change replaces the presence pods one after the other.
	// +optional
	// +kubebuilder:validation:Minimum=60
	// +kubebuilder:validation:Maximum=7776000
	LastSeenRetentionSeconds *int32 `json:"lastSeenRetentionSeconds,omitempty"`

	// apiKeySecretRef names a Secret with the API key that queries must carry in
	// "current", and optionally another one that is accepted in "previous". If
	// unset, the operator generates a key once and keeps it in the Secret
	// <name>-api-key. Changing the Secret's content replaces no pods.
	// +optional
	APIKeySecretRef *SecretReference `json:"apiKeySecretRef,omitempty"`

	// leancloud lets clients of LeanCloud, such as those with its JavaScript SDK,
	// ask who is online: at /1.1/functions/getOnOffStatus of the presence
	// Service. If unset, they cannot. A change replaces the presence pods one
	// after the other.
	// +optional
	LeanCloud *LeanCloud `json:"leancloud,omitempty"`

	// hooks tell a back end who comes online and goes offline. If unset, nobody
	// is told. A change replaces the presence pods one after the other.
	// +optional
	Hooks *Hooks `json:"hooks,omitempty"`

	// userStatus configures the gRPC service pb.UserStatus, by which chat servers
	// that are no gateways register their users.
	// +optional
	UserStatus *UserStatus `json:"userStatus,omitempty"`

	// resources of a presence container. Default: requests of 100m CPU and 128Mi
	// memory, and a limit of 512Mi memory. What is set here replaces that as a
	// whole. With a memory limit, the Go runtime is told to stay below 90 % of
	// it. A change replaces the presence pods one after the other.
	// +optional
	Resources *Resources `json:"resources,omitempty"`

	Scheduling `json:",inline"`
}

// Resources are what a container asks for and may use at most.
type Resources struct {
	// requests is the least that a node must have free, by resource name ("cpu",
	// "memory").
	// +optional
	Requests corev1.ResourceList `json:"requests,omitempty"`

	// limits is the most that the container may use, by resource name ("cpu",
	// "memory").
	// +optional
	Limits corev1.ResourceList `json:"limits,omitempty"`
}

// Scheduling says which nodes pods may run on. Changing it replaces the
// pods.
type Scheduling struct {
	// nodeSelector are labels that a node must have to run the pods. Default
	// none. A change replaces the pods.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`

	// tolerations are taints that the pods tolerate. Default none. A change
	// replaces the pods.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`
}
