package status_test

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/imcluster/imcluster/api/v1alpha1"
	"github.com/imcluster/imcluster/controllers/naming"
	"github.com/imcluster/imcluster/controllers/status"
)

// podOf returns a pod of a component, of which the one container is in a state.
func podOf(c naming.Component, container corev1.ContainerStatus) corev1.Pod {
	container.Name, container.Image = string(c), "no.such/image:1"
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Labels: naming.Labels("chat", c)},
		Status:     corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{container}},
	}
}

func waiting(reason, message string) corev1.ContainerStatus {
	return corev1.ContainerStatus{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}}
}

func ended(code int32, reason, message string) *corev1.ContainerStateTerminated {
	return &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason, Message: message}
}

func unscheduled(c naming.Component, message string) corev1.Pod {
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Labels: naming.Labels("chat", c)},
		Status: corev1.PodStatus{Conditions: []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: message},
		}},
	}
}

func TestPodsTellWhyTheyDoNotWork(t *testing.T) {
	crashing := waiting("CrashLoopBackOff", "back-off 40s restarting failed container=gateway pod=chat-gateway-7d9f")
	crashing.LastTerminationState.Terminated = ended(1, "Error", "{\"level\":\"INFO\"}\ngateway: open the keys: no such file\n")
	again := corev1.ContainerStatus{LastTerminationState: crashing.LastTerminationState,
		State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
	recovered := again
	recovered.Ready = true
	redis := corev1.ContainerStatus{State: corev1.ContainerState{
		Terminated: ended(1, "Error", "1:M 21 Nov 2026 13:46:30.123 # Can't open the append-only file: Permission denied")}}
	killed := corev1.ContainerStatus{State: corev1.ContainerState{Terminated: ended(137, "OOMKilled", "")}}
	logged := corev1.ContainerStatus{State: corev1.ContainerState{Terminated: ended(2, "Error", `{"time":"2026-11-21T13:46:30Z"}`)}}
	leaving := podOf(naming.Gateway, killed)
	leaving.DeletionTimestamp = new(metav1.Now())
	const crashed = "the container ended with exit code 1: gateway: open the keys: no such file"
	for _, tc := range []struct {
		name string
		pod  corev1.Pod
		want string
	}{
		{"image, first try", podOf(naming.Gateway, waiting("ErrImagePull", "rpc error: 10.0.0.7:4711")), `the image "no.such/image:1" cannot be pulled`},
		{"image, later", podOf(naming.Gateway, waiting("ImagePullBackOff", "Back-off pulling image")), `the image "no.such/image:1" cannot be pulled`},
		{"image name", podOf(naming.Gateway, waiting("InvalidImageName", "")), `the image name "no.such/image:1" is not valid`},
		{"starting", podOf(naming.Gateway, waiting("ContainerCreating", "")), ""},
		{"key of a Secret", podOf(naming.Gateway, waiting("CreateContainerConfigError", `secret "keys" not found`)),
			`the container cannot be created: secret "keys" not found`},
		{"crash loop", podOf(naming.Gateway, crashing), crashed},
		{"crash loop, running for a moment", podOf(naming.Gateway, again), crashed},
		{"recovered", podOf(naming.Gateway, recovered), ""},
		{"Redis' last line without its time", podOf(naming.Redis, redis),
			"the container ended with exit code 1: Can't open the append-only file: Permission denied"},
		{"a log line has a time", podOf(naming.Gateway, logged), "the container ended with exit code 2"},
		{"memory", podOf(naming.Gateway, killed), "the container ran out of memory and was killed"},
		{"stopping", leaving, ""},
		{"no room", unscheduled(naming.Gateway, "0/3 nodes are available: 1 Too many pods, 2 Insufficient cpu. "+
			"preemption: 0/3 nodes are available: 3 No preemption victims found for incoming pod."),
			"no node takes the pod: Insufficient cpu, Too many pods"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := status.Cause(&tc.pod); got != tc.want {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
		})
	}
}

func TestReadyNamesTheCauseFirst(t *testing.T) {
	none, one := &pods{all: 2, updated: 2}, &pods{all: 1, updated: 1, ready: 1}
	in := status.Input{IMCluster: imcluster(), Now: now,
		Gateway: deployment(none), Presence: deployment(none), Redis: deployment(&pods{all: 1, updated: 1})}
	ready := func() string {
		return status.Find(status.Summarize(in).Conditions, v1alpha1.ConditionReady).Message
	}
	check := func(want string, trouble bool) {
		t.Helper()
		if got := ready(); got != want {
			t.Errorf("Ready says\n%s\nwant\n%s", got, want)
		}
		if got := status.Trouble(in) != ""; got != trouble {
			t.Errorf("trouble is %t, want %t", got, trouble)
		}
	}
	const see = ". See kubectl describe pods -n default -l a=b"
	check("No pod of redis is ready. No pod of presence is ready. No pod of gateway is ready"+see, false)

	in.Pods = []corev1.Pod{podOf(naming.Gateway, waiting("ErrImagePull", ""))}
	check(`No pod of gateway is ready: the image "no.such/image:1" cannot be pulled. No pod of redis is ready. `+
		"No pod of presence is ready"+see, true)

	in.Gateway, in.Presence, in.Pods = deployment(&pods{all: 2, updated: 2, ready: 2}), deployment(&pods{all: 2, updated: 2, ready: 2}), nil
	in.Claim = &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "chat-redis"},
		Spec:   corev1.PersistentVolumeClaimSpec{StorageClassName: new("fast")},
		Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}}
	const unbound = `No pod of redis is ready: the PersistentVolumeClaim chat-redis has no volume yet; ` +
		`it waits for the StorageClass "fast", which must exist and have a provisioner` + see
	check(unbound, false)
	in.Pods = []corev1.Pod{unscheduled(naming.Redis, "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found")}
	check(unbound, false)

	in.Claim, in.Pods = nil, nil
	in.Redis.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue,
		Message: `pods "chat-redis-5d9-x2v" is forbidden: exceeded quota: small`}}
	check("No pod of redis is ready: pods cannot be created: exceeded quota: small"+see, true)

	in.Redis = deployment(one)
	check("Everything in the spec is in effect", false)
}
