package compose

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	"github.com/imcluster/imcluster/api/v1alpha1"
)

// What a spec means if it leaves a field out. The comments of the fields in package v1alpha1 name these
// values, and so do the validation rules; a test holds them together.
const (
	defaultMaxConnectionsPerPod   = 20000
	defaultDrainWindowSeconds     = 120
	defaultMaxReconnectsPerSecond = 200
	defaultGraceSeconds           = 10
	defaultLastSeenSeconds        = 604800
	defaultRedisMemory            = "256Mi"
)

// defaultReplicas is for objects that were stored without a value; the resource definition has the
// same default, because the scale subresource must show a number.
const defaultReplicas = 2

// GatewayReplicas returns how many gateway pods are wanted.
func GatewayReplicas(im *v1alpha1.IMCluster) int32 {
	return ptr.Deref(im.Spec.Gateway.Replicas, defaultReplicas)
}

// PresenceReplicas returns how many presence pods are wanted.
func PresenceReplicas(im *v1alpha1.IMCluster) int32 {
	return ptr.Deref(im.Spec.Presence.Replicas, defaultReplicas)
}

// drain returns the drain settings with nothing left out.
func drain(im *v1alpha1.IMCluster) (windowSeconds, maxReconnectsPerSecond int32) {
	d := ptr.Deref(im.Spec.Gateway.Drain, v1alpha1.Drain{})
	return ptr.Deref(d.WindowSeconds, defaultDrainWindowSeconds),
		ptr.Deref(d.MaxReconnectsPerSecond, defaultMaxReconnectsPerSecond)
}

// dataPlaneResources returns the resources of a gateway or presence container. What the user sets
// replaces the default as a whole: half of each would be neither's intention.
func dataPlaneResources(r *v1alpha1.Resources) v1alpha1.Resources {
	if r != nil {
		return *r
	}
	return v1alpha1.Resources{
		Requests: corev1.ResourceList{
			corev1.ResourceCPU:    resource.MustParse("100m"),
			corev1.ResourceMemory: resource.MustParse("128Mi"),
		},
		Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("512Mi")},
	}
}
