package controllers_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/imcluster/imcluster/api/v1alpha1"
	"github.com/imcluster/imcluster/controllers"
	"github.com/imcluster/imcluster/controllers/naming"
	"github.com/imcluster/imcluster/controllers/status"
)

// conditions shows an IMCluster's conditions as "Type=Status/Reason".
func conditions(im *v1alpha1.IMCluster) []string {
	var out []string
	for _, c := range im.Status.Conditions {
		out = append(out, c.Type+"="+string(c.Status)+"/"+c.Reason)
	}
	return out
}

func TestImclusterBecomesReady(t *testing.T) {
	o := startOperator(t)
	o.create(o.imcluster("chat"))
	o.condition("chat", v1alpha1.ConditionReady, status.ReasonUnavailable)
	im := get(o, "chat", &v1alpha1.IMCluster{})
	want := []string{"Ready=False/Unavailable", "Reconciling=True/Unavailable", "GatewayAvailable=False/Unavailable",
		"PresenceAvailable=False/Unavailable", "RedisAvailable=False/Unavailable", "InsecureAuth=True/Insecure"}
	if diff := cmp.Diff(want, conditions(im)); diff != "" {
		t.Errorf("before the pods run (-want +got):\n%s", diff)
	}

	o.settled()
	o.roll("chat")
	o.condition("chat", v1alpha1.ConditionReady, status.ReasonReady)
	im = get(o, "chat", &v1alpha1.IMCluster{})
	want = []string{"Ready=True/Ready", "GatewayAvailable=True/Available", "PresenceAvailable=True/Available",
		"RedisAvailable=True/Ephemeral", "InsecureAuth=True/Insecure"}
	if diff := cmp.Diff(want, conditions(im)); diff != "" {
		t.Errorf("when the pods run (-want +got):\n%s", diff)
	}
	for _, c := range im.Status.Conditions {
		if c.ObservedGeneration != im.Generation {
			t.Errorf("condition %s speaks of generation %d, want %d", c.Type, c.ObservedGeneration, im.Generation)
		}
	}
	if im.Status.Gateway.Summary != "2/2" || im.Status.Presence.Summary != "2/2" || im.Status.Redis.Summary != "Ephemeral" {
		t.Errorf("summaries %+v %+v %+v", im.Status.Gateway, im.Status.Presence, im.Status.Redis)
	}
}

// Field managers tell who decides about what: of what the operator created and applied, nobody else.
func TestApplyOwnsWhatCreateWrote(t *testing.T) {
	o := startOperator(t)
	o.create(o.imcluster("chat"))
	o.condition("chat", v1alpha1.ConditionReady, status.ReasonUnavailable)
	o.settled()
	for _, object := range []client.Object{&appsv1.Deployment{}, &corev1.Service{}, &corev1.ServiceAccount{}, &policyv1.PodDisruptionBudget{}} {
		get(o, "chat-gateway", object)
		var managers []string
		for _, entry := range object.GetManagedFields() {
			managers = append(managers, entry.Manager+" "+string(entry.Operation))
		}
		if diff := cmp.Diff([]string{controllers.FieldManager + " Apply"}, managers); diff != "" {
			t.Errorf("%T (-want +got):\n%s", object, diff)
		}
	}
}

func TestUnchangedSpecMakesNoWrites(t *testing.T) {
	o := startOperator(t)
	o.create(o.imcluster("chat"))
	o.condition("chat", v1alpha1.ConditionReady, status.ReasonUnavailable)
	o.settled()
	o.roll("chat")
	o.condition("chat", v1alpha1.ConditionReady, status.ReasonReady)
	o.settled()
	before := len(o.writes.all())
	generation := get(o, "chat-gateway", &appsv1.Deployment{}).Generation

	// An annotation wakes the operator without changing anything that it cares about.
	update(o, get(o, "chat", &v1alpha1.IMCluster{}), func(im *v1alpha1.IMCluster) { im.Annotations = map[string]string{"note": "hello"} })
	o.settled()
	if got := o.writes.all()[before:]; len(got) > 0 {
		t.Errorf("wrote %v", got)
	}
	if got := get(o, "chat-gateway", &appsv1.Deployment{}).Generation; got != generation || generation != 1 {
		t.Errorf("generation of the gateway Deployment went from %d to %d, want 1: it must not roll", generation, got)
	}
}

