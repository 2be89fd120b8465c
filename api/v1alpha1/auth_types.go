package v1alpha1

// AuthMode is a way of proving who a client is.
//
// +kubebuilder:validation:Enum=JWT;Webhook;Insecure
type AuthMode string

const (
	// AuthModeJWT checks a signed token.
	AuthModeJWT AuthMode = "JWT"
	// AuthModeWebhook asks a service of yours about a token.
	AuthModeWebhook AuthMode = "Webhook"
	// AuthModeInsecure takes the token itself for the user id.
	AuthModeInsecure AuthMode = "Insecure"
)

// Auth says how clients prove who they are when they log in. Changing it
// replaces the gateway pods one after the other.
//
// +kubebuilder:validation:XValidation:rule="(self.mode == 'JWT') == has(self.jwt)",message="auth.jwt is required with mode JWT and forbidden otherwise"
// +kubebuilder:validation:XValidation:rule="(self.mode == 'Webhook') == has(self.webhook)",message="auth.webhook is required with mode Webhook and forbidden otherwise"
type Auth struct {
	// mode is JWT, which checks a signed token, Webhook, which asks a service of
	// yours about any token, or Insecure, which takes the token for the user id
	// so that anybody can be anybody; Insecure is for trying things out and
	// raises the condition InsecureAuth.
	// +required
	Mode AuthMode `json:"mode"`

	// jwt configures mode JWT. The subject of a token is the user id; an expired
	// token is refused, and ends a session that is open.
	// +optional
	JWT *JWT `json:"jwt,omitempty"`

	// webhook configures mode Webhook.
	// +optional
	Webhook *Webhook `json:"webhook,omitempty"`
}

// JWT configures how tokens are checked.
//
// +kubebuilder:validation:XValidation:rule="has(self.secretRef) != has(self.jwks)",message="exactly one of secretRef, for a shared key, and jwks, for the public keys of an identity provider, is required"
type JWT struct {
	// secretRef names a Secret with the HS256 key in "current", of at least 32
	// random bytes; a shorter one raises SecretInvalid. A key in "previous" is
	// accepted as well, so that keys can be rotated. Changing the Secret's
	// content replaces no pods: it is read again within about a minute.
	// +optional
	SecretRef *SecretReference `json:"secretRef,omitempty"`

	// jwks checks tokens that an identity provider signs with RS256 or ES256.
	// +optional
	JWKS *JWKS `json:"jwks,omitempty"`

	// issuer is the "iss" claim that tokens must carry. If unset, it is not
	// checked.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	Issuer string `json:"issuer,omitempty"`

	// audience is an "aud" claim that tokens must carry. If unset, it is not
	// checked. Set it if the identity provider issues tokens for other
	// applications, too.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	Audience string `json:"audience,omitempty"`
}

// URL is an address for HTTP.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=2048
// +kubebuilder:validation:XValidation:rule="isURL(self) && self.matches('^https?://[^[:space:]/?#@]+([/?][^[:space:]#]*)?$')",message="must start with https:// or http:// and name a host, without a user, a password and a fragment"
type URL string

// JWKS says where the public keys of an identity provider are.
type JWKS struct {
	// url of the JSON Web Key Set, as the provider's
	// /.well-known/openid-configuration names it in "jwks_uri". Gateway pods
	// fetch it every 5 minutes, and when a token names a key that is not in it;
	// while it cannot be fetched, the keys that are known stay in use. Redirects
	// are not followed. Use https: whoever can change what is fetched over http
	// can log in as anybody.
	// +required
	URL URL `json:"url"`

	// caSecretRef names a Secret with the certificate of the authority to trust
	// for url in "ca.crt". If unset, the authorities of the data-plane image are
	// trusted. A change of the Secret's content takes effect when the pods are
	// replaced.
	// +optional
	CASecretRef *SecretReference `json:"caSecretRef,omitempty"`
}

// Webhook says whom to ask about tokens.
type Webhook struct {
	// url that gateway pods POST {"token", "deviceId", "platform", "address"}
	// to. It answers with 200 and {"userId"}, to which it may add "expires" and
	// "issued" (Unix seconds) and "tokenId", or with 401 if the token is not good.
	// Anything else lets the client try again. Redirects are not followed. Any
	// address that the pods can reach may be given, also one inside the cluster.
	// +required
	URL URL `json:"url"`

	// caSecretRef names a Secret with the certificate of the authority to trust
	// for url in "ca.crt". If unset, the authorities of the data-plane image are
	// trusted. A change of the Secret's content takes effect when the pods are
	// replaced.
	// +optional
	CASecretRef *SecretReference `json:"caSecretRef,omitempty"`

	// timeoutSeconds is how long an answer may take, in seconds. Default 3. At
	// most 9, because a client has 10 s to log in.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=9
	TimeoutSeconds *int32 `json:"timeoutSeconds,omitempty"`

	// cacheSeconds is how long a gateway pod uses a positive answer again when
	// the same device reconnects with the same token from the same address, in
	// seconds; 0 is never. Default 60.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=3600
	CacheSeconds *int32 `json:"cacheSeconds,omitempty"`

	// secretRef names a Secret with a key in "current", of at least 32 random
	// bytes. Requests then carry X-IMCluster-Timestamp, in Unix seconds, and
	// X-IMCluster-Signature: "v1=" and the HMAC-SHA256 of the timestamp, a dot
	// and the body in hexadecimal. If unset, requests are not signed. Changing
	// the Secret's content replaces no pods.
	// +optional
	SecretRef *SecretReference `json:"secretRef,omitempty"`
}
