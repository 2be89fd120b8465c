package v1alpha1

// GatewayLimits are limits of what clients may do. A client that exceeds one
// is told so by a code. Changing them replaces the gateway pods one after the
// other.
type GatewayLimits struct {
	// connectionsPerUser is how many devices of one user may be connected at
	// once, to all gateway pods together. Default 16.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	ConnectionsPerUser *int32 `json:"connectionsPerUser,omitempty"`

	// perConnection is what one connection may send. Default 100 frames and
	// 262144 bytes a second.
	// +optional
	PerConnection *Rate `json:"perConnection,omitempty"`

	// perUser is what all connections of a user to one gateway pod may send
	// together. If unset, there is no such limit.
	// +optional
	PerUser *Rate `json:"perUser,omitempty"`

	// groupsPerUser is how many groups a user may make and own. Back ends may
	// give a user more. Default 1000.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100000
	GroupsPerUser *int32 `json:"groupsPerUser,omitempty"`

	// groupRecipientsPerSecond is how many recipients the messages to groups of
	// one user may have in a second, over all connections to one gateway pod;
	// twice as many may come at once. A message counts once for each recipient
	// and begun KiB of its content. Messages from back ends have no limit.
	// Default 20000.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000000
	GroupRecipientsPerSecond *int32 `json:"groupRecipientsPerSecond,omitempty"`

	// subscriptionsPerConnection is how many users one connection may subscribe
	// to, and ask for at once. Default 1000.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000
	SubscriptionsPerConnection *int32 `json:"subscriptionsPerConnection,omitempty"`

	// perAddress is what one client address may do on one gateway pod. Of an
	// IPv6 address the first 64 bits count. Behind a company's or a mobile
	// network there may be thousands of users with one address. If unset, there
	// is no such limit.
	// +optional
	PerAddress *AddressLimits `json:"perAddress,omitempty"`

	// trustedProxies are the networks of the proxies in front of the gateways,
	// such as 10.0.0.0/8 for an ingress controller inside the cluster. What they
	// say in X-Forwarded-For is taken for the address of the client. If unset,
	// it is that of the TCP connection.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	TrustedProxies []CIDR `json:"trustedProxies,omitempty"`
}

// Rate is what may be sent in a second; twice as much may come at once.
type Rate struct {
	// framesPerSecond is the number of frames.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	FramesPerSecond *int32 `json:"framesPerSecond,omitempty"`

	// bytesPerSecond is the size of all frames together, at least that of the
	// largest one, which is 65536.
	// +optional
	// +kubebuilder:validation:Minimum=65536
	// +kubebuilder:validation:Maximum=1000000000
	BytesPerSecond *int32 `json:"bytesPerSecond,omitempty"`
}

// AddressLimits is what one client address may do.
type AddressLimits struct {
	// connections is how many connections the address may have.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	Connections *int32 `json:"connections,omitempty"`

	// loginsPerSecond is how many logins the address may try, good or not; twice
	// as many may come at once. It keeps guesses at tokens from the identity
	// provider and the auth webhook.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	LoginsPerSecond *int32 `json:"loginsPerSecond,omitempty"`

	Rate `json:",inline"`
}

// CIDR is a network.
//
// +kubebuilder:validation:MaxLength=43
// +kubebuilder:validation:XValidation:rule="isCIDR(self)",message="must be a network such as 10.0.0.0/8 or fd00::/8"
type CIDR string

// Origin is the origin of web pages, or of all that are served by the names
// below a domain.
//
// +kubebuilder:validation:MaxLength=300
// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z][-+.a-z0-9]*://([*][.])?[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*(:[0-9]{1,5})?$')",message="must be an origin in lower case without path, such as https://chat.example.com, https://*.example.com or http://localhost:3000"
type Origin string

// Clients says what clients may do besides chatting. Changing it replaces the
// gateway pods one after the other.
type Clients struct {
	// broadcast lets every client send a message to everybody who is online.
	// Default false.
	// +optional
	Broadcast bool `json:"broadcast,omitempty"`

	// onlineList lets every client ask who is online. Default false.
	// +optional
	OnlineList bool `json:"onlineList,omitempty"`

	// presence lets every client ask how users are whose ids it knows, and
	// subscribe to them. Users who set the status invisible look offline.
	// Default true.
	// +optional
	Presence *bool `json:"presence,omitempty"`

	// groups lets clients make groups and change those that they own. Without,
	// only back ends may; members send to their groups all the same. Default
	// true.
	// +optional
	Groups *bool `json:"groups,omitempty"`
}

// Durability says when a message counts as stored.
//
// +kubebuilder:validation:Enum=Default;Replicated
type Durability string

const (
	// DurabilityDefault is as durable as the Redis is set to be.
	DurabilityDefault Durability = "Default"
	// DurabilityReplicated waits for a replica of the Redis.
	DurabilityReplicated Durability = "Replicated"
)

// Messages says how messages are kept for those who have not read them.
// Changing it replaces gateway and presence pods one after the other.
type Messages struct {
	// maxMessages is how many messages are kept for one user. When there are
	// more the oldest go, and the user's devices are told how many they miss.
	// Default 500.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000
	MaxMessages *int32 `json:"maxMessages,omitempty"`

	// maxBytes is how many bytes of messages are kept for one user. Default
	// 262144. It is what one user can take of the memory of Redis.
	// +optional
	// +kubebuilder:validation:Minimum=65536
	// +kubebuilder:validation:Maximum=16777216
	MaxBytes *int32 `json:"maxBytes,omitempty"`

	// retentionSeconds is how long a message is kept, and how long a device that
	// does not connect counts as one that messages are due to, in seconds;
	// rounded up to days. Default 604800 (7 days).
	// +optional
	// +kubebuilder:validation:Minimum=86400
	// +kubebuilder:validation:Maximum=7776000
	RetentionSeconds *int32 `json:"retentionSeconds,omitempty"`

	// durability is Default, which tells a sender that a message is stored when
	// Redis has it, so that it is as durable as that Redis is set to be; or
	// Replicated, which waits until a replica has it, too, so that a failover of
	// an external Redis loses no message that was acknowledged. Default Default.
	// +optional
	Durability Durability `json:"durability,omitempty"`
}