func TestDriftIsRepaired(t *testing.T) {
	o := startOperator(t)
	o.create(o.imcluster("chat"))
	o.condition("chat", v1alpha1.ConditionReady, status.ReasonUnavailable)
	o.settled()

	update(o, get(o, "chat-gateway", &appsv1.Deployment{}), func(d *appsv1.Deployment) { d.Spec.Replicas = new(int32(7)) })
	exists(o, "chat-gateway", &appsv1.Deployment{}, func(d *appsv1.Deployment) bool { return *d.Spec.Replicas == 2 })

	update(o, get(o, "chat-redis", &corev1.ConfigMap{}), func(c *corev1.ConfigMap) { c.Data["redis.conf"] = "" })
	exists(o, "chat-redis", &corev1.ConfigMap{}, func(c *corev1.ConfigMap) bool { return c.Data["redis.conf"] != "" })

	// Without its labels the cache does not show the object any more.
	update(o, get(o, "chat-presence", &corev1.Service{}), func(s *corev1.Service) { s.Labels = nil })
	exists(o, "chat-presence", &corev1.Service{}, func(s *corev1.Service) bool { return len(s.Labels) > 0 })

	if err := o.client.Delete(t.Context(), get(o, "chat-presence", &policyv1.PodDisruptionBudget{})); err != nil {
		t.Fatal(err)
	}
	exists(o, "chat-presence", &policyv1.PodDisruptionBudget{}, nil)
}

func TestForeignObjectsAreNeverTakenOver(t *testing.T) {
	o := startOperator(t)
	foreign := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: o.namespace, Name: "chat-gateway"},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 1234}}},
	}
	o.create(foreign)
	o.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: o.namespace, Name: "chat-peer-key"}})
	o.create(o.imcluster("chat"))

	stalled := o.condition("chat", v1alpha1.ConditionStalled, status.ReasonNameConflict)
	for _, want := range []string{"Service chat-gateway", "Secret chat-peer-key", "use another name"} {
		if !strings.Contains(stalled.Message, want) {
			t.Errorf("message %q does not mention %q", stalled.Message, want)
		}
	}
	// Everything else is there, and the foreign objects are as they were.
	exists(o, "chat-gateway", &appsv1.Deployment{}, nil)
	now := get(o, "chat-gateway", &corev1.Service{})
	if now.ResourceVersion != foreign.ResourceVersion {
		t.Errorf("the foreign Service was changed: %v", now)
	}
	if data := get(o, "chat-peer-key", &corev1.Secret{}).Data; len(data) > 0 {
		t.Errorf("the foreign Secret was changed: %v", data)
	}
}

func TestIngressComesAndGoesWithTheSpec(t *testing.T) {
	o := startOperator(t)
	o.create(o.imcluster("chat", func(im *v1alpha1.IMCluster) {
		im.Spec.Gateway.Ingress = &v1alpha1.Ingress{Host: "im.example.com"}
	}))
	exists(o, "chat-gateway", &networkingv1.Ingress{}, nil)
	exists(o, "chat", &v1alpha1.IMCluster{}, func(im *v1alpha1.IMCluster) bool {
		return im.Status.URLs != nil && im.Status.URLs.WebSocket == "ws://im.example.com/ws"
	})
	o.settled()
	update(o, get(o, "chat", &v1alpha1.IMCluster{}), func(im *v1alpha1.IMCluster) {
		im.Spec.Gateway.Ingress = nil
		im.Spec.Gateway.Replicas = new(int32(1)) // and with a single pod there is no disruption budget
	})
	for _, object := range []client.Object{&networkingv1.Ingress{}, &policyv1.PodDisruptionBudget{}} {
		o.eventually("deletion", func() (bool, string) {
			err := o.client.Get(t.Context(), client.ObjectKey{Namespace: o.namespace, Name: "chat-gateway"}, object)
			return apierrors.IsNotFound(err), "still there"
		})
	}
}

