package controllers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/util/csaupgrade"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/imcluster/imcluster/api/v1alpha1"
	"github.com/imcluster/imcluster/controllers/compose"
	"github.com/imcluster/imcluster/controllers/status"
)

// FieldManager owns every field that the operator applies, other than status.usage.
const FieldManager = "imcluster-controller"

// applyAll writes every object, each for itself: what fails does not keep the others from being written.
// It puts what the API server answered into seen, and returns what went wrong for the user to see and,
// joined, the errors that are worth another try.
func (r *Reconciler) applyAll(ctx context.Context, im *v1alpha1.IMCluster, want []compose.Object, seen observed) ([]status.Fault, error) {
	var faults []status.Fault
	var retry []error
	for _, object := range want {
		key := childKey{*object.GetKind(), *object.GetName()}
		err := r.apply(ctx, im, key, object, seen)
		if err == nil {
			continue
		}
		fault, again := faultOf(key, err)
		faults = append(faults, fault)
		if again {
			retry = append(retry, fmt.Errorf("apply %s %s: %w", key.kind, key.name, err))
		}
	}
	return faults, errors.Join(retry...)
}

// errForeign and errLeaving say why an object was not written.
var (
	errForeign = errors.New("belongs to somebody else")
	errLeaving = errors.New("is being deleted")
)

// faultOf turns an error into what the user is told, and says whether trying again at once, with backoff,
// may help.
func faultOf(key childKey, err error) (fault status.Fault, retry bool) {
	object := key.kind + " " + key.name
	switch {
	case errors.Is(err, errForeign):
		return status.NameConflict(object), false
	case errors.Is(err, errLeaving):
		return status.WaitingForDeletion(object), false
	case apierrors.IsInvalid(err):
		return status.Rejected(object, err), false
	default:
		return status.WriteFailed(object, err), true
	}
}

// apply writes one object if it differs from what was last applied.
//
// An object that the cache does not hold is written with Create, never with apply, because apply would
// silently take over a foreign object of that name, which the cache does not show.
func (r *Reconciler) apply(ctx context.Context, im *v1alpha1.IMCluster, key childKey, object compose.Object, seen observed) error {
	intent, err := toUnstructured(object)
	if err != nil {
		return err
	}
	have, ok := seen[key]
	if !ok {
		created, err := r.create(ctx, key, intent)
		if err != nil {
			return err
		}
		if created != nil {
			return seen.put(key, created)
		}
		if have, err = r.readLive(ctx, im, intent); err != nil {
			return err
		}
	}
	switch ownerOf(im, key.kind, have) {
	case leaving:
		return errLeaving
	case foreign:
		return errForeign
	}
	return r.applyTo(ctx, im, key, intent, have, seen)
}

// create writes a new object. It returns nil if there is one already.
func (r *Reconciler) create(ctx context.Context, key childKey, intent *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	object := intent.DeepCopy()
	err := r.client.Create(ctx, object, client.FieldOwner(FieldManager))
	if apierrors.IsAlreadyExists(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r.metrics.written(ctx, key.kind, "create")
	return object, nil
}

// readLive reads an object that exists although the cache does not hold it: it is foreign, or ours and
// either very new or stripped of its labels.
func (r *Reconciler) readLive(ctx context.Context, im *v1alpha1.IMCluster, intent *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	live := &unstructured.Unstructured{}
	live.SetGroupVersionKind(intent.GroupVersionKind())
	if err := r.live.Get(ctx, types.NamespacedName{Namespace: im.Namespace, Name: intent.GetName()}, live); err != nil {
		return nil, fmt.Errorf("read it: %w", err)
	}
	return live, nil
}

// applyTo applies the intent to an object of ours.
func (r *Reconciler) applyTo(ctx context.Context, im *v1alpha1.IMCluster, key childKey, intent *unstructured.Unstructured, have client.Object, seen observed) error {
	owner := client.ObjectKeyFromObject(im)
	intended, err := digestOf(intent.Object)
	if err != nil {
		return err
	}
	before, err := resultOf(have)
	if err != nil {
		return err
	}
	if last, ok := r.applied.last(owner, key); ok && last == (appliedState{intended, before}) {
		return nil
	}
	if err := r.takeOverCreated(ctx, im, intent, have); err != nil {
		return err
	}
	// With the UID the API server refuses to apply to any other object that has got the name meanwhile, and
	// to create it again if it is gone.
	intent.SetUID(have.GetUID())
	if err := r.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(intent),
		client.FieldOwner(FieldManager), client.ForceOwnership); err != nil {
		return err
	}
	r.metrics.written(ctx, key.kind, "apply")
	after, err := resultOf(intent) // holds the API server's answer now
	if err != nil {
		return err
	}
	r.applied.remember(owner, key, appliedState{intended, after})
	return seen.put(key, intent)
}

// takeOverCreated makes apply the owner of the fields that create wrote. Otherwise a field that is left
// out of a later intent would stay, because its creator still seems to want it.
func (r *Reconciler) takeOverCreated(ctx context.Context, im *v1alpha1.IMCluster, intent *unstructured.Unstructured, have client.Object) error {
	if !hasCreatedFields(have) {
		return nil
	}
	live, err := r.readLive(ctx, im, intent)
	if err != nil {
		return err
	}
	if live.GetUID() != have.GetUID() {
		return errLeaving // the next event shows the new object
	}
	patch, err := csaupgrade.UpgradeManagedFieldsPatch(live, sets.New(FieldManager), FieldManager)
	if err != nil || patch == nil {
		return err
	}
	if err := r.client.Patch(ctx, live, client.RawPatch(types.JSONPatchType, patch)); err != nil {
		return fmt.Errorf("take over created fields: %w", err)
	}
	return nil
}

func hasCreatedFields(object metav1.Object) bool {
	return slices.ContainsFunc(object.GetManagedFields(), isCreatedByUs)
}

func isCreatedByUs(entry metav1.ManagedFieldsEntry) bool {
	return entry.Manager == FieldManager && entry.Operation == metav1.ManagedFieldsOperationUpdate
}

// prune deletes the objects of ours that can come and go with the spec and are not wanted any more.
func (r *Reconciler) prune(ctx context.Context, im *v1alpha1.IMCluster, want []compose.Object, seen observed) error {
	wanted := map[childKey]bool{}
	for _, object := range want {
		wanted[childKey{*object.GetKind(), *object.GetName()}] = true
	}
	var errs []error
	for key, object := range seen {
		if wanted[key] || !prunedKinds[key.kind] || ownerOf(im, key.kind, object) != ours {
			continue
		}
		uid := object.GetUID()
		err := r.client.Delete(ctx, object, client.Preconditions{UID: &uid})
		if client.IgnoreNotFound(err) != nil {
			errs = append(errs, fmt.Errorf("delete %s %s: %w", key.kind, key.name, err))
			continue
		}
		r.metrics.written(ctx, key.kind, "delete")
	}
	return errors.Join(errs...)
}

// put keeps the API server's answer to a write, which is newer than the cache. Only Deployments are looked
// at again, to see whether their rollout is complete.
func (o observed) put(key childKey, answer *unstructured.Unstructured) error {
	if key.kind != "Deployment" {
		return nil
	}
	deployment := &appsv1.Deployment{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(answer.Object, deployment); err != nil {
		return fmt.Errorf("decode answer: %w", err)
	}
	o[key] = deployment
	return nil
}

func toUnstructured(object compose.Object) (*unstructured.Unstructured, error) {
	data, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	out := &unstructured.Unstructured{}
	if err := out.UnmarshalJSON(data); err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return out, nil
}
