package controllers_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/imcluster/imcluster/api/v1alpha1"
	"github.com/imcluster/imcluster/controllers"
	"github.com/imcluster/imcluster/controllers/naming"
	"github.com/imcluster/imcluster/controllers/status"
	"github.com/imcluster/imcluster/presence/internalapi"
)

// fakePresence answers the internal API of every IMCluster.
type fakePresence struct {
	*httptest.Server
	mu     sync.Mutex
	list   internalapi.IncarnationList
	hooks  internalapi.HookDelivery
	fences []internalapi.FenceRequest
}

func startPresence(t *testing.T) *fakePresence {
	p := &fakePresence{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if r.URL.Path == internalapi.IncarnationsPath {
			p.list.AsOf = time.Now()
			_ = json.NewEncoder(w).Encode(p.list)
			return
		}
		if r.URL.Path == internalapi.HooksPath {
			p.hooks.AsOf = time.Now()
			_ = json.NewEncoder(w).Encode(p.hooks)
			return
		}
		var request internalapi.FenceRequest
		_ = json.NewDecoder(r.Body).Decode(&request)
		p.fences = append(p.fences, request)
		_, _ = w.Write([]byte("{}"))
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *fakePresence) set(list internalapi.IncarnationList) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list = list
}

func (p *fakePresence) fenced() []internalapi.FenceRequest {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]internalapi.FenceRequest(nil), p.fences...)
}

// startWithPresence runs an operator and an IMCluster whose presence is p.
func startWithPresence(t *testing.T, p *fakePresence) *operator {
	o := startOperator(t, func(c *controllers.Config) {
		c.PresenceURL = func(*v1alpha1.IMCluster) string { return p.URL }
	})
	o.create(o.imcluster("chat"))
	o.condition("chat", v1alpha1.ConditionReady, status.ReasonUnavailable)
	o.settled()
	o.roll("chat")
	o.condition("chat", v1alpha1.ConditionReady, status.ReasonReady)
	return o
}

func TestUsageHasAFieldManagerOfItsOwn(t *testing.T) {
	p := startPresence(t)
	p.set(internalapi.IncarnationList{Connections: 12, OnlineUsers: 7})
	o := startWithPresence(t, p)
	im := exists(o, "chat", &v1alpha1.IMCluster{}, func(im *v1alpha1.IMCluster) bool { return im.Status.Usage != nil })
	if im.Status.Usage.Connections != 12 || im.Status.Usage.OnlineUsers != 7 || time.Since(im.Status.Usage.AsOf.Time) > time.Minute {
		t.Errorf("usage is %+v", im.Status.Usage)
	}
	// A change of the rest of the status leaves the usage alone.
	update(o, im, func(im *v1alpha1.IMCluster) { im.Spec.Gateway.Replicas = new(int32(3)) })
	im = exists(o, "chat", &v1alpha1.IMCluster{}, func(im *v1alpha1.IMCluster) bool {
		return im.Status.Gateway.DesiredReplicas == 3
	})
	if im.Status.Usage == nil {
		t.Error("the usage is gone")
	}
	managers := map[string]bool{}
	for _, entry := range im.ManagedFields {
		if entry.Subresource == "status" {
			managers[entry.Manager] = true
		}
	}
	if diff := cmp.Diff(map[string]bool{"imcluster-controller": true, "imcluster-usage": true}, managers); diff != "" {
		t.Errorf("managers of the status (-want +got):\n%s", diff)
	}
}

