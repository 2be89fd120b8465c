package v1alpha1

// Redis is where sessions and messages are kept, and when users were last
// seen.
//
// +kubebuilder:validation:XValidation:rule="has(self.managed) != has(self.external)",message="exactly one of managed and external is required"
type Redis struct {
	// managed lets the operator run one Redis for this IMCluster. Write
	// "managed: {}" for all defaults.
	// +optional
	Managed *ManagedRedis `json:"managed,omitempty"`

	// external uses a Redis (7.0 or newer) or Valkey that you run.
	// +optional
	External *ExternalRedis `json:"external,omitempty"`
}

// Quantity is an amount in Kubernetes notation, such as 512Mi.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=32
type Quantity string

// ManagedRedis is one Redis that the operator runs. A change of any of its
// fields, except for those of storage, restarts it; users stay connected
// meanwhile, and new logins wait.
//
// +kubebuilder:validation:XValidation:rule="!has(self.memory) || (isQuantity(self.memory) && quantity(self.memory).compareTo(quantity('64Mi')) >= 0)",message="memory must be a quantity of at least 64Mi"
// +kubebuilder:validation:XValidation:rule="has(self.storage) == has(oldSelf.storage)",message="storage cannot be added or removed in place"
type ManagedRedis struct {
	// image of the Redis or Valkey server, which must have the program
	// redis-server. If unset, the operator uses the image that it was installed
	// with.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Image string `json:"image,omitempty"`

	// memory that the Redis pod requests and is limited to. Default 256Mi. Redis
	// itself uses up to 75 % of it for data, or 60 % with storage, and refuses
	// writes beyond that.
	// +optional
	Memory Quantity `json:"memory,omitempty"`

	// storage keeps the data on a volume, so that it survives a restart of the
	// Redis pod except for at most the last 2 s. If unset, a restart of the Redis
	// pod loses the messages that are still to be delivered and forgets groups
	// and when users were last seen, while those who are connected are registered
	// again, and the condition RedisAvailable says Ephemeral.
	// +optional
	Storage *RedisStorage `json:"storage,omitempty"`

	Scheduling `json:",inline"`
}

// DeletionPolicy says what becomes of data when its IMCluster is deleted.
//
// +kubebuilder:validation:Enum=Retain;Delete
type DeletionPolicy string

const (
	// DeletionPolicyRetain keeps the data.
	DeletionPolicyRetain DeletionPolicy = "Retain"
	// DeletionPolicyDelete deletes the data.
	DeletionPolicyDelete DeletionPolicy = "Delete"
)

// RedisStorage keeps the data of a managed Redis on a volume.
//
// +kubebuilder:validation:XValidation:rule="!isQuantity(self.size) || !isQuantity(oldSelf.size) || quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0",message="storage.size cannot shrink"
// +kubebuilder:validation:XValidation:rule="has(self.className) == has(oldSelf.className) && (!has(self.className) || self.className == oldSelf.className)",message="storage.className cannot change in place"
type RedisStorage struct {
	// size of the volume. It can grow if the storage class allows that, and
	// never shrink. Plan three times the memory, because the file is rewritten
	// beside the old one.
	// +required
	// +kubebuilder:validation:XValidation:rule="isQuantity(self) && quantity(self).compareTo(quantity('64Mi')) >= 0",message="size must be a quantity of at least 64Mi"
	Size Quantity `json:"size"`

	// className is the StorageClass. If unset, the cluster's default class is
	// used.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	ClassName string `json:"className,omitempty"`

	// whenDeleted says what becomes of the volume when the IMCluster is deleted:
	// Retain keeps it, and an IMCluster of the same name takes it over again;
	// Delete deletes it. Default Retain. No pods are replaced.
	// +optional
	// +kubebuilder:default=Retain
	WhenDeleted DeletionPolicy `json:"whenDeleted,omitempty"`
}

// RedisMode is how an external Redis is set up.
//
// +kubebuilder:validation:Enum=Standalone;Sentinel;Cluster
type RedisMode string

const (
	// RedisModeStandalone is a single endpoint, also that of a cloud service.
	RedisModeStandalone RedisMode = "Standalone"
	// RedisModeSentinel finds the master by asking Sentinels.
	RedisModeSentinel RedisMode = "Sentinel"
	// RedisModeCluster is a Redis Cluster.
	RedisModeCluster RedisMode = "Cluster"
)

// ExternalRedis is a Redis that you run. A change of any of its fields
// replaces gateway and presence pods one after the other. Its
// maxmemory-policy must be noeviction.
//
// +kubebuilder:validation:XValidation:rule="(self.mode == 'Sentinel') == has(self.masterName)",message="masterName is required with mode Sentinel and forbidden otherwise"
// +kubebuilder:validation:XValidation:rule="self.mode != 'Standalone' || self.addresses.size() == 1",message="mode Standalone takes exactly one address"
type ExternalRedis struct {
	// mode is Standalone, Sentinel or Cluster.
	// +required
	Mode RedisMode `json:"mode"`

	// addresses are host:port pairs: of the one Redis (Standalone), of the
	// Sentinels (Sentinel), or of some nodes of the cluster (Cluster).
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=3
	// +kubebuilder:validation:items:MaxLength=261
	// +kubebuilder:validation:items:XValidation:rule="self.matches('^[^[:space:],/]+:[0-9]{1,5}$')",message="must be host:port, for example redis:6379"
	Addresses []string `json:"addresses"`

	// masterName is the name under which the Sentinels know the master.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	MasterName string `json:"masterName,omitempty"`

	// keyPrefix is put before every key, so that several IMClusters can share a
	// Redis. Default none. Data under another prefix is not found again. Keys of
	// another IMCluster are refused, also of a deleted one that had the same
	// name; to take those over, delete the key "<keyPrefix>{gw}:owner" in Redis.
	// +optional
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9-]*$')",message="must hold only lower-case letters, digits and dashes"
	KeyPrefix string `json:"keyPrefix,omitempty"`

	// secretRef names a Secret with the password in "current" and optionally the
	// ACL user in "username". If unset, no password is sent. A new password in
	// the Secret replaces no pods.
	// +optional
	SecretRef *SecretReference `json:"secretRef,omitempty"`

	// tls turns on TLS. If unset, connections are not encrypted.
	// +optional
	TLS *RedisTLS `json:"tls,omitempty"`
}

// RedisTLS configures TLS to an external Redis. Write "tls: {}" for TLS with
// the system's authorities.
type RedisTLS struct {
	// caSecretRef names a Secret with the certificate of the authority to trust
	// in "ca.crt". If unset, the authorities of the data-plane image are
	// trusted.
	// +optional
	CASecretRef *SecretReference `json:"caSecretRef,omitempty"`
}
