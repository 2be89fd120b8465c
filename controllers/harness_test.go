package controllers_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"go.opentelemetry.io/otel/metric/noop"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/imcluster/imcluster/api/v1alpha1"
	"github.com/imcluster/imcluster/controllers"
	"github.com/imcluster/imcluster/controllers/compose"
	"github.com/imcluster/imcluster/controllers/status"
	"github.com/imcluster/imcluster/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// operator is a running operator in a namespace of its own.
type operator struct {
	t         *testing.T
	client    client.Client // as an administrator; reads are not cached
	namespace string
	writes    *writeLog
}

// writeLog remembers the operator's requests that are not reads, and lets some of them fail.
type writeLog struct {
	next http.RoundTripper

	mu       sync.Mutex
	requests []string
	failing  string // requests to paths with this suffix meet a network error; empty: none
}

func (l *writeLog) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodGet {
		return l.next.RoundTrip(r)
	}
	l.mu.Lock()
	l.requests = append(l.requests, r.Method+" "+r.URL.Path)
	fail := l.failing != "" && strings.HasSuffix(r.URL.Path, l.failing)
	l.mu.Unlock()
	if fail {
		return nil, errors.New("connection reset by the test")
	}
	return l.next.RoundTrip(r)
}

// fail makes writes to paths with a suffix fail from now on.
func (l *writeLog) fail(suffix string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failing = suffix
}

func (l *writeLog) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.requests...)
}

// startOperator runs the operator as cmd/operator does, for one namespace, with the rights that the chart
// gives it there and no others, until the test ends.
func startOperator(t *testing.T, change ...func(*controllers.Config)) *operator {
	t.Helper()
	admin := testenv.Client(t)
	o := &operator{t: t, client: admin, namespace: testenv.Namespace(t, admin), writes: &writeLog{}}
	cfg := controllers.Config{
		Images:             compose.Images{DataPlane: "example.com/imcluster:v1", Redis: "example.com/redis:7.0"},
		WatchNamespaces:    []string{o.namespace},
		Workers:            2,
		Log:                testLog(t),
		Meter:              noop.Meter{},
		SkipNameValidation: true,
	}
	for _, f := range change {
		f(&cfg)
	}
	restConfig := testenv.Config(t)
	restConfig.Impersonate.UserName = o.grantRights()
	restConfig.Wrap(func(next http.RoundTripper) http.RoundTripper {
		o.writes.next = next
		return o.writes
	})
	mgr, err := controllers.NewManager(restConfig, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("operator: %v", err)
		}
	})
	return o
}

// testLog returns a logger that is silent after the test: client-go may still try to send events then.
func testLog(t *testing.T) logr.Logger {
	var mu sync.Mutex
	ended := false
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		ended = true
	})
	return funcr.New(func(prefix, args string) {
		mu.Lock()
		defer mu.Unlock()
		if !ended {
			t.Log(prefix, args)
		}
	}, funcr.Options{})
}

// grantRights gives a user of its own the operator's rights in the test's namespace, as the chart does with
// watchNamespaces, and returns its name.
func (o *operator) grantRights() string {
	o.t.Helper()
	data, err := os.ReadFile(filepath.Join(testenv.Root(), "charts", "imcluster", "files", "role.yaml"))
	if err != nil {
		o.t.Fatal(err)
	}
	var generated rbacv1.ClusterRole // the first document; the other is for electing a leader
	if err := yaml.Unmarshal(bytes.Split(data, []byte("\n---\n"))[0], &generated); err != nil {
		o.t.Fatal(err)
	}
	meta := metav1.ObjectMeta{Namespace: o.namespace, Name: "operator"}
	o.create(&rbacv1.Role{ObjectMeta: meta, Rules: generated.Rules})
	o.create(&rbacv1.RoleBinding{ObjectMeta: meta,
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: meta.Name},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "operator-" + o.namespace}},
	})
	return "operator-" + o.namespace
}

