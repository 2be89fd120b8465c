package status_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/imcluster/imcluster/api/v1alpha1"
	"github.com/imcluster/imcluster/controllers/compose"
	"github.com/imcluster/imcluster/controllers/status"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// pods describes the pods of a Deployment.
type pods struct {
	all, updated, ready int32
	// behind is true while the Deployment controller has not seen the last change.
	behind bool
	// stuck is true after the progress deadline.
	stuck bool
}

func deployment(p *pods) *appsv1.Deployment {
	if p == nil {
		return nil
	}
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Generation: 3},
		Spec:       appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}},
		Status: appsv1.DeploymentStatus{ObservedGeneration: 3, Replicas: p.all, UpdatedReplicas: p.updated,
			ReadyReplicas: p.ready, AvailableReplicas: p.ready},
	}
	if p.behind {
		d.Status.ObservedGeneration = 2
	}
	if p.stuck {
		d.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing,
			Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded"}}
	}
	return d
}

func imcluster(change ...func(*v1alpha1.IMCluster)) *v1alpha1.IMCluster {
	im := &v1alpha1.IMCluster{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "chat", Generation: 7},
		Spec: v1alpha1.IMClusterSpec{
			Auth: v1alpha1.Auth{Mode: v1alpha1.AuthModeJWT},
			Redis: v1alpha1.Redis{Managed: &v1alpha1.ManagedRedis{
				Storage: &v1alpha1.RedisStorage{Size: "1Gi"},
			}},
		},
	}
	for _, f := range change {
		f(im)
	}
	return im
}

func external(im *v1alpha1.IMCluster) {
	im.Spec.Redis = v1alpha1.Redis{External: &v1alpha1.ExternalRedis{Mode: v1alpha1.RedisModeCluster}}
}

func scaled(replicas int32) func(*v1alpha1.IMCluster) {
	return func(im *v1alpha1.IMCluster) {
		im.Spec.Gateway.Replicas, im.Spec.Presence.Replicas = &replicas, &replicas
	}
}