// An annotation that leaves the spec leaves the object, though it was there when the object was created.
func TestRemovedFieldsAreRemoved(t *testing.T) {
	o := startOperator(t)
	o.create(o.imcluster("chat", func(im *v1alpha1.IMCluster) {
		im.Spec.Gateway.Service = &v1alpha1.GatewayService{Annotations: map[string]v1alpha1.AnnotationValue{"a": "1"}}
	}))
	exists(o, "chat-gateway", &corev1.Service{}, func(s *corev1.Service) bool { return s.Annotations["a"] == "1" })
	o.settled()
	update(o, get(o, "chat", &v1alpha1.IMCluster{}), func(im *v1alpha1.IMCluster) { im.Spec.Gateway.Service = nil })
	exists(o, "chat-gateway", &corev1.Service{}, func(s *corev1.Service) bool { return len(s.Annotations) == 0 })
}

func TestSuspendLeavesEverythingAsItIs(t *testing.T) {
	o := startOperator(t)
	o.create(o.imcluster("chat"))
	o.condition("chat", v1alpha1.ConditionReady, status.ReasonUnavailable)
	o.settled()
	update(o, get(o, "chat", &v1alpha1.IMCluster{}), func(im *v1alpha1.IMCluster) {
		im.Spec.Suspend = true
		im.Spec.Gateway.Replicas = new(int32(5))
	})
	o.condition("chat", v1alpha1.ConditionReady, status.ReasonSuspended)
	o.settled()
	if got := *get(o, "chat-gateway", &appsv1.Deployment{}).Spec.Replicas; got != 2 {
		t.Errorf("replicas = %d, want 2 while suspended", got)
	}
	update(o, get(o, "chat", &v1alpha1.IMCluster{}), func(im *v1alpha1.IMCluster) { im.Spec.Suspend = false })
	exists(o, "chat-gateway", &appsv1.Deployment{}, func(d *appsv1.Deployment) bool { return *d.Spec.Replicas == 5 })
}

func TestKubectlScale(t *testing.T) {
	o := startOperator(t)
	im := o.imcluster("chat")
	o.create(im)
	exists(o, "chat-gateway", &appsv1.Deployment{}, nil)
	scale := &autoscalingv1.Scale{Spec: autoscalingv1.ScaleSpec{Replicas: 5}}
	if err := o.client.SubResource("scale").Update(t.Context(), im, client.WithSubResourceBody(scale)); err != nil {
		t.Fatal(err)
	}
	exists(o, "chat-gateway", &appsv1.Deployment{}, func(d *appsv1.Deployment) bool { return *d.Spec.Replicas == 5 })
	o.settled()
	o.roll("chat")
	o.condition("chat", v1alpha1.ConditionReady, status.ReasonReady)
	if err := o.client.SubResource("scale").Get(t.Context(), im, scale); err != nil {
		t.Fatal(err)
	}
	want := autoscalingv1.ScaleStatus{Replicas: 5,
		Selector: "app.kubernetes.io/component=gateway,app.kubernetes.io/instance=chat,app.kubernetes.io/name=imcluster"}
	if diff := cmp.Diff(want, scale.Status); diff != "" {
		t.Error(diff)
	}
}

