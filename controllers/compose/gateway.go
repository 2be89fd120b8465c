package compose

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	networkingv1ac "k8s.io/client-go/applyconfigurations/networking/v1"
	"k8s.io/utils/ptr"

	"github.com/imcluster/imcluster/api/v1alpha1"
	"github.com/imcluster/imcluster/controllers/naming"
)

// webSocketPath is where gateways accept WebSockets.
const webSocketPath = "/ws"

const (
	// drainSlackSeconds is what a gateway has on top of its drain window before Kubernetes kills it: 5 s in which it
	// is only not ready any more, at most 3 s to close what is left, 5 s to leave the lease table, and 2 s to send
	// the last traces.
	drainSlackSeconds = 15
	// progressSlackSeconds is what a rollout may take on top of a drain window before it counts as stuck.
	progressSlackSeconds = 300
)

func gatewayObjects(im *v1alpha1.IMCluster, images Images) []Object {
	objects := []Object{
		serviceAccount(im, naming.Gateway),
		gatewayService(im),
		gatewayDeployment(im, images),
	}
	objects = append(objects, disruptionBudget(im, naming.Gateway, GatewayReplicas(im))...)
	if im.Spec.Gateway.Ingress != nil {
		objects = append(objects, gatewayIngress(im))
	}
	return objects
}

func gatewayDeployment(im *v1alpha1.IMCluster, images Images) *appsv1ac.DeploymentApplyConfiguration {
	window, rate := drain(im)
	args, mounts := commonFlags(im)
	args = append(args,
		flag("auth-mode", strings.ToLower(string(im.Spec.Auth.Mode))),
		flag("max-connections", ptr.Deref(im.Spec.Gateway.MaxConnectionsPerPod, defaultMaxConnectionsPerPod)),
		flag("drain-window", seconds(window)),
		flag("drain-max-reconnects-per-second", rate),
	)
	auth, keys := authFlags(im)
	args, mounts = append(args, auth...), append(mounts, keys...)
	args = append(args, limitFlags(im)...)
	args = append(args, clientFlags(im)...)
	container := corev1ac.Container().
		WithName(string(naming.Gateway)).
		WithImage(DataPlaneImage(im, images)).
		WithCommand("/usr/local/bin/gateway").
		WithArgs(args...).
		WithEnv(podIdentity()...).
		// Not a flag: gateways of the release before know none, and would not start.
		WithEnv(corev1ac.EnvVar().WithName("IMC_PRESENCE_ADDRESS").WithValue(naming.PresenceTarget(im.Namespace, im.Name))).
		WithPorts(
			containerPort("ws", naming.PortWebSocket),
			containerPort("ops", naming.PortOps),
			containerPort("peer", naming.PortPeer))
	setOpsProbes(container)
	setResources(container, dataPlaneResources(im.Spec.Gateway.Resources))

	pod := podTemplate(im, naming.Gateway, im.Spec.Gateway.Scheduling, container)
	pod.Spec.
		WithTerminationGracePeriodSeconds(int64(window + drainSlackSeconds)).
		WithTopologySpreadConstraints(spread(im, naming.Gateway)...)
	mountSecrets(pod, mounts)

	d := deployment(im, naming.Gateway, GatewayReplicas(im), pod)
	d.Spec.WithStrategy(surge()).WithProgressDeadlineSeconds(window + progressSlackSeconds)
	return d
}

func gatewayService(im *v1alpha1.IMCluster) Object {
	settings := ptr.Deref(im.Spec.Gateway.Service, v1alpha1.GatewayService{})
	kind := settings.Type
	if kind == "" {
		kind = corev1.ServiceTypeClusterIP
	}
	return corev1ac.Service(naming.Object(im.Name, naming.Gateway), im.Namespace).
		WithLabels(naming.Labels(im.Name, naming.Gateway)).
		WithAnnotations(annotations(settings.Annotations)).
		WithOwnerReferences(ownerReference(im)).
		WithSpec(corev1ac.ServiceSpec().
			WithType(kind).
			WithSelector(naming.Selector(im.Name, naming.Gateway)).
			WithPorts(servicePort("ws", naming.PortService).WithAppProtocol("kubernetes.io/ws")))
}

func gatewayIngress(im *v1alpha1.IMCluster) Object {
	settings := im.Spec.Gateway.Ingress
	name := naming.Object(im.Name, naming.Gateway)
	backend := networkingv1ac.IngressBackend().WithService(networkingv1ac.IngressServiceBackend().
		WithName(name).WithPort(networkingv1ac.ServiceBackendPort().WithName("ws")))
	path := networkingv1ac.HTTPIngressPath().
		WithPath(webSocketPath).WithPathType(networkingv1.PathTypePrefix).WithBackend(backend)
	spec := networkingv1ac.IngressSpec().WithRules(networkingv1ac.IngressRule().
		WithHost(settings.Host).
		WithHTTP(networkingv1ac.HTTPIngressRuleValue().WithPaths(path)))
	if settings.ClassName != "" {
		spec.WithIngressClassName(settings.ClassName)
	}
	if settings.TLSSecretName != "" {
		spec.WithTLS(networkingv1ac.IngressTLS().WithHosts(settings.Host).WithSecretName(settings.TLSSecretName))
	}
	return networkingv1ac.Ingress(name, im.Namespace).
		WithLabels(naming.Labels(im.Name, naming.Gateway)).
		WithAnnotations(annotations(settings.Annotations)).
		WithOwnerReferences(ownerReference(im)).
		WithSpec(spec)
}

func annotations(values map[string]v1alpha1.AnnotationValue) map[string]string {
	out := make(map[string]string, len(values))
	for key, value := range values {
		out[key] = string(value)
	}
	return out
}
