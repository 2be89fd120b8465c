// Package fencing tells presence about gateways that are certainly dead, so that their users go offline
// within a second or two instead of after the lease.
//
// It acts on positive evidence alone, and in this order: presence is asked for the gateway incarnations
// first, then the API server, not a cache, for their pods. An incarnation is fenced if its pod is gone,
// has another UID, or its gateway container is not running. Epochs that were read before the pod cannot
// belong to a process that started after it, so neither a fast restart nor a stale watch, a second
// operator or a start of the operator leads to fencing a live gateway. Should Kubernetes report a container
// as stopped a moment longer than it is, the new incarnation in it may be fenced; it takes a new epoch and
// registers its sessions again.
//
// Readiness and deletion timestamps are no evidence: a gateway that drains is alive. A lost node is not
// known to be lost for a minute; its gateways are left to their leases.
package fencing

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/imcluster/imcluster/api/v1alpha1"
	"github.com/imcluster/imcluster/controllers/naming"
	"github.com/imcluster/imcluster/controllers/presenceapi"
	"github.com/imcluster/imcluster/presence/internalapi"
)

// A call that fails is tried again, soon at first: 7 times within 26 s. After that the lease has done the
// work, and the next event is the next occasion.
const (
	firstRetry = 200 * time.Millisecond
	maxRetries = 7
)

// Reconciler fences the dead gateways of one IMCluster at a time.
type Reconciler struct {
	// fixed after construction
	cached client.Reader
	live   client.Reader
	access *presenceapi.Access
	fenced metric.Int64Counter

	mu      sync.Mutex
	retries map[types.NamespacedName]int // in a row
	done    map[types.NamespacedName]map[string]sentence
}

// sentence is how an epoch was fenced that is still listed.
type sentence struct {
	banned bool
	// until is when the lease was to end. One that ends later was given anew, by a Redis that lost its data.
	until time.Time
}

// covers reports whether an epoch with a lease until end needs no other fencing.
func (s sentence) covers(end time.Time) bool { return !end.After(s.until.Add(time.Second)) }

// New returns a reconciler that looks at pods with cached to find suspects, and with live, which must
// read from the API server, to convict them.
func New(cached, live client.Reader, access *presenceapi.Access, meter metric.Meter) (*Reconciler, error) {
	fenced, err := meter.Int64Counter("imcluster.operator.fenced",
		metric.WithDescription("Gateway incarnations that were fenced because their pod or container is gone."))
	if err != nil {
		return nil, fmt.Errorf("create metric: %w", err)
	}
	return &Reconciler{cached: cached, live: live, access: access, fenced: fenced, retries: map[types.NamespacedName]int{}, done: map[types.NamespacedName]map[string]sentence{}}, nil
}

// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list;watch

// Setup registers the reconciler with a manager. Every IMCluster is looked at once when the manager
// becomes leader or sees it first, and then whenever one of its gateway containers stops or its pod goes.
func (r *Reconciler) Setup(mgr ctrl.Manager, workers int) error {
	onlyFirst := predicate.Funcs{
		UpdateFunc: func(event.UpdateEvent) bool { return false },
		DeleteFunc: func(event.DeleteEvent) bool { return false },
	}
	return ctrl.NewControllerManagedBy(mgr).
		Named("fencing").
		For(&v1alpha1.IMCluster{}, builder.WithPredicates(onlyFirst)).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(imclusterOf), builder.WithPredicates(gatewayStopped())).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers, EnableWarmup: new(true)}).
		Complete(r)
}

func imclusterOf(_ context.Context, pod client.Object) []reconcile.Request {
	name := pod.GetLabels()[naming.LabelInstance]
	if name == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: pod.GetNamespace(), Name: name}}}
}

// gatewayStopped passes events after which a gateway process may be dead: its pod is gone, or its
// container no longer runs or runs another process.
func gatewayStopped() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(event.CreateEvent) bool { return false },
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, ok1 := e.ObjectOld.(*corev1.Pod)
			after, ok2 := e.ObjectNew.(*corev1.Pod)
			if !ok1 || !ok2 {
				return false
			}
			return isGateway(after) && (before.UID != after.UID || (process(before) != "" && process(before) != process(after)))
		},
		DeleteFunc: func(e event.DeleteEvent) bool { return isGateway(e.Object) },
	}
}

func isGateway(pod client.Object) bool {
	return pod.GetLabels()[naming.LabelComponent] == string(naming.Gateway)
}

// process returns the ID of a pod's running gateway container, or nothing if it does not run.
func process(pod *corev1.Pod) string {
	for _, c := range pod.Status.ContainerStatuses {
		if c.Name == string(naming.Gateway) && c.State.Running != nil {
			return c.ContainerID
		}
	}
	return ""
}

// Reconcile fences what is dead of one IMCluster.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	im := &v1alpha1.IMCluster{}
	if err := r.cached.Get(ctx, request.NamespacedName, im); err != nil {
		r.remember(request.NamespacedName, nil)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if im.Status.Presence == nil || im.Status.Presence.ReadyReplicas == 0 {
		return ctrl.Result{}, nil // nobody to tell; presence will decide by the leases
	}
	err := r.fence(ctx, im)
	wait := r.retryAfter(request.NamespacedName, err)
	if err != nil {
		log.FromContext(ctx).Info("Looking for dead gateways failed", "error", err.Error(), "retryAfter", wait)
	}
	return ctrl.Result{RequeueAfter: wait}, nil
}

