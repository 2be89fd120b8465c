package controllers

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/imcluster/imcluster/api/v1alpha1"
	"github.com/imcluster/imcluster/controllers/naming"
)

// childKind is a kind of objects that an IMCluster can have, with what they can be called.
type childKind struct {
	kind  string
	empty func() client.Object
	names []func(imcluster string) string
}

// of returns the names of objects of which each component has one.
func of(components ...naming.Component) []func(imcluster string) string {
	names := make([]func(string) string, len(components))
	for i, component := range components {
		names[i] = func(imcluster string) string { return naming.Object(imcluster, component) }
	}
	return names
}

// childKinds are all kinds of children but Secrets. Since names are fixed, this is also the
// list of all children that can exist: nothing ever has to be searched for.
var childKinds = []childKind{
	{"Deployment", func() client.Object { return &appsv1.Deployment{} }, of(naming.Redis, naming.Presence, naming.Gateway)},
	{"Service", func() client.Object { return &corev1.Service{} },
		append(of(naming.Redis, naming.Presence, naming.Gateway), naming.PresenceGRPC)},
	{"ServiceAccount", func() client.Object { return &corev1.ServiceAccount{} }, of(naming.Redis, naming.Presence, naming.Gateway)},
	{"PodDisruptionBudget", func() client.Object { return &policyv1.PodDisruptionBudget{} }, of(naming.Presence, naming.Gateway)},
	{"Ingress", func() client.Object { return &networkingv1.Ingress{} }, of(naming.Gateway)},
	{"ConfigMap", func() client.Object { return &corev1.ConfigMap{} }, of(naming.Redis)},
	{"PersistentVolumeClaim", func() client.Object { return &corev1.PersistentVolumeClaim{} }, of(naming.Redis)},
}

// prunedKinds are deleted when the spec no longer asks for them. The others stay for as long as the
// IMCluster does: a volume, say, must not vanish because of an edit.
var prunedKinds = map[string]bool{"Ingress": true, "PodDisruptionBudget": true}

// childKey identifies a child within its IMCluster.
type childKey struct{ kind, name string }

// ownership says whose an existing object is.
type ownership int

const (
	// ours may be changed.
	ours ownership = iota
	// leaving is being deleted, or belonged to a deleted IMCluster of the same name and will be.
	leaving
	// foreign belongs to somebody else, and is never touched.
	foreign
)

// ownerOf decides whose an object is that has the name of a child. Only a controller reference with the
// UID of the IMCluster makes it ours. A volume that was kept when its IMCluster was deleted has none;
// it is taken over by its labels.
func ownerOf(im *v1alpha1.IMCluster, kind string, object metav1.Object) ownership {
	controller := metav1.GetControllerOf(object)
	switch {
	case object.GetDeletionTimestamp() != nil:
		return leaving
	case controller == nil:
		if kind == "PersistentVolumeClaim" && hasLabels(object, naming.Labels(im.Name, naming.Redis)) {
			return ours
		}
		return foreign
	case controller.UID == im.UID:
		return ours
	case controller.Kind == v1alpha1.Kind && controller.Name == im.Name &&
		controller.APIVersion == v1alpha1.SchemeGroupVersion.String():
		return leaving
	default:
		return foreign
	}
}

func hasLabels(object metav1.Object, want map[string]string) bool {
	have := object.GetLabels()
	for key, value := range want {
		if have[key] != value {
			return false
		}
	}
	return true
}
