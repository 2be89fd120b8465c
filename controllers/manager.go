package controllers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel/metric"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/imcluster/imcluster/api/v1alpha1"
	"github.com/imcluster/imcluster/controllers/compose"
	"github.com/imcluster/imcluster/controllers/fencing"
	"github.com/imcluster/imcluster/controllers/naming"
	"github.com/imcluster/imcluster/controllers/presenceapi"
	"github.com/imcluster/imcluster/controllers/usage"
)

// leaderElectionID names the Lease by which operators agree who of them works.
const leaderElectionID = "imcluster-operator"

// Config says how the operator runs.
type Config struct {
	// Images are used where a spec names none. Required.
	Images compose.Images
	// WatchNamespaces are where IMClusters are looked after. Empty means everywhere.
	WatchNamespaces []string
	// LeaderElect makes several operators agree on one that works. Without it there must be only one.
	LeaderElect bool
	// LeaderElectionNamespace is where the Lease is. Empty means the namespace of the operator's own pod.
	LeaderElectionNamespace string
	// MetricsListen and HealthListen are host:port addresses; "0" turns the endpoint off, and so does
	// leaving it empty.
	MetricsListen, HealthListen string
	// Workers is how many IMClusters are reconciled at the same time. 0 means 1.
	Workers int
	// Log is where log lines go. The zero value discards them.
	Log logr.Logger
	// Meter makes the operator's own metrics. Required.
	Meter metric.Meter
	// PresenceURL returns the base URL of an IMCluster's internal presence API. Nil means its Service.
	PresenceURL func(*v1alpha1.IMCluster) string
	// SkipNameValidation lets a process have several operators, for tests.
	SkipNameValidation bool
}

// The rights to agree on a leader are in a Role of the operator's own namespace.
//
// +kubebuilder:rbac:groups=coordination.k8s.io,resources=leases,namespace=operator,verbs=get;create;update
// +kubebuilder:rbac:groups="",resources=events,namespace=operator,verbs=create;patch

// NewManager returns the operator, ready to start.
func NewManager(restConfig *rest.Config, cfg Config) (ctrl.Manager, error) {
	if cfg.Images.DataPlane == "" || cfg.Images.Redis == "" {
		return nil, errors.New("the data-plane image and the Redis image must be set")
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("build scheme: %w", err)
		}
	}
	mgr, err := ctrl.NewManager(restConfig, ctrl.Options{
		Scheme:                        scheme,
		Logger:                        cfg.Log,
		Cache:                         cacheOptions(cfg.WatchNamespaces),
		Client:                        client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}}}},
		Metrics:                       metricsserver.Options{BindAddress: orOff(cfg.MetricsListen)},
		HealthProbeBindAddress:        orOff(cfg.HealthListen),
		LeaderElection:                cfg.LeaderElect,
		LeaderElectionID:              leaderElectionID,
		LeaderElectionNamespace:       cfg.LeaderElectionNamespace,
		LeaderElectionReleaseOnCancel: true,
		Controller:                    config.Controller{SkipNameValidation: &cfg.SkipNameValidation},
	})
	if err != nil {
		return nil, fmt.Errorf("create manager: %w", err)
	}
	if err := register(mgr, cfg); err != nil {
		return nil, err
	}
	return mgr, nil
}

func orOff(address string) string {
	if address == "" {
		return "0"
	}
	return address
}

// register adds the controllers and the health checks to a manager.
func register(mgr ctrl.Manager, cfg Config) error {
	writes, err := newWriteMetrics(cfg.Meter)
	if err != nil {
		return err
	}
	if err := exportConditions(cfg.Meter, mgr.GetClient()); err != nil {
		return err
	}
	reconciler := &Reconciler{
		client:   mgr.GetClient(),
		live:     mgr.GetAPIReader(),
		recorder: mgr.GetEventRecorder("imcluster.dev/operator"),
		images:   cfg.Images,
		now:      time.Now,
		metrics:  writes,
	}
	if err := reconciler.setup(mgr, cfg.Workers); err != nil {
		return fmt.Errorf("set up the IMCluster controller: %w", err)
	}
	access := presenceapi.New(presenceapi.Config{Secrets: mgr.GetAPIReader(), BaseURL: cfg.PresenceURL})
	fence, err := fencing.New(mgr.GetClient(), mgr.GetAPIReader(), access, cfg.Meter)
	if err != nil {
		return err
	}
	if err := fence.Setup(mgr, cfg.Workers); err != nil {
		return fmt.Errorf("set up the fencing controller: %w", err)
	}
	collector, err := usage.New(mgr.GetClient(), access, reconciler.recorder, mgr.GetLogger().WithName("usage"), cfg.Meter)
	if err != nil {
		return err
	}
	closeConnections := manager.RunnableFunc(func(ctx context.Context) error {
		<-ctx.Done()
		access.Close()
		return nil
	})
	return errors.Join(
		mgr.Add(collector),
		mgr.Add(closeConnections),
		mgr.AddHealthzCheck("ping", healthz.Ping),
		mgr.AddReadyzCheck("ping", healthz.Ping))
}

// cacheOptions keeps in memory only what the operator made, and of pods only how they are.
func cacheOptions(namespaces []string) cache.Options {
	made := labels.SelectorFromSet(labels.Set{naming.LabelManagedBy: naming.ManagedBy})
	options := cache.Options{
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Pod{}: {Label: made, Transform: onlyPodState},
		},
	}
	for _, kind := range childKinds {
		options.ByObject[kind.empty()] = cache.ByObject{Label: made, Transform: onlyCreatedFields}
	}
	if len(namespaces) > 0 {
		options.DefaultNamespaces = map[string]cache.Config{}
		for _, namespace := range namespaces {
			options.DefaultNamespaces[namespace] = cache.Config{}
		}
	}
	return options
}

// onlyPodState strips pods to what fencing and the conditions of an IMCluster are decided by.
func onlyPodState(object any) (any, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil // a tombstone
	}
	pod.ManagedFields = nil
	pod.Annotations = nil
	pod.Spec = corev1.PodSpec{}
	pod.Status = corev1.PodStatus{
		Phase:             pod.Status.Phase,
		Conditions:        pod.Status.Conditions,
		ContainerStatuses: pod.Status.ContainerStatuses,
	}
	return pod, nil
}

// onlyCreatedFields drops of managedFields, often the larger part of an object, what nobody looks at.
func onlyCreatedFields(object any) (any, error) {
	accessor, ok := object.(metav1.Object)
	if !ok {
		return object, nil // a tombstone
	}
	var kept []metav1.ManagedFieldsEntry
	for _, entry := range accessor.GetManagedFields() {
		if isCreatedByUs(entry) && entry.Subresource == "" {
			kept = append(kept, metav1.ManagedFieldsEntry{Manager: entry.Manager, Operation: entry.Operation})
		}
	}
	accessor.SetManagedFields(kept)
	if d, ok := object.(*appsv1.Deployment); ok {
		d.Spec.Template = corev1.PodTemplateSpec{}
	}
	return object, nil
}
