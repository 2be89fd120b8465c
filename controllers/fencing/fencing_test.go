package fencing_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/metric/noop"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/imcluster/imcluster/api/v1alpha1"
	"github.com/imcluster/imcluster/controllers/fencing"
	"github.com/imcluster/imcluster/controllers/presenceapi"
	"github.com/imcluster/imcluster/presence/internalapi"
)

// pod returns a gateway pod of which the container runs or not.
func pod(name, uid string, running bool) *corev1.Pod {
	state := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 137}}
	if running {
		state = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(uid)},
		Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{
			{Name: "gateway", ContainerID: "containerd://" + uid, State: state},
		}},
	}
}

// notReady is a pod that drains on a node that may be lost: no evidence of death.
func notReady(p *corev1.Pod) *corev1.Pod {
	p.DeletionTimestamp, p.Finalizers = new(metav1.Now()), []string{"test/keep"}
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse}}
	return p
}

func incarnation(epoch, pod, uid string) internalapi.Incarnation {
	return internalapi.Incarnation{Epoch: epoch, PodName: pod, PodUID: uid, State: internalapi.StateActive}
}

// fence reconciles a number of times and returns, in order, what was asked of presence and of the API server.
func fence(t *testing.T, times int, incarnations []internalapi.Incarnation, cached, live []client.Object) []string {
	t.Helper()
	var steps []string
	presence := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == internalapi.IncarnationsPath {
			steps = append(steps, "list incarnations")
			_ = json.NewEncoder(w).Encode(internalapi.IncarnationList{Incarnations: incarnations})
			return
		}
		var request map[string][]string
		_ = json.NewDecoder(r.Body).Decode(&request)
		text, _ := json.Marshal(request)
		steps = append(steps, "fence "+string(text))
		_, _ = w.Write([]byte("{}"))
	}))
	defer presence.Close()

	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	im := &v1alpha1.IMCluster{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "chat", UID: "im"},
		Status:     v1alpha1.IMClusterStatus{Presence: &v1alpha1.PresenceStatus{ReadyReplicas: 1}},
	}
	key := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "chat-peer-key"}}
	apiServer := fake.NewClientBuilder().WithScheme(scheme).WithObjects(append(live, key)...).WithInterceptorFuncs(interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			if _, ok := obj.(*corev1.Pod); ok {
				steps = append(steps, "get pod "+key.Name)
			}
			return c.Get(ctx, key, obj, opts...)
		},
	}).Build()
	cache := fake.NewClientBuilder().WithScheme(scheme).WithObjects(append(cached, im)...).Build()
	access := presenceapi.New(presenceapi.Config{Secrets: apiServer, BaseURL: func(*v1alpha1.IMCluster) string { return presence.URL }})
	defer access.Close()
	r, err := fencing.New(cache, apiServer, access, noop.Meter{})
	if err != nil {
		t.Fatal(err)
	}
	for range times {
		result, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(im)})
		if err != nil || result.RequeueAfter != 0 {
			t.Errorf("result %+v, %v", result, err)
		}
	}
	return steps
}

func TestOnlyCertainDeathsAreFenced(t *testing.T) {
	for _, tc := range []struct {
		name         string
		incarnations []internalapi.Incarnation
		cached, live []client.Object
		want         []string
	}{
		{"running", []internalapi.Incarnation{incarnation("e1", "gw-a", "a")},
			[]client.Object{pod("gw-a", "a", true)}, []client.Object{pod("gw-a", "a", true)},
			[]string{"list incarnations"}},
		{"draining and not ready", []internalapi.Incarnation{incarnation("e1", "gw-a", "a")},
			[]client.Object{notReady(pod("gw-a", "a", true))}, []client.Object{notReady(pod("gw-a", "a", true))},
			[]string{"list incarnations"}},
		{"container crashed", []internalapi.Incarnation{incarnation("e1", "gw-a", "a"), incarnation("e2", "gw-b", "b")},
			[]client.Object{pod("gw-a", "a", false), pod("gw-b", "b", true)},
			[]client.Object{pod("gw-a", "a", false), pod("gw-b", "b", true)},
			[]string{"list incarnations", "get pod gw-a", `fence {"banPodUIDs":null,"epochs":["e1"]}`}},
		{"pod gone", []internalapi.Incarnation{incarnation("e1", "gw-a", "a")}, nil, nil,
			[]string{"list incarnations", "get pod gw-a", `fence {"banPodUIDs":["a"],"epochs":["e1"]}`}},
		{"pod replaced under the same name", []internalapi.Incarnation{incarnation("e1", "gw-a", "a")},
			nil, []client.Object{pod("gw-a", "another", true)},
			[]string{"list incarnations", "get pod gw-a", `fence {"banPodUIDs":["a"],"epochs":["e1"]}`}},
		{"not in the cache, but running", []internalapi.Incarnation{incarnation("e1", "gw-a", "a")},
			nil, []client.Object{pod("gw-a", "a", true)},
			[]string{"list incarnations", "get pod gw-a"}},
		{"crashed in the cache, but running again", []internalapi.Incarnation{incarnation("e1", "gw-a", "a")},
			[]client.Object{pod("gw-a", "a", false)}, []client.Object{pod("gw-a", "a", true)},
			[]string{"list incarnations", "get pod gw-a"}},
		{"two dead at once", []internalapi.Incarnation{incarnation("e1", "gw-a", "a"), incarnation("e2", "gw-b", "b")},
			[]client.Object{pod("gw-b", "b", false)}, []client.Object{pod("gw-b", "b", false)},
			[]string{"list incarnations", "get pod gw-a", "get pod gw-b", `fence {"banPodUIDs":["a"],"epochs":["e1","e2"]}`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, fence(t, 1, tc.incarnations, tc.cached, tc.live)); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
		})
	}
}

// The dead stay listed for a while, and pods come and go meanwhile.
func TestTheDeadAreFencedOnce(t *testing.T) {
	incarnations := []internalapi.Incarnation{incarnation("e1", "gw-a", "a"), incarnation("e2", "gw-b", "b")}
	crashed := []client.Object{pod("gw-b", "b", false)}
	want := []string{
		"list incarnations", "get pod gw-a", "get pod gw-b", `fence {"banPodUIDs":["a"],"epochs":["e1","e2"]}`,
		"list incarnations", "get pod gw-b", // to see whether the pod is gone by now
	}
	if diff := cmp.Diff(want, fence(t, 2, incarnations, crashed, crashed)); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
}

// A presence that does not answer is tried again for as long as it takes leases to end, and then left alone.
func TestUnreachablePresenceIsGivenUp(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	im := &v1alpha1.IMCluster{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "chat"},
		Status:     v1alpha1.IMClusterStatus{Presence: &v1alpha1.PresenceStatus{ReadyReplicas: 1}},
	}
	cache := fake.NewClientBuilder().WithScheme(scheme).WithObjects(im).Build()
	r, err := fencing.New(cache, cache, presenceapi.New(presenceapi.Config{Secrets: cache}), noop.Meter{}) // no peer key
	if err != nil {
		t.Fatal(err)
	}
	var waits []string
	for {
		result, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(im)})
		if err != nil {
			t.Fatal(err)
		}
		if result.RequeueAfter == 0 {
			break
		}
		waits = append(waits, result.RequeueAfter.String())
	}
	want := []string{"200ms", "400ms", "800ms", "1.6s", "3.2s", "6.4s", "12.8s"}
	if diff := cmp.Diff(want, waits); diff != "" {
		t.Errorf("waits (-want +got):\n%s", diff)
	}
}
