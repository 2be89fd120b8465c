package v1alpha1

// UserStatus configures the gRPC service pb.UserStatus, by which chat servers
// that are no gateways register their users, and ask for users.
type UserStatus struct {
	// authentication says whether calls of pb.UserStatus must carry the API key:
	// Required, or None, for clients of the published service, which carry no
	// key. With None, whoever reaches port 9090 can have any user shown online or
	// offline: let a NetworkPolicy admit the chat servers and the gateways only.
	// All other services need the key all the same. Default Required. A change
	// replaces the presence pods one after the other.
	// +optional
	Authentication UserStatusAuthentication `json:"authentication,omitempty"`

	// leaseSeconds is how long a chat server is believed to be alive after a call
	// that names it, and so how long its users are shown online after it died,
	// in seconds. For servers that call KeepAlive it is 15. Default 86400 (24 h).
	// A change replaces the presence pods one after the other.
	// +optional
	// +kubebuilder:validation:Minimum=15
	// +kubebuilder:validation:Maximum=2592000
	LeaseSeconds *int32 `json:"leaseSeconds,omitempty"`
}

// UserStatusAuthentication says whether calls must carry a key.
//
// +kubebuilder:validation:Enum=Required;None
type UserStatusAuthentication string

// Ways to authenticate.
const (
	UserStatusAuthenticationRequired UserStatusAuthentication = "Required"
	UserStatusAuthenticationNone     UserStatusAuthentication = "None"
)
