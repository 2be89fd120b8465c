package v1alpha1

// LeanCloud lets clients of LeanCloud ask who is online, as they ask
// LeanCloud: by the cloud function getOnOffStatus.
type LeanCloud struct {
	// appId that the clients are initialised with.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:XValidation:rule="self.matches('^[!-~]+$')",message="must be printable ASCII without spaces"
	AppID string `json:"appId"`

	// keySecretRef names a Secret with the app key that the clients are
	// initialised with in "current", and optionally another one that is accepted
	// in "previous". Every client has the app key, so let it be none that opens
	// anything else. Changing the Secret's content replaces no pods.
	// +required
	KeySecretRef SecretReference `json:"keySecretRef"`
}