func TestDeletionIsLeftToOwnerReferences(t *testing.T) {
	o := startOperator(t)
	im := o.imcluster("chat", func(im *v1alpha1.IMCluster) {
		im.Spec.Redis.Managed.Storage = &v1alpha1.RedisStorage{Size: "1Gi"}
	})
	o.create(im)
	o.condition("chat", v1alpha1.ConditionReady, status.ReasonUnavailable)
	o.settled()
	// The API server of the test has no garbage collector; the references are what it would go by.
	for _, object := range []client.Object{&appsv1.Deployment{}, &corev1.Service{}, &corev1.ServiceAccount{}, &corev1.ConfigMap{}} {
		if !metav1.IsControlledBy(get(o, "chat-redis", object), im) {
			t.Errorf("%T is not owned", object)
		}
	}
	for _, name := range []string{"chat-redis-auth", "chat-api-key", "chat-peer-key"} {
		if !metav1.IsControlledBy(get(o, name, &corev1.Secret{}), im) {
			t.Errorf("Secret %s is not owned", name)
		}
	}
	claim := get(o, "chat-redis", &corev1.PersistentVolumeClaim{})
	if len(claim.OwnerReferences) > 0 {
		t.Error("a volume that is to be retained is owned")
	}

	// An IMCluster of the same name waits for what the old one leaves, and takes over the volume.
	if err := o.client.Delete(t.Context(), im); err != nil {
		t.Fatal(err)
	}
	again := o.imcluster("chat", func(im *v1alpha1.IMCluster) {
		im.Spec.Redis.Managed.Storage = &v1alpha1.RedisStorage{Size: "1Gi", WhenDeleted: v1alpha1.DeletionPolicyDelete}
	})
	o.create(again)
	waiting := o.condition("chat", v1alpha1.ConditionReconciling, status.ReasonWaitingForDeletion)
	if !strings.Contains(waiting.Message, "Deployment chat-gateway") {
		t.Errorf("message is %q", waiting.Message)
	}
	exists(o, "chat-redis", &corev1.PersistentVolumeClaim{}, func(c *corev1.PersistentVolumeClaim) bool {
		return c.UID == claim.UID && metav1.IsControlledBy(c, again)
	})
}

// A volume that is on its way out must not be used: what is written to it goes with it.
func TestObjectsThatAreBeingDeletedAreMadeAnew(t *testing.T) {
	o := startOperator(t)
	o.create(o.imcluster("chat", func(im *v1alpha1.IMCluster) {
		im.Spec.Redis.Managed.Storage = &v1alpha1.RedisStorage{Size: "1Gi"}
	}))
	claim := exists(o, "chat-redis", &corev1.PersistentVolumeClaim{}, nil)
	if err := o.client.Delete(t.Context(), claim); err != nil { // Kubernetes protects it for as long as pods use it
		t.Fatal(err)
	}
	o.condition("chat", v1alpha1.ConditionReconciling, status.ReasonWaitingForDeletion)
	update(o, get(o, "chat-redis", &corev1.PersistentVolumeClaim{}), func(c *corev1.PersistentVolumeClaim) { c.Finalizers = nil })
	exists(o, "chat-redis", &corev1.PersistentVolumeClaim{}, func(c *corev1.PersistentVolumeClaim) bool { return c.UID != claim.UID })
}

// The operator may look at pods, and what they say reaches the user without any change of a Deployment.
func TestPodsThatCannotStartAreNamedWithTheirReason(t *testing.T) {
	o := startOperator(t)
	o.create(o.imcluster("chat"))
	o.condition("chat", v1alpha1.ConditionReady, status.ReasonUnavailable)
	o.settled()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: o.namespace, Name: "chat-redis-x", Labels: naming.Labels("chat", naming.Redis)},
		Spec:       corev1.PodSpec{NodeName: "node", Containers: []corev1.Container{{Name: "redis", Image: "no.such/image:1"}}},
	}
	o.create(pod)
	message := func(kind string) string {
		return status.Find(get(o, "chat", &v1alpha1.IMCluster{}).Status.Conditions, kind).Message
	}
	for _, reason := range []string{"ErrImagePull", "ImagePullBackOff"} {
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "redis", Image: "no.such/image:1",
			State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}}}
		if err := o.client.Status().Update(t.Context(), pod); err != nil {
			t.Fatal(err)
		}
		const want = `No pod of redis is ready: the image "no.such/image:1" cannot be pulled`
		for _, kind := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionRedisAvailable} {
			o.eventually(kind+" names the image", func() (bool, string) { return strings.HasPrefix(message(kind), want), message(kind) })
		}
		o.settled()
	}
	o.eventually("a warning, once", func() (bool, string) {
		var list eventsv1.EventList
		if err := o.client.List(t.Context(), &list, client.InNamespace(o.namespace)); err != nil {
			return false, err.Error()
		}
		warnings := 0
		for _, e := range list.Items {
			if e.Type == corev1.EventTypeWarning && strings.Contains(e.Note, "no.such/image:1") {
				warnings++
			}
		}
		return warnings == 1, fmt.Sprintf("%d warnings", warnings)
	})
}

