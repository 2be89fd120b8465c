package controllers

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

type digest [sha256.Size]byte

// applied remembers what was last applied to each object, so that a reconciliation that would change
// nothing writes nothing. A no-op apply is not stored by the API server, but it is a request, an audit
// entry, and work for admission webhooks. What is forgotten, for example by a restart, costs one such apply.
type applied struct {
	mu      sync.Mutex
	objects map[types.NamespacedName]map[childKey]appliedState // by IMCluster
}

// appliedState is an intent and the object that it resulted in.
type appliedState struct{ intent, result digest }

// last returns what was last applied to an object, if that is remembered.
func (a *applied) last(im types.NamespacedName, key childKey) (appliedState, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	state, ok := a.objects[im][key]
	return state, ok
}

func (a *applied) remember(im types.NamespacedName, key childKey, now appliedState) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.objects == nil {
		a.objects = map[types.NamespacedName]map[childKey]appliedState{}
	}
	if a.objects[im] == nil {
		a.objects[im] = map[childKey]appliedState{}
	}
	a.objects[im][key] = now
}

func (a *applied) forget(im types.NamespacedName) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.objects, im)
}

// digestOf hashes anything that encodes to JSON; Go's encoder sorts the keys of maps.
func digestOf(v any) (digest, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return digest{}, fmt.Errorf("hash: %w", err)
	}
	return sha256.Sum256(data), nil
}

// resultOf hashes what of an object the operator may want to repair. The generation stands for the spec,
// and leaves out the status, which changes with every pod; objects without a generation have no status that
// changes often, and their resourceVersion stands for everything.
func resultOf(object metav1.Object) (digest, error) {
	version := fmt.Sprint("generation ", object.GetGeneration())
	if object.GetGeneration() == 0 {
		version = "resourceVersion " + object.GetResourceVersion()
	}
	return digestOf([]any{object.GetUID(), version, object.GetLabels(), object.GetAnnotations(), object.GetOwnerReferences()})
}
