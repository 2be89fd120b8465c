package controllers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/imcluster/imcluster/api/v1alpha1"
	imv1ac "github.com/imcluster/imcluster/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/imcluster/imcluster/controllers/compose"
	"github.com/imcluster/imcluster/controllers/naming"
	"github.com/imcluster/imcluster/controllers/status"
)

const (
	// secretRecheck is after how long a missing Secret is looked for again: nothing tells the operator that
	// it was created.
	secretRecheck = 15 * time.Second
	// stalledRecheck is after how long something is tried again that the user may have healed outside of
	// the spec, such as by deleting an object that was in the way.
	stalledRecheck = time.Minute
	// idleRecheck is after how long an IMCluster is looked at without any reason: nothing tells the operator
	// either that a Secret was deleted. It costs a read of each Secret.
	idleRecheck = 5 * time.Minute
)

// Reconciler drives IMClusters towards their specs.
type Reconciler struct {
	// fixed after construction
	client   client.Client // reads from the cache
	live     client.Reader // reads from the API server
	recorder events.EventRecorder
	images   compose.Images
	now      func() time.Time
	metrics  *writeMetrics

	applied applied
	told    told
}

// The rights that reconciling needs, no more. Secrets are read and created by name, never listed.
//
// +kubebuilder:rbac:groups=imcluster.dev,resources=imclusters,verbs=get;list;watch
// +kubebuilder:rbac:groups=imcluster.dev,resources=imclusters/status,verbs=patch
// +kubebuilder:rbac:groups=imcluster.dev,resources=imclusters/finalizers,verbs=update
// +kubebuilder:rbac:groups=apps,resources=deployments,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups="",resources=services;serviceaccounts;configmaps;persistentvolumeclaims,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups=policy,resources=poddisruptionbudgets,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=networking.k8s.io,resources=ingresses,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;create
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// setup registers the reconciler with a manager.
func (r *Reconciler) setup(mgr ctrl.Manager, workers int) error {
	// Predicates are on IMClusters alone: those must not filter what happens to children.
	specOrAnnotations := predicate.Or(predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{})
	return ctrl.NewControllerManagedBy(mgr).
		Named("imcluster").
		For(&v1alpha1.IMCluster{}, builder.WithPredicates(specOrAnnotations)).
		Owns(&appsv1.Deployment{}).
		Owns(&corev1.Service{}).
		Owns(&corev1.ServiceAccount{}).
		Owns(&corev1.ConfigMap{}).
		Owns(&policyv1.PodDisruptionBudget{}).
		Owns(&networkingv1.Ingress{}).
		// A volume that is to be retained has no owner.
		Watches(&corev1.PersistentVolumeClaim{}, handler.EnqueueRequestsFromMapFunc(byInstanceLabel)).
		// Pods tell why a Deployment is not available.
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(byInstanceLabel), builder.WithPredicates(causeChanged())).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers, EnableWarmup: new(true)}).
		Complete(r)
}

// causeChanged passes events of pods that give another reason than before why they do not work. Pods that
// come, get ready and go are seen by their Deployment.
func causeChanged() predicate.Predicate {
	cause := func(object client.Object) string {
		pod, ok := object.(*corev1.Pod)
		if !ok {
			return ""
		}
		return status.Cause(pod)
	}
	return predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool { return cause(e.Object) != "" },
		UpdateFunc: func(e event.UpdateEvent) bool { return cause(e.ObjectOld) != cause(e.ObjectNew) },
		DeleteFunc: func(e event.DeleteEvent) bool { return cause(e.Object) != "" },
	}
}

// byInstanceLabel finds the IMCluster that an object belongs to by its label.
func byInstanceLabel(_ context.Context, object client.Object) []reconcile.Request {
	name := object.GetLabels()[naming.LabelInstance]
	if name == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: object.GetNamespace(), Name: name}}}
}

