package compose_test

import (
	"slices"
	"testing"

	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
)

func TestPresenceGetsTheAppOfLeanCloudsClients(t *testing.T) {
	im := sample(t, "../../api/v1alpha1/testdata/accepted/leancloud.yaml")
	pod := find[*appsv1ac.DeploymentApplyConfiguration](t, composed(t, im), im.Name+"-presence").Spec.Template.Spec
	for _, arg := range []string{"--leancloud-app-id=Kc!-~", "--leancloud-app-key-dir=/etc/imcluster/leancloud"} {
		if !slices.Contains(pod.Containers[0].Args, arg) {
			t.Errorf("%s is not among %v", arg, pod.Containers[0].Args)
		}
	}
	for _, v := range pod.Volumes {
		if *v.Name == "leancloud" && *v.Secret.SecretName == "lean" {
			return
		}
	}
	t.Error("no volume for the Secret lean")
}

func TestPresenceGetsTheReceiverOfHooks(t *testing.T) {
	im := sample(t, "../../api/v1alpha1/testdata/accepted/hooks.yaml")
	pod := find[*appsv1ac.DeploymentApplyConfiguration](t, composed(t, im), im.Name+"-presence").Spec.Template.Spec
	for _, arg := range []string{"--hooks-url=https://backend.example.com:8443/im?x=1", "--hooks-secret-dir=/etc/imcluster/hooks", "--hooks-timeout=60s"} {
		if !slices.Contains(pod.Containers[0].Args, arg) {
			t.Errorf("%s is not among %v", arg, pod.Containers[0].Args)
		}
	}
	for _, v := range pod.Volumes {
		if *v.Name == "hooks" && *v.Secret.SecretName == "signing" {
			return
		}
	}
	t.Error("no volume for the Secret signing")
}
