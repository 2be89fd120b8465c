package v1alpha1

// AuthMode is a way of proving who a client is.
//
// +kubebuilder:validation:Enum=JWT;Insecure
type AuthMode string

const (
	// AuthModeJWT checks a signed token.
	AuthModeJWT AuthMode = "JWT"
	// AuthModeInsecure takes the token itself for the user id.
	AuthModeInsecure AuthMode = "Insecure"
)

// Auth says how clients prove who they are when they log in. Changing it
// replaces the gateway pods one after the other.
//
// +kubebuilder:validation:XValidation:rule="(self.mode == 'JWT') == has(self.jwt)",message="auth.jwt is required with mode JWT and forbidden otherwise"
type Auth struct {
	// mode is JWT, which checks a signed token, or Insecure, which takes the
	// token for the user id so that anybody can be anybody; Insecure is for
	// trying things out and raises the condition InsecureAuth.
	// +required
	Mode AuthMode `json:"mode"`

	// jwt configures mode JWT. The subject of a token is the user id; an expired
	// token is refused.
	// +optional
	JWT *JWT `json:"jwt,omitempty"`
}

// JWT configures how tokens are checked.
type JWT struct {
	// secretRef names a Secret with the HS256 key in "current", of at least 32
	// random bytes; a shorter one raises SecretInvalid. A key in "previous" is
	// accepted as well, so that keys can be rotated. Changing the Secret's
	// content replaces no pods: it is read again within about a minute.
	// +required
	SecretRef SecretReference `json:"secretRef"`

	// issuer is the "iss" claim that tokens must carry. If unset, it is not
	// checked.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	Issuer string `json:"issuer,omitempty"`

	// audience is an "aud" claim that tokens must carry. If unset, it is not
	// checked.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	Audience string `json:"audience,omitempty"`
}