// imcluster returns the smallest IMCluster; change makes it another one.
func (o *operator) imcluster(name string, change ...func(*v1alpha1.IMCluster)) *v1alpha1.IMCluster {
	im := &v1alpha1.IMCluster{
		ObjectMeta: metav1.ObjectMeta{Namespace: o.namespace, Name: name},
		Spec: v1alpha1.IMClusterSpec{
			Auth:  v1alpha1.Auth{Mode: v1alpha1.AuthModeInsecure},
			Redis: v1alpha1.Redis{Managed: &v1alpha1.ManagedRedis{}},
		},
	}
	for _, f := range change {
		f(im)
	}
	return im
}

func (o *operator) create(object client.Object) {
	o.t.Helper()
	if err := o.client.Create(o.t.Context(), object); err != nil {
		o.t.Fatal(err)
	}
}

// update changes an object as a user would, without regard to who else does.
func update[T client.Object](o *operator, object T, change func(T)) {
	o.t.Helper()
	base := object.DeepCopyObject().(client.Object)
	change(object)
	if err := o.client.Patch(o.t.Context(), object, client.MergeFrom(base)); err != nil {
		o.t.Fatal(err)
	}
}

// get reads an object by name; it must exist.
func get[T client.Object](o *operator, name string, into T) T {
	o.t.Helper()
	if err := o.client.Get(o.t.Context(), client.ObjectKey{Namespace: o.namespace, Name: name}, into); err != nil {
		o.t.Fatal(err)
	}
	return into
}

// eventually polls until ok returns true, and fails with what it last returned as reason.
func (o *operator) eventually(what string, ok func() (bool, string)) {
	o.t.Helper()
	var reason string
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	for {
		var done bool
		if done, reason = ok(); done {
			return
		}
		select {
		case <-deadline.C:
			o.t.Fatalf("%s: not after 30 s: %s", what, reason)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// exists waits until an object is there and matches.
func exists[T client.Object](o *operator, name string, into T, match func(T) bool) T {
	o.t.Helper()
	o.eventually(name, func() (bool, string) {
		err := o.client.Get(o.t.Context(), client.ObjectKey{Namespace: o.namespace, Name: name}, into)
		if err != nil {
			return false, err.Error()
		}
		return match == nil || match(into), "it does not match"
	})
	return into
}

// condition waits until an IMCluster has a condition with a reason, and returns it.
func (o *operator) condition(name, kind, reason string) metav1.Condition {
	o.t.Helper()
	var found metav1.Condition
	o.eventually(kind+"="+reason, func() (bool, string) {
		im := get(o, name, &v1alpha1.IMCluster{})
		found = status.Find(im.Status.Conditions, kind)
		return found.Reason == reason && im.Status.ObservedGeneration == im.Generation, found.Reason + ": " + found.Message
	})
	return found
}

// settled waits until the operator has written nothing for a second.
func (o *operator) settled() {
	o.t.Helper()
	last, since := -1, time.Now()
	o.eventually("no more writes", func() (bool, string) {
		if n := len(o.writes.all()); n != last {
			last, since = n, time.Now()
		}
		return time.Since(since) > time.Second, "still writing"
	})
}

// roll does the work of the Deployment controller and the kubelets: all pods of all Deployments of an
// IMCluster become ready.
func (o *operator) roll(name string) {
	o.t.Helper()
	for _, component := range []string{"redis", "presence", "gateway"} {
		d := exists(o, name+"-"+component, &appsv1.Deployment{}, nil)
		n := *d.Spec.Replicas
		d.Status = appsv1.DeploymentStatus{
			ObservedGeneration: d.Generation, Replicas: n, UpdatedReplicas: n, ReadyReplicas: n, AvailableReplicas: n,
			Conditions: []appsv1.DeploymentCondition{{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue}},
		}
		if err := o.client.Status().Update(o.t.Context(), d); err != nil {
			o.t.Fatal(err)
		}
	}
}