func TestConditions(t *testing.T) {
	two, one := &pods{all: 2, updated: 2, ready: 2}, &pods{all: 1, updated: 1, ready: 1}
	none := &pods{all: 2, updated: 2}
	missing := status.SecretMissing("spec.auth.jwt.secretRef", "keys", "current")
	for _, tc := range []struct {
		name                     string
		im                       *v1alpha1.IMCluster
		gateway, presence, redis *pods
		faults                   []status.Fault
		want                     []string
	}{
		{"everything runs", imcluster(), two, two, one, nil, []string{
			"Ready=True Ready", "GatewayAvailable=True Available", "PresenceAvailable=True Available", "RedisAvailable=True Available"}},
		{"nothing exists yet", imcluster(), nil, nil, nil, nil, []string{
			"Ready=False NotCreated", "Reconciling=True NotCreated",
			"GatewayAvailable=False NotCreated", "PresenceAvailable=False NotCreated", "RedisAvailable=False NotCreated"}},
		{"no pod is ready", imcluster(), none, none, &pods{all: 1, updated: 1}, nil, []string{
			"Ready=False Unavailable", "Reconciling=True Unavailable",
			"GatewayAvailable=False Unavailable", "PresenceAvailable=False Unavailable", "RedisAvailable=False Unavailable"}},
		{"a change was not seen yet", imcluster(), &pods{all: 2, updated: 2, ready: 2, behind: true}, two, one, nil, []string{
			"Ready=False RollingOut", "Reconciling=True RollingOut",
			"GatewayAvailable=True RollingOut", "PresenceAvailable=True Available", "RedisAvailable=True Available"}},
		{"a rollout is on", imcluster(), &pods{all: 3, updated: 1, ready: 3}, two, one, nil, []string{
			"Ready=False RollingOut", "Reconciling=True RollingOut",
			"GatewayAvailable=True RollingOut", "PresenceAvailable=True Available", "RedisAvailable=True Available"}},
		{"old pods are still leaving", imcluster(), &pods{all: 3, updated: 2, ready: 3}, two, one, nil, []string{
			"Ready=False RollingOut", "Reconciling=True RollingOut",
			"GatewayAvailable=True RollingOut", "PresenceAvailable=True Available", "RedisAvailable=True Available"}},
		{"a rollout does not go on", imcluster(), &pods{all: 3, updated: 1, ready: 2, stuck: true}, two, one, nil, []string{
			"Ready=False RolloutStuck", "Reconciling=True RolloutStuck",
			"GatewayAvailable=True RolloutStuck", "PresenceAvailable=True Available", "RedisAvailable=True Available"}},
		{"a pod crashed", imcluster(), &pods{all: 2, updated: 2, ready: 1}, two, one, nil, []string{
			"Ready=False Degraded", "Reconciling=True Degraded",
			"GatewayAvailable=True Degraded", "PresenceAvailable=True Available", "RedisAvailable=True Available"}},
		{"scaled to zero", imcluster(scaled(0)), &pods{}, &pods{}, one, nil, []string{
			"Ready=True Ready", "GatewayAvailable=True ScaledToZero", "PresenceAvailable=True ScaledToZero", "RedisAvailable=True Available"}},
		{"scaling down", imcluster(scaled(1)), &pods{all: 2, updated: 2, ready: 2, behind: true}, one, one, nil, []string{
			"Ready=False RollingOut", "Reconciling=True RollingOut",
			"GatewayAvailable=True RollingOut", "PresenceAvailable=True Available", "RedisAvailable=True Available"}},
		{"scaling down, and pods are still there", imcluster(scaled(1)), two, one, one, nil, []string{
			"Ready=False RollingOut", "Reconciling=True RollingOut",
			"GatewayAvailable=True RollingOut", "PresenceAvailable=True Available", "RedisAvailable=True Available"}},
		{"scaling to zero, and pods are still there", imcluster(scaled(0)), two, &pods{}, one, nil, []string{
			"Ready=False RollingOut", "Reconciling=True RollingOut",
			"GatewayAvailable=True RollingOut", "PresenceAvailable=True ScaledToZero", "RedisAvailable=True Available"}},
		{"Redis forgets", imcluster(func(im *v1alpha1.IMCluster) { im.Spec.Redis.Managed.Storage = nil }), two, two, one, nil, []string{
			"Ready=True Ready", "GatewayAvailable=True Available", "PresenceAvailable=True Available", "RedisAvailable=True Ephemeral"}},
		{"external Redis, reached", imcluster(external), two, two, nil, nil, []string{
			"Ready=True Ready", "GatewayAvailable=True Available", "PresenceAvailable=True Available", "RedisAvailable=True External"}},
		{"external Redis, not reached", imcluster(external), none, none, nil, nil, []string{
			"Ready=False NotReached", "Reconciling=True NotReached",
			"GatewayAvailable=False Unavailable", "PresenceAvailable=False Unavailable", "RedisAvailable=Unknown NotReached"}},
		{"anybody can be anybody", imcluster(func(im *v1alpha1.IMCluster) { im.Spec.Auth.Mode = v1alpha1.AuthModeInsecure }), two, two, one, nil, []string{
			"Ready=True Ready", "GatewayAvailable=True Available", "PresenceAvailable=True Available", "RedisAvailable=True Available",
			"InsecureAuth=True Insecure"}},
		{"a Secret is missing", imcluster(), two, two, one, []status.Fault{missing}, []string{
			"Ready=False SecretMissing", "GatewayAvailable=True Available", "PresenceAvailable=True Available", "RedisAvailable=True Available"}},
		{"suspended", imcluster(), two, two, one, []status.Fault{status.Suspended()}, []string{
			"Ready=False Suspended", "GatewayAvailable=True Available", "PresenceAvailable=True Available", "RedisAvailable=True Available"}},
		{"a foreign object and a rollout", imcluster(), none, two, one, []status.Fault{status.NameConflict("Service chat-gateway")}, []string{
			"Ready=False NameConflict", "Stalled=True NameConflict",
			"GatewayAvailable=False Unavailable", "PresenceAvailable=True Available", "RedisAvailable=True Available"}},
		{"a write failed", imcluster(), two, two, one, []status.Fault{status.WriteFailed("Service chat-gateway", flaky())}, []string{
			"Ready=False WriteFailed", "Reconciling=True WriteFailed",
			"GatewayAvailable=True Available", "PresenceAvailable=True Available", "RedisAvailable=True Available"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := status.Summarize(status.Input{
				IMCluster: tc.im, Gateway: deployment(tc.gateway), Presence: deployment(tc.presence), Redis: deployment(tc.redis),
				Faults: tc.faults, Now: now,
			})
			var conditions []string
			for _, c := range got.Conditions {
				conditions = append(conditions, c.Type+"="+string(c.Status)+" "+c.Reason)
				if c.ObservedGeneration != 7 || c.Message == "" || c.LastTransitionTime.IsZero() {
					t.Errorf("condition %+v is incomplete", c)
				}
			}
			if diff := cmp.Diff(tc.want, conditions); diff != "" {
				t.Errorf("conditions (-want +got):\n%s", diff)
			}
			if got.ObservedGeneration != 7 {
				t.Errorf("observedGeneration = %d, want 7", got.ObservedGeneration)
			}
		})
	}
}

