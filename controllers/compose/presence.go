package compose

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/utils/ptr"

	"github.com/imcluster/imcluster/api/v1alpha1"
	"github.com/imcluster/imcluster/controllers/naming"
)

// APIKeySecretName returns the Secret with the API key of presence: the user's, or the generated one.
func APIKeySecretName(im *v1alpha1.IMCluster) string {
	if ref := im.Spec.Presence.APIKeySecretRef; ref != nil {
		return ref.Name
	}
	return naming.APIKeySecret(im.Name)
}

func presenceObjects(im *v1alpha1.IMCluster, images Images) []Object {
	objects := []Object{
		serviceAccount(im, naming.Presence),
		presenceService(im),
		presencePods(im),
		presenceDeployment(im, images),
	}
	return append(objects, disruptionBudget(im, naming.Presence, PresenceReplicas(im))...)
}

func presenceDeployment(im *v1alpha1.IMCluster, images Images) *appsv1ac.DeploymentApplyConfiguration {
	args, mounts := commonFlags(im)
	apiKey := secretMount{volume: "api-key", secret: APIKeySecretName(im)}
	mounts = append(mounts, apiKey)
	args = append(args,
		flag("api-key-dir", apiKey.dir()),
		flag("last-seen-retention", seconds(ptr.Deref(im.Spec.Presence.LastSeenRetentionSeconds, defaultLastSeenSeconds))),
	)
	if lean := im.Spec.Presence.LeanCloud; lean != nil {
		appKey := secretMount{volume: "leancloud", secret: lean.KeySecretRef.Name}
		mounts = append(mounts, appKey)
		args = append(args, flag("leancloud-app-id", lean.AppID), flag("leancloud-app-key-dir", appKey.dir()))
	}
	if hooks := im.Spec.Presence.Hooks; hooks != nil {
		secret := secretMount{volume: "hooks", secret: hooks.SecretRef.Name}
		mounts = append(mounts, secret)
		args = append(args, flag("hooks-url", string(hooks.URL)), flag("hooks-secret-dir", secret.dir()))
		if hooks.TimeoutSeconds != nil {
			args = append(args, flag("hooks-timeout", seconds(*hooks.TimeoutSeconds)))
		}
	}
	args = append(args, userStatusFlags(im.Spec.Presence.UserStatus)...)
	container := corev1ac.Container().
		WithName(string(naming.Presence)).
		WithImage(DataPlaneImage(im, images)).
		WithCommand("/usr/local/bin/presence").
		WithArgs(args...).
		WithEnv(podIdentity()...).
		WithPorts(
			containerPort("http", naming.PortHTTP),
			containerPort("ops", naming.PortOps),
			containerPort("internal", naming.PortInternal),
			containerPort("grpc", naming.PortGRPC))
	setOpsProbes(container)
	setResources(container, dataPlaneResources(im.Spec.Presence.Resources))

	pod := podTemplate(im, naming.Presence, im.Spec.Presence.Scheduling, container)
	pod.Spec.WithTopologySpreadConstraints(spread(im, naming.Presence)...)
	mountSecrets(pod, mounts)

	d := deployment(im, naming.Presence, PresenceReplicas(im), pod)
	d.Spec.WithStrategy(surge())
	return d
}

func userStatusFlags(u *v1alpha1.UserStatus) (flags []string) {
	if u == nil {
		return nil
	}
	if u.Authentication == v1alpha1.UserStatusAuthenticationNone {
		flags = append(flags, "--user-status-open")
	}
	if u.LeaseSeconds != nil {
		flags = append(flags, flag("user-status-lease", seconds(*u.LeaseSeconds)))
	}
	return flags
}

func presenceService(im *v1alpha1.IMCluster) Object {
	return corev1ac.Service(naming.Object(im.Name, naming.Presence), im.Namespace).
		WithLabels(naming.Labels(im.Name, naming.Presence)).
		WithOwnerReferences(ownerReference(im)).
		WithSpec(corev1ac.ServiceSpec().
			WithType(corev1.ServiceTypeClusterIP).
			WithSelector(naming.Selector(im.Name, naming.Presence)).
			WithPorts(
				servicePort("http", naming.PortService).WithAppProtocol("http"),
				servicePort("internal", naming.PortInternal).WithAppProtocol("http"),
				servicePort("grpc", naming.PortGRPC).WithAppProtocol("kubernetes.io/h2c")))
}

// presencePods is a headless Service: its name leads to all presence pods that are ready, so that gRPC clients, whose
// connections live long, can balance over them.
func presencePods(im *v1alpha1.IMCluster) Object {
	return corev1ac.Service(naming.PresenceGRPC(im.Name), im.Namespace).
		WithLabels(naming.Labels(im.Name, naming.Presence)).
		WithOwnerReferences(ownerReference(im)).
		WithSpec(corev1ac.ServiceSpec().
			WithType(corev1.ServiceTypeClusterIP).
			WithClusterIP(corev1.ClusterIPNone).
			WithSelector(naming.Selector(im.Name, naming.Presence)).
			WithPorts(servicePort("grpc", naming.PortGRPC).WithAppProtocol("kubernetes.io/h2c")))
}

// servicePort is a port of a Service that leads to the pods' port of the same name.
func servicePort(name string, port int32) *corev1ac.ServicePortApplyConfiguration {
	return corev1ac.ServicePort().
		WithName(name).
		WithPort(port).
		WithProtocol(corev1.ProtocolTCP).
		WithTargetPort(intstr.FromString(name))
}
