// Package naming is the only place that names what belongs to an IMCluster: its Kubernetes objects,
// their labels, the keys of its Secrets, and where its parts listen.
package naming

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Component is a part of an IMCluster that runs in pods of its own. The container in a pod has the
// component's name.
type Component string

// The components.
const (
	Gateway  Component = "gateway"
	Presence Component = "presence"
	Redis    Component = "redis"
)

// Ports of the pods, each also the name of its port.
const (
	PortWebSocket = 8080 // gateway: "ws"
	PortPeer      = 9091 // gateway: "peer"
	PortHTTP      = 8080 // presence: "http"
	PortGRPC      = 9090 // presence: "grpc"
	PortInternal  = 8082 // presence: "internal"
	PortOps       = 8081 // gateway and presence: "ops"
	PortRedis     = 6379 // "redis"
	PortService   = 80   // of the Services in front of gateway ("ws") and presence ("http")
)

// Keys of Secrets. They are the same in Secrets that the operator makes and in those of users.
const (
	KeyCurrent  = "current"   // the value in use
	KeyUsersACL = "users.acl" // the ACL file of a managed Redis
	KeyCA       = "ca.crt"    // certificate authority of an external Redis
)

// Label keys.
const (
	LabelName      = "app.kubernetes.io/name"
	LabelInstance  = "app.kubernetes.io/instance"
	LabelComponent = "app.kubernetes.io/component"
	LabelPartOf    = "app.kubernetes.io/part-of"
	LabelManagedBy = "app.kubernetes.io/managed-by"
)

// Label values that are the same everywhere.
const (
	AppName   = "imcluster"
	ManagedBy = "imcluster-operator"
)

// AnnotationConfigHash is put on pod templates whose pods read configuration only when they start.
const AnnotationConfigHash = "imcluster.dev/config-hash"

// AnnotationAuthUID is the UID of the Secret with the users of a managed Redis, on its pod template.
const AnnotationAuthUID = "imcluster.dev/auth-uid"

// Object returns the name of the objects of a component: Deployment, Service, ServiceAccount,
// PodDisruptionBudget, and where they exist Ingress, ConfigMap and PersistentVolumeClaim.
func Object(imcluster string, c Component) string { return imcluster + "-" + string(c) }

// APIKeySecret returns the name of the Secret with the generated API key of presence.
func APIKeySecret(imcluster string) string { return imcluster + "-api-key" }

// PeerKeySecret returns the name of the Secret with the key that the pods of an IMCluster share.
func PeerKeySecret(imcluster string) string { return imcluster + "-peer-key" }

// RedisAuthSecret returns the name of the Secret with the password of a managed Redis.
func RedisAuthSecret(imcluster string) string { return imcluster + "-redis-auth" }

// Selector returns the labels that select the pods of a component. They can never change.
func Selector(imcluster string, c Component) map[string]string {
	return map[string]string{LabelName: AppName, LabelInstance: imcluster, LabelComponent: string(c)}
}

// Labels returns the labels of everything that belongs to a component.
func Labels(imcluster string, c Component) map[string]string {
	labels := Selector(imcluster, c)
	labels[LabelPartOf] = AppName
	labels[LabelManagedBy] = ManagedBy
	return labels
}

// SelectorString returns the selector of a component's pods as the scale subresource shows it.
func SelectorString(imcluster string, c Component) string {
	selector := Selector(imcluster, c)
	parts := make([]string, 0, len(selector))
	for _, key := range slices.Sorted(maps.Keys(selector)) {
		parts = append(parts, key+"="+selector[key])
	}
	return strings.Join(parts, ",")
}

// PresenceGRPC returns the name of the headless Service that leads gRPC clients to all presence pods.
func PresenceGRPC(imcluster string) string { return Object(imcluster, Presence) + "-grpc" }

// PresenceTarget returns what gRPC clients dial to reach all presence pods.
func PresenceTarget(namespace, imcluster string) string {
	return fmt.Sprintf("dns:///%s.%s.svc:%d", PresenceGRPC(imcluster), namespace, PortGRPC)
}

// InternalURL returns the base URL of presence's internal API.
func InternalURL(namespace, imcluster string) string {
	return fmt.Sprintf("http://%s.%s.svc:%d", Object(imcluster, Presence), namespace, PortInternal)
}
