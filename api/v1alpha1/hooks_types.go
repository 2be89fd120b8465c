package v1alpha1

// Hooks tell a back end who comes online and goes offline, by POST of signed
// batches of events.
type Hooks struct {
	// url is where events are posted.
	// +required
	URL URL `json:"url"`

	// secretRef names a Secret with the key that events are signed with, by
	// HMAC-SHA256, in "current", and optionally another one in "previous", with
	// which they are signed too. Changing the Secret's content replaces no pods.
	// +required
	SecretRef SecretReference `json:"secretRef"`

	// timeoutSeconds is how long the receiver may take to answer, in seconds.
	// What it did not take by then is posted again. Default 5.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=60
	TimeoutSeconds *int32 `json:"timeoutSeconds,omitempty"`
}