// Reconcile drives one IMCluster towards its spec. It reads once, decides in pure code, writes what
// differs, and always reports what it saw, also when a write failed.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	im := &v1alpha1.IMCluster{}
	if err := r.client.Get(ctx, request.NamespacedName, im); err != nil {
		r.applied.forget(request.NamespacedName)
		r.told.forget(request.NamespacedName)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !im.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil // owner references clean up
	}
	seen, err := r.observe(ctx, im)
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("observe: %w", err)
	}
	pods, err := r.pods(ctx, im)
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("observe: %w", err)
	}
	var faults []status.Fault
	var retry error
	if im.Spec.Suspend {
		faults = []status.Fault{status.Suspended()}
	} else {
		faults, retry = r.converge(ctx, im, seen)
	}
	in := status.Input{
		IMCluster: im,
		Images:    r.images,
		Gateway:   seen.deployment(im, naming.Gateway),
		Presence:  seen.deployment(im, naming.Presence),
		Redis:     seen.deployment(im, naming.Redis),
		Pods:      pods,
		Claim:     seen.claim(im),
		Faults:    faults,
		Now:       r.now(),
	}
	if err := errors.Join(retry, r.report(ctx, im, in)); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: recheck(faults)}, nil
}

// converge makes the cluster match the spec. It returns what the user has to know, and the errors that
// are worth another try.
func (r *Reconciler) converge(ctx context.Context, im *v1alpha1.IMCluster, seen observed) ([]status.Fault, error) {
	secrets, secretErr := r.ensureSecrets(ctx, im)
	want, err := compose.Objects(im, r.images, secrets.redisAuth)
	if spec := (*compose.SpecError)(nil); errors.As(err, &spec) {
		return []status.Fault{status.InvalidSpec(spec)}, secretErr // only a new spec helps, and wakes us
	}
	if err != nil {
		return nil, fmt.Errorf("compose: %w", err)
	}
	applyFaults, applyErr := r.applyAll(ctx, im, want, seen)
	pruneErr := r.prune(ctx, im, want, seen)
	return append(applyFaults, secrets.faults...), errors.Join(secretErr, applyErr, pruneErr)
}

// recheck returns when to look again at what nobody reports; 0 means never.
func recheck(faults []status.Fault) time.Duration {
	after := idleRecheck
	for _, f := range faults {
		switch f.Reason {
		case status.ReasonSuspended, status.ReasonInvalidSpec:
			return 0 // only a change of the spec helps, and wakes us
		case status.ReasonSecretMissing, status.ReasonSecretInvalid, status.ReasonWaitingForDeletion:
			after = min(after, secretRecheck)
		default:
			after = min(after, stalledRecheck)
		}
	}
	return after
}

// report writes the status if it says anything new, and then an event if that is worth one.
func (r *Reconciler) report(ctx context.Context, im *v1alpha1.IMCluster, in status.Input) error {
	next := status.Summarize(in)
	owner := client.ObjectKeyFromObject(im)
	key := childKey{kind: v1alpha1.Kind + "/status"}
	intended, err := digestOf(next)
	if err != nil {
		return err
	}
	// The cache may not yet show what was written last, so being equal to the cache alone is not enough.
	current := im.Status
	current.Usage, current.Hooks = nil, nil // others write them
	current.Conditions = slices.DeleteFunc(slices.Clone(current.Conditions),
		func(c metav1.Condition) bool { return c.Type == v1alpha1.ConditionHooksDelivering })
	written, any := r.applied.last(owner, key)
	if equality.Semantic.DeepEqual(current, next) && (!any || written.intent == intended) {
		return nil
	}
	ac, err := statusConfiguration(im, next)
	if err != nil {
		return err
	}
	if err := r.client.Status().Apply(ctx, ac, client.FieldOwner(FieldManager), client.ForceOwnership); err != nil {
		if client.IgnoreNotFound(err) == nil {
			return nil // deleted meanwhile
		}
		return fmt.Errorf("write status: %w", err)
	}
	r.metrics.written(ctx, v1alpha1.Kind+"/status", "apply")
	r.applied.remember(owner, key, appliedState{intent: intended})
	r.announce(im, next, status.Trouble(in))
	return nil
}

// statusConfiguration returns the apply configuration of a status: all that the operator says but usage and the delivery of hooks.
func statusConfiguration(im *v1alpha1.IMCluster, next v1alpha1.IMClusterStatus) (*imv1ac.IMClusterApplyConfiguration, error) {
	data, err := json.Marshal(next)
	if err != nil {
		return nil, fmt.Errorf("encode status: %w", err)
	}
	ac := imv1ac.IMClusterStatus()
	if err := json.Unmarshal(data, ac); err != nil {
		return nil, fmt.Errorf("encode status: %w", err)
	}
	return imv1ac.IMCluster(im.Name, im.Namespace).WithUID(im.UID).WithStatus(ac), nil
}