func TestDeliveryOfHooksHasAFieldManagerOfItsOwn(t *testing.T) {
	p := startPresence(t)
	p.hooks = internalapi.HookDelivery{Pods: 1, Pending: 5, OldestPending: time.Now().Add(-time.Hour), LastError: "the receiver answered 401", Refusal: 401}
	o := startOperator(t, func(c *controllers.Config) {
		c.PresenceURL = func(*v1alpha1.IMCluster) string { return p.URL }
	})
	o.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: o.namespace, Name: "signing"}, StringData: map[string]string{"current": "the key of the hooks"}})
	o.create(o.imcluster("chat", func(im *v1alpha1.IMCluster) {
		im.Spec.Presence.Hooks = &v1alpha1.Hooks{URL: "https://backend.example.com", SecretRef: v1alpha1.SecretReference{Name: "signing"}}
	}))
	o.condition("chat", v1alpha1.ConditionReady, status.ReasonUnavailable)
	o.settled()
	o.roll("chat")
	o.condition("chat", v1alpha1.ConditionHooksDelivering, status.ReasonReceiverRefuses)
	o.condition("chat", v1alpha1.ConditionReady, status.ReasonReady)
	im := get(o, "chat", &v1alpha1.IMCluster{})
	if s := im.Status.Hooks; s == nil || s.Pending != 5 || s.LastError != "the receiver answered 401" || s.OldestPending.IsZero() {
		t.Errorf("hooks are %+v", s)
	}
	// The rest of the status is not written again because of it.
	o.settled()
	before := len(o.writes.all())
	update(o, im, func(im *v1alpha1.IMCluster) { im.Annotations = map[string]string{"note": "hello"} })
	o.settled()
	if got := o.writes.all()[before:]; len(got) > 0 {
		t.Errorf("wrote %v", got)
	}
	// Nor does a change of the rest touch it.
	update(o, get(o, "chat", &v1alpha1.IMCluster{}), func(im *v1alpha1.IMCluster) { im.Spec.Gateway.Replicas = new(int32(3)) })
	im = exists(o, "chat", &v1alpha1.IMCluster{}, func(im *v1alpha1.IMCluster) bool { return im.Status.Gateway.DesiredReplicas == 3 })
	if im.Status.Hooks == nil || status.Find(im.Status.Conditions, v1alpha1.ConditionHooksDelivering).Status != metav1.ConditionFalse {
		t.Errorf("the delivery of hooks is gone: %+v", im.Status)
	}
	// It goes with the hooks.
	update(o, im, func(im *v1alpha1.IMCluster) { im.Spec.Presence.Hooks = nil })
	exists(o, "chat", &v1alpha1.IMCluster{}, func(im *v1alpha1.IMCluster) bool {
		return im.Status.Hooks == nil && status.Find(im.Status.Conditions, v1alpha1.ConditionHooksDelivering).Type == "" && len(im.Status.Conditions) >= 4
	})
}

// gatewayPod creates a gateway pod of which the container runs.
func (o *operator) gatewayPod(name string) *corev1.Pod {
	o.t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: o.namespace, Name: name, Labels: naming.Labels("chat", naming.Gateway)},
		Spec:       corev1.PodSpec{NodeName: "node", Containers: []corev1.Container{{Name: "gateway", Image: "x"}}},
	}
	o.create(pod)
	return o.containerState(pod, corev1.ContainerState{Running: &corev1.ContainerStateRunning{}})
}

// containerState reports the state of a pod's container as a kubelet would.
func (o *operator) containerState(pod *corev1.Pod, state corev1.ContainerState) *corev1.Pod {
	o.t.Helper()
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "gateway", ContainerID: "containerd://1", State: state}}
	if err := o.client.Status().Update(o.t.Context(), pod); err != nil {
		o.t.Fatal(err)
	}
	return pod
}

func TestCrashedAndVanishedGatewaysAreFenced(t *testing.T) {
	p := startPresence(t)
	o := startWithPresence(t, p)
	crashed, vanished, draining := o.gatewayPod("crashed"), o.gatewayPod("vanished"), o.gatewayPod("draining")
	incarnation := func(epoch string, pod *corev1.Pod) internalapi.Incarnation {
		return internalapi.Incarnation{Epoch: epoch, PodName: pod.Name, PodUID: string(pod.UID)}
	}
	list := internalapi.IncarnationList{Incarnations: []internalapi.Incarnation{
		incarnation("e-crashed", crashed), incarnation("e-vanished", vanished), incarnation("e-draining", draining),
	}}
	p.set(list)
	// Bound to a node, the pod stays until the kubelet has stopped it.
	if err := o.client.Delete(t.Context(), draining); err != nil {
		t.Fatal(err)
	}
	o.containerState(crashed, corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 137}})
	want := []internalapi.FenceRequest{{Epochs: []string{"e-crashed"}}}
	o.eventually("fence of the crashed gateway", func() (bool, string) {
		diff := cmp.Diff(want, p.fenced())
		return diff == "", diff
	})

	p.set(internalapi.IncarnationList{Incarnations: list.Incarnations[1:]})
	if err := o.client.Delete(t.Context(), vanished, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	want = append(want, internalapi.FenceRequest{Epochs: []string{"e-vanished"}, BanPodUIDs: []string{string(vanished.UID)}})
	o.eventually("fence of the vanished gateway", func() (bool, string) {
		diff := cmp.Diff(want, p.fenced())
		return diff == "", diff
	})
}