// retryAfter returns how long to wait after an attempt before the next one; 0 means that there is none.
func (r *Reconciler) retryAfter(im types.NamespacedName, err error) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.retries[im]
	if err == nil || n == maxRetries {
		delete(r.retries, im)
		return 0
	}
	r.retries[im] = n + 1
	return firstRetry << n
}

// fence asks for the incarnations, looks for their pods, and fences those that are dead, in this order.
func (r *Reconciler) fence(ctx context.Context, im *v1alpha1.IMCluster) error {
	var list *internalapi.IncarnationList
	err := r.access.Call(ctx, im, func(ctx context.Context, api *internalapi.Client) (err error) {
		list, err = api.Incarnations(ctx)
		return err
	})
	if err != nil {
		return err
	}
	name := client.ObjectKeyFromObject(im)
	dead, done, err := r.convict(ctx, name, list)
	if err != nil || len(dead.Epochs) == 0 {
		return err
	}
	err = r.access.Call(ctx, im, func(ctx context.Context, api *internalapi.Client) error {
		_, err := api.Fence(ctx, dead)
		return err
	})
	if err != nil {
		return err
	}
	if pods := r.firstFenced(name, list, dead.Epochs); len(pods) > 0 {
		r.fenced.Add(ctx, int64(len(pods)))
		log.FromContext(ctx).Info("Ended the leases of gateways that have stopped", "pods", pods)
	}
	r.remember(name, done)
	return nil
}

// firstFenced returns the pods of those epochs that were not fenced before. A gateway whose container stops
// before its pod goes is fenced twice, the second time with its pod's UID, which is no news.
func (r *Reconciler) firstFenced(im types.NamespacedName, list *internalapi.IncarnationList, epochs []string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var pods []string
	for _, incarnation := range list.Incarnations {
		_, before := r.done[im][incarnation.Epoch]
		if !before && slices.Contains(epochs, incarnation.Epoch) {
			pods = append(pods, incarnation.PodName)
		}
	}
	return pods
}

// remember keeps which epochs were fenced: they stay listed until their sessions were cleared away.
func (r *Reconciler) remember(im types.NamespacedName, done map[string]sentence) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(done) == 0 {
		delete(r.done, im)
	} else {
		r.done[im] = done
	}
}

// convict returns the incarnations that are certainly dead and were not fenced before, and everything that
// will have been fenced once those are.
func (r *Reconciler) convict(ctx context.Context, im types.NamespacedName, list *internalapi.IncarnationList) (dead internalapi.FenceRequest, done map[string]sentence, err error) {
	r.mu.Lock()
	before := r.done[im] // replaced, never changed
	r.mu.Unlock()
	done = map[string]sentence{}
	for _, incarnation := range list.Incarnations {
		end := list.AsOf.Add(time.Duration(incarnation.LeaseRemainingMs) * time.Millisecond)
		last, fenced := before[incarnation.Epoch]
		fenced = fenced && last.covers(end)
		if fenced {
			done[incarnation.Epoch] = last
		}
		if fenced && last.banned {
			continue
		}
		stopped, gone, err := r.judge(ctx, im.Namespace, incarnation)
		if err != nil {
			return dead, nil, err
		}
		if !stopped || fenced && !gone {
			continue
		}
		done[incarnation.Epoch] = sentence{banned: gone, until: end}
		dead.Epochs = append(dead.Epochs, incarnation.Epoch)
		if gone {
			// The process may still run on a node that has not heard of it, so it must not register again.
			dead.BanPodUIDs = append(dead.BanPodUIDs, incarnation.PodUID)
		}
	}
	return dead, done, nil
}

// judge reports whether an incarnation is certainly dead, and whether its pod is gone, too.
func (r *Reconciler) judge(ctx context.Context, namespace string, incarnation internalapi.Incarnation) (stopped, gone bool, err error) {
	key := client.ObjectKey{Namespace: namespace, Name: incarnation.PodName}
	suspect, err := r.suspect(ctx, key, incarnation)
	if err != nil || !suspect {
		return false, false, err
	}
	pod := &corev1.Pod{}
	err = r.live.Get(ctx, key, pod)
	if client.IgnoreNotFound(err) != nil {
		return false, false, fmt.Errorf("read pod %s: %w", key.Name, err)
	}
	gone = err != nil || string(pod.UID) != incarnation.PodUID
	return gone || process(pod) == "", gone, nil
}

// suspect reports whether the cache does not show the incarnation's pod running. A cache that is behind
// shows a dead one as running only until the event that says otherwise, which leads here again.
func (r *Reconciler) suspect(ctx context.Context, key client.ObjectKey, incarnation internalapi.Incarnation) (bool, error) {
	pod := &corev1.Pod{}
	err := r.cached.Get(ctx, key, pod)
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("read pod %s: %w", key.Name, err)
	}
	return string(pod.UID) != incarnation.PodUID || process(pod) == "", nil
}