func TestNoFinalizers(t *testing.T) {
	o := startOperator(t)
	o.create(o.imcluster("chat"))
	o.condition("chat", v1alpha1.ConditionReady, status.ReasonUnavailable)
	if f := get(o, "chat", &v1alpha1.IMCluster{}).Finalizers; len(f) > 0 {
		t.Errorf("finalizers %v keep the IMCluster from being deleted when there is no operator", f)
	}
}

// What the API server refuses is shown with its reason, and does not keep the rest from being written.
func TestRejectedObjectsAndMissingSecretsAreReportedTogether(t *testing.T) {
	o := startOperator(t)
	o.create(o.imcluster("chat", func(im *v1alpha1.IMCluster) {
		im.Spec.Auth = v1alpha1.Auth{Mode: v1alpha1.AuthModeJWT, JWT: &v1alpha1.JWT{SecretRef: &v1alpha1.SecretReference{Name: "keys"}}}
		im.Spec.Gateway.NodeSelector = map[string]string{"not a label": "x"}
	}))
	ready := o.condition("chat", v1alpha1.ConditionReady, status.ReasonRejected)
	for _, want := range []string{"Deployment chat-gateway was rejected", "nodeSelector", "Secret keys (spec.auth.jwt.secretRef) does not exist"} {
		if !strings.Contains(ready.Message, want) {
			t.Errorf("message %q lacks %q", ready.Message, want)
		}
	}
	exists(o, "chat-presence", &appsv1.Deployment{}, nil)
	if got := slices.Contains(conditions(get(o, "chat", &v1alpha1.IMCluster{})), "Stalled=True/Rejected"); !got {
		t.Error("not stalled")
	}
}

// One object that cannot be written keeps neither the others from being written nor the user from being
// told, and is written as soon as that is possible.
func TestFailedWritesAreReportedAndTriedAgain(t *testing.T) {
	o := startOperator(t)
	o.writes.fail("/services")
	o.create(o.imcluster("chat"))
	failed := o.condition("chat", v1alpha1.ConditionReconciling, status.ReasonWriteFailed)
	if !strings.Contains(failed.Message, "Service chat-gateway could not be written") {
		t.Errorf("message is %q", failed.Message)
	}
	exists(o, "chat-gateway", &appsv1.Deployment{}, nil)
	o.writes.fail("")
	exists(o, "chat-gateway", &corev1.Service{}, nil)
	o.condition("chat", v1alpha1.ConditionReady, status.ReasonUnavailable)
}

func TestPodsMeetTheRestrictedStandard(t *testing.T) {
	o := startOperator(t)
	update(o, get(o, o.namespace, &corev1.Namespace{}), func(n *corev1.Namespace) {
		n.Labels["pod-security.kubernetes.io/enforce"] = "restricted"
	})
	o.create(o.imcluster("chat", func(im *v1alpha1.IMCluster) {
		im.Spec.Redis.Managed.Storage = &v1alpha1.RedisStorage{Size: "1Gi"}
	}))
	for _, component := range []string{"redis", "presence", "gateway"} {
		d := exists(o, "chat-"+component, &appsv1.Deployment{}, nil)
		pod := &corev1.Pod{ObjectMeta: d.Spec.Template.ObjectMeta, Spec: d.Spec.Template.Spec}
		pod.Namespace, pod.Name = o.namespace, component
		if err := o.client.Create(t.Context(), pod.DeepCopy(), client.DryRunAll); err != nil {
			t.Errorf("%s: %v", component, err)
		}
		pod.Spec.SecurityContext.RunAsNonRoot = nil // what is refused without the standard's settings
		if err := o.client.Create(t.Context(), pod, client.DryRunAll); !apierrors.IsForbidden(err) {
			t.Errorf("%s as root: %v, want Forbidden", component, err)
		}
	}
}
