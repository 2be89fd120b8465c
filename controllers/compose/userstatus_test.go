package compose_test

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
)

func TestPresenceServesGRPC(t *testing.T) {
	im := imcluster()
	objects := composed(t, im)
	pod := find[*appsv1ac.DeploymentApplyConfiguration](t, objects, "chat-presence").Spec.Template.Spec
	if !slices.ContainsFunc(pod.Containers[0].Ports, func(p corev1ac.ContainerPortApplyConfiguration) bool {
		return *p.Name == "grpc" && *p.ContainerPort == 9090
	}) {
		t.Errorf("no port grpc in %v", pod.Containers[0].Ports)
	}
	if slices.ContainsFunc(pod.Containers[0].Args, func(a string) bool { return strings.HasPrefix(a, "--user-status") }) {
		t.Errorf("without the setting: %v", pod.Containers[0].Args)
	}
	headless := find[*corev1ac.ServiceApplyConfiguration](t, objects, "chat-presence-grpc").Spec
	if *headless.ClusterIP != corev1.ClusterIPNone || headless.PublishNotReadyAddresses != nil {
		t.Errorf("the Service of all pods: %+v", headless)
	}
}

func TestPresenceIsToldOfUserStatus(t *testing.T) {
	im := sample(t, "../../api/v1alpha1/testdata/accepted/userstatus.yaml")
	pod := find[*appsv1ac.DeploymentApplyConfiguration](t, composed(t, im), im.Name+"-presence").Spec.Template.Spec
	for _, arg := range []string{"--user-status-open", "--user-status-lease=3600s"} {
		if !slices.Contains(pod.Containers[0].Args, arg) {
			t.Errorf("%s is not among %v", arg, pod.Containers[0].Args)
		}
	}
}
