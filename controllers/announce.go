package controllers

import (
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/imcluster/imcluster/api/v1alpha1"
	"github.com/imcluster/imcluster/controllers/status"
)

// told remembers what was last written into each status. The cache is behind for a moment, and comparing
// with it would tell the same news twice.
type told struct {
	mu   sync.Mutex
	last map[types.NamespacedName]news
}

// news is what events are made of.
type news struct {
	uid        types.UID
	generation int64
	status     metav1.ConditionStatus // of Ready
	reason     string                 // of Ready
	working    bool
	trouble    string // of components
}

func newsOf(im *v1alpha1.IMCluster, s v1alpha1.IMClusterStatus, trouble string) news {
	ready := status.Find(s.Conditions, v1alpha1.ConditionReady)
	return news{
		uid: im.UID, generation: s.ObservedGeneration, status: ready.Status, reason: ready.Reason,
		working: status.Find(s.Conditions, v1alpha1.ConditionReconciling).Type != "",
		trouble: trouble,
	}
}

// replace remembers now and returns what was known before: of an IMCluster that is new to this process,
// what its status says.
func (t *told) replace(im *v1alpha1.IMCluster, now news) news {
	t.mu.Lock()
	defer t.mu.Unlock()
	name := client.ObjectKeyFromObject(im)
	before, ok := t.last[name]
	if !ok || before.uid != im.UID {
		before = newsOf(im, im.Status, "")
	}
	if t.last == nil {
		t.last = map[types.NamespacedName]news{}
	}
	t.last[name] = now
	return before
}

func (t *told) forget(im types.NamespacedName) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.last, im)
}

// announce makes an event of a change of readiness, and of trouble that is new. The steps of a rollout that
// goes on are not worth one.
func (r *Reconciler) announce(im *v1alpha1.IMCluster, next v1alpha1.IMClusterStatus, trouble string) {
	now := newsOf(im, next, trouble)
	kind := eventType(r.told.replace(im, now), now)
	if kind != "" {
		r.recorder.Eventf(im, nil, kind, now.reason, "Reconcile", "%s", status.Find(next.Conditions, v1alpha1.ConditionReady).Message)
	}
}

// eventType returns the type of event that a change is worth, or nothing.
func eventType(before, now news) string {
	troubled := now.status != metav1.ConditionTrue && now.trouble != "" && now.trouble != before.trouble
	same := before.status == now.status && (before.reason == now.reason || before.working && now.working)
	// What a change of the spec or a rollout takes away for a while is as it should be.
	lost := before.status == metav1.ConditionTrue && now.status != metav1.ConditionTrue &&
		now.reason != status.ReasonRollingOut && before.generation == now.generation
	stopped := now.status != metav1.ConditionTrue && !now.working && now.reason != status.ReasonSuspended
	switch {
	case same && !troubled:
		return ""
	case troubled, lost, stopped:
		return corev1.EventTypeWarning
	default:
		return corev1.EventTypeNormal
	}
}