// flaky returns an error whose text changes with every occurrence.
func flaky() error { return &netError{} }

type netError struct{}

func (*netError) Error() string {
	return "dial tcp 10.0.0.1:6443: read tcp 10.0.0.7:53122: connection reset"
}

func TestMessagesHoldNothingThatChangesByItself(t *testing.T) {
	got := status.WriteFailed("Service chat-gateway", flaky()).Message
	want := "Service chat-gateway could not be written: the API server could not be reached; trying again"
	if got != want {
		t.Errorf("message is %q, want %q", got, want)
	}
}

func TestTwoFaultsAreReportedTogether(t *testing.T) {
	got := status.Summarize(status.Input{IMCluster: imcluster(), Now: now, Faults: []status.Fault{
		status.NameConflict("Service chat-gateway"),
		status.SecretMissing("spec.auth.jwt.secretRef", "keys", "current"),
	}})
	want := `Service chat-gateway exists and does not belong to this IMCluster, so it is left alone; delete or rename it, ` +
		`or use another name for the IMCluster. Secret keys (spec.auth.jwt.secretRef) does not exist; create it with the key "current"`
	if got := status.Find(got.Conditions, v1alpha1.ConditionReady); got.Message != want || got.Reason != status.ReasonNameConflict {
		t.Errorf("Ready says %s: %q", got.Reason, got.Message)
	}
}

func TestTransitionTimesStayWhileAStatusLasts(t *testing.T) {
	before := metav1.NewTime(now.Add(-time.Hour))
	im := imcluster(func(im *v1alpha1.IMCluster) {
		im.Status.Conditions = []metav1.Condition{
			{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, LastTransitionTime: before},
			{Type: v1alpha1.ConditionGatewayAvailable, Status: metav1.ConditionTrue, LastTransitionTime: before},
		}
	})
	got := status.Summarize(status.Input{IMCluster: im, Now: now})
	if c := status.Find(got.Conditions, v1alpha1.ConditionReady); !c.LastTransitionTime.Equal(&before) {
		t.Errorf("Ready stayed False, but its time moved to %s", c.LastTransitionTime)
	}
	if c := status.Find(got.Conditions, v1alpha1.ConditionGatewayAvailable); !c.LastTransitionTime.Time.Equal(now) {
		t.Errorf("GatewayAvailable turned False, but its time is %s", c.LastTransitionTime)
	}
}

func TestCountsAndURLs(t *testing.T) {
	im := imcluster(scaled(3), func(im *v1alpha1.IMCluster) {
		im.Spec.Gateway.Ingress = &v1alpha1.Ingress{Host: "im.example.com", TLSSecretName: "tls"}
	})
	got := status.Summarize(status.Input{IMCluster: im, Images: compose.Images{DataPlane: "D"}, Now: now,
		Gateway: deployment(&pods{all: 4, updated: 2, ready: 3}), Presence: deployment(&pods{all: 3, updated: 3, ready: 1})})
	got.Conditions, got.ObservedGeneration = nil, 0
	want := v1alpha1.IMClusterStatus{
		Gateway: &v1alpha1.GatewayStatus{Summary: "3/3", Replicas: 4, DesiredReplicas: 3, ReadyReplicas: 3, UpdatedReplicas: 2,
			Selector: "app.kubernetes.io/component=gateway,app.kubernetes.io/instance=chat,app.kubernetes.io/name=imcluster", Image: "D"},
		Presence: &v1alpha1.PresenceStatus{Summary: "1/3", ReadyReplicas: 1},
		Redis:    &v1alpha1.RedisStatus{Summary: "NotCreated", Mode: v1alpha1.RedisModeStandalone},
		URLs:     &v1alpha1.URLs{WebSocket: "wss://im.example.com/ws", PresenceHTTP: "http://chat-presence.default.svc"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
}
