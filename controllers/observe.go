package controllers

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/imcluster/imcluster/api/v1alpha1"
	"github.com/imcluster/imcluster/controllers/naming"
)

// observed is what exists of an IMCluster's children. Absent ones are not in the map.
type observed map[childKey]client.Object

// observe reads all children from the cache. The cache holds only objects with the operator's label, so
// absence means that there is no such object that the operator made; there may be a foreign one.
func (r *Reconciler) observe(ctx context.Context, im *v1alpha1.IMCluster) (observed, error) {
	seen := observed{}
	for _, kind := range childKinds {
		for _, nameOf := range kind.names {
			object, name := kind.empty(), nameOf(im.Name)
			err := r.client.Get(ctx, client.ObjectKey{Namespace: im.Namespace, Name: name}, object)
			if apierrors.IsNotFound(err) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("read %s %s: %w", kind.kind, name, err)
			}
			seen[childKey{kind.kind, name}] = object
		}
	}
	return seen, nil
}

// pods reads the pods of all components from the cache, which shows of them only how they are.
func (r *Reconciler) pods(ctx context.Context, im *v1alpha1.IMCluster) ([]corev1.Pod, error) {
	var list corev1.PodList
	if err := r.client.List(ctx, &list, client.InNamespace(im.Namespace),
		client.MatchingLabels{naming.LabelInstance: im.Name, naming.LabelName: naming.AppName}); err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	return list.Items, nil
}

// claim returns the claim of the managed Redis, or nil if there is none that is ours.
func (o observed) claim(im *v1alpha1.IMCluster) *corev1.PersistentVolumeClaim {
	const kind = "PersistentVolumeClaim"
	c, ok := o[childKey{kind, naming.Object(im.Name, naming.Redis)}].(*corev1.PersistentVolumeClaim)
	if !ok || ownerOf(im, kind, c) != ours {
		return nil
	}
	return c
}

// deployment returns a component's Deployment, or nil if there is none that is ours.
func (o observed) deployment(im *v1alpha1.IMCluster, c naming.Component) *appsv1.Deployment {
	d, ok := o[childKey{"Deployment", naming.Object(im.Name, c)}].(*appsv1.Deployment)
	if !ok || ownerOf(im, "Deployment", d) != ours {
		return nil
	}
	return d
}
