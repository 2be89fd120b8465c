package compose

import (
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	policyv1ac "k8s.io/client-go/applyconfigurations/policy/v1"

	"github.com/imcluster/imcluster/api/v1alpha1"
	"github.com/imcluster/imcluster/controllers/naming"
)

const (
	// secretRoot is where Secrets are mounted, each in a directory of its own.
	secretRoot = "/etc/imcluster/"
	// groupID owns mounted files; the data-plane image runs as the same number.
	groupID = 65532
	// secretMode lets the owner and the group of the pod read a file: root owns it, the pod has groupID.
	secretMode = 0o440
)

// deployment returns a component's Deployment with what all Deployments have in common.
func deployment(im *v1alpha1.IMCluster, c naming.Component, replicas int32, pod *corev1ac.PodTemplateSpecApplyConfiguration) *appsv1ac.DeploymentApplyConfiguration {
	return appsv1ac.Deployment(naming.Object(im.Name, c), im.Namespace).
		WithLabels(naming.Labels(im.Name, c)).
		WithOwnerReferences(ownerReference(im)).
		WithSpec(appsv1ac.DeploymentSpec().
			WithReplicas(replicas).
			WithSelector(metav1ac.LabelSelector().WithMatchLabels(naming.Selector(im.Name, c))).
			WithTemplate(pod))
}

// surge is a rolling update that starts new pods before it stops old ones.
func surge() *appsv1ac.DeploymentStrategyApplyConfiguration {
	return appsv1ac.DeploymentStrategy().
		WithType("RollingUpdate").
		WithRollingUpdate(appsv1ac.RollingUpdateDeployment().
			WithMaxUnavailable(intstr.FromInt32(0)).
			WithMaxSurge(intstr.FromString("25%")))
}

// podTemplate returns a component's pod template with what all pods have in common: the restricted Pod
// Security Standard, no token for the Kubernetes API, no variables that describe Services (those of an
// IMCluster called "imc" would be taken for flags), last words that the operator can quote, and the user's
// scheduling settings.
func podTemplate(im *v1alpha1.IMCluster, c naming.Component, s v1alpha1.Scheduling, container *corev1ac.ContainerApplyConfiguration) *corev1ac.PodTemplateSpecApplyConfiguration {
	container.WithTerminationMessagePolicy(corev1.TerminationMessageFallbackToLogsOnError)
	container.WithSecurityContext(corev1ac.SecurityContext().
		WithAllowPrivilegeEscalation(false).
		WithReadOnlyRootFilesystem(true).
		WithCapabilities(corev1ac.Capabilities().WithDrop("ALL")))
	spec := corev1ac.PodSpec().
		WithServiceAccountName(naming.Object(im.Name, c)).
		WithAutomountServiceAccountToken(false).
		WithEnableServiceLinks(false).
		WithSecurityContext(corev1ac.PodSecurityContext().
			WithRunAsNonRoot(true).
			WithFSGroup(groupID).
			WithSeccompProfile(corev1ac.SeccompProfile().WithType(corev1.SeccompProfileTypeRuntimeDefault))).
		WithContainers(container)
	if len(s.NodeSelector) > 0 {
		spec.WithNodeSelector(s.NodeSelector)
	}
	for _, t := range s.Tolerations {
		spec.WithTolerations(toleration(t))
	}
	return corev1ac.PodTemplateSpec().WithLabels(naming.Labels(im.Name, c)).WithSpec(spec)
}

func toleration(t corev1.Toleration) *corev1ac.TolerationApplyConfiguration {
	ac := corev1ac.Toleration()
	if t.Key != "" {
		ac.WithKey(t.Key)
	}
	if t.Operator != "" {
		ac.WithOperator(t.Operator)
	}
	if t.Value != "" {
		ac.WithValue(t.Value)
	}
	if t.Effect != "" {
		ac.WithEffect(t.Effect)
	}
	if t.TolerationSeconds != nil {
		ac.WithTolerationSeconds(*t.TolerationSeconds)
	}
	return ac
}

// spread asks for the pods of one revision to be on different nodes and zones, without insisting.
func spread(im *v1alpha1.IMCluster, c naming.Component) []*corev1ac.TopologySpreadConstraintApplyConfiguration {
	var constraints []*corev1ac.TopologySpreadConstraintApplyConfiguration
	for _, key := range []string{corev1.LabelHostname, corev1.LabelTopologyZone} {
		constraints = append(constraints, corev1ac.TopologySpreadConstraint().
			WithMaxSkew(1).
			WithTopologyKey(key).
			WithWhenUnsatisfiable(corev1.ScheduleAnyway).
			WithLabelSelector(metav1ac.LabelSelector().WithMatchLabels(naming.Selector(im.Name, c))).
			WithMatchLabelKeys("pod-template-hash"))
	}
	return constraints
}

// setResources puts resources on a container, and keeps the Go runtime's heap below the memory limit:
// the kernel kills at the limit without asking, and the downward API cannot say 90 %.
func setResources(container *corev1ac.ContainerApplyConfiguration, r v1alpha1.Resources) {
	ac := corev1ac.ResourceRequirements()
	if len(r.Requests) > 0 {
		ac.WithRequests(r.Requests)
	}
	if len(r.Limits) > 0 {
		ac.WithLimits(r.Limits)
	}
	container.WithResources(ac)
	if limit, ok := r.Limits[corev1.ResourceMemory]; ok {
		container.WithEnv(corev1ac.EnvVar().WithName("GOMEMLIMIT").WithValue(strconv.FormatInt(limit.Value()/10*9, 10)))
	}
}

// podIdentity tells a process which pod it is.
func podIdentity() []*corev1ac.EnvVarApplyConfiguration {
	field := func(name, path string) *corev1ac.EnvVarApplyConfiguration {
		return corev1ac.EnvVar().WithName(name).WithValueFrom(
			corev1ac.EnvVarSource().WithFieldRef(corev1ac.ObjectFieldSelector().WithFieldPath(path)))
	}
	return []*corev1ac.EnvVarApplyConfiguration{
		field("IMC_POD_NAME", "metadata.name"),
		field("IMC_POD_UID", "metadata.uid"),
		field("IMC_POD_IP", "status.podIP"),
	}
}

// setOpsProbes probes the ops port of gateway and presence. Liveness never depends on anything outside of
// the process, so that a Redis that is away restarts nobody. Readiness is asked every 2 s, because a rollout
// advances at its pace.
func setOpsProbes(container *corev1ac.ContainerApplyConfiguration) {
	get := func(path string) *corev1ac.ProbeApplyConfiguration {
		return corev1ac.Probe().WithHTTPGet(corev1ac.HTTPGetAction().WithPath(path).WithPort(intstr.FromString("ops")))
	}
	container.
		WithReadinessProbe(get("/readyz").WithPeriodSeconds(2).WithTimeoutSeconds(2).WithFailureThreshold(2)).
		WithLivenessProbe(get("/livez").WithPeriodSeconds(10).WithTimeoutSeconds(5).WithFailureThreshold(3))
}

func containerPort(name string, port int32) *corev1ac.ContainerPortApplyConfiguration {
	return corev1ac.ContainerPort().WithName(name).WithContainerPort(port).WithProtocol(corev1.ProtocolTCP)
}

// secretMount is a Secret that a pod sees as a directory. Directories follow the Secret by themselves,
// so no change of a Secret has to roll pods.
type secretMount struct {
	volume string // also the directory's name
	secret string
	keys   []string // nil: all
}

func (m secretMount) dir() string { return secretRoot + m.volume }

// mountSecrets adds Secrets to a pod template with one container.
func mountSecrets(pod *corev1ac.PodTemplateSpecApplyConfiguration, mounts []secretMount) {
	for _, m := range mounts {
		source := corev1ac.SecretVolumeSource().WithSecretName(m.secret).WithDefaultMode(secretMode)
		for _, key := range m.keys {
			source.WithItems(corev1ac.KeyToPath().WithKey(key).WithPath(key))
		}
		pod.Spec.WithVolumes(corev1ac.Volume().WithName(m.volume).WithSecret(source))
		pod.Spec.Containers[0].WithVolumeMounts(
			corev1ac.VolumeMount().WithName(m.volume).WithMountPath(m.dir()).WithReadOnly(true))
	}
}

func serviceAccount(im *v1alpha1.IMCluster, c naming.Component) Object {
	return corev1ac.ServiceAccount(naming.Object(im.Name, c), im.Namespace).
		WithLabels(naming.Labels(im.Name, c)).
		WithOwnerReferences(ownerReference(im)).
		WithAutomountServiceAccountToken(false)
}

// disruptionBudget lets a quarter of the pods be evicted at a time, rounded up, and pods that are not
// ready at any time. There is none for a single replica: it could only block node drains.
func disruptionBudget(im *v1alpha1.IMCluster, c naming.Component, replicas int32) []Object {
	if replicas < 2 {
		return nil
	}
	return []Object{policyv1ac.PodDisruptionBudget(naming.Object(im.Name, c), im.Namespace).
		WithLabels(naming.Labels(im.Name, c)).
		WithOwnerReferences(ownerReference(im)).
		WithSpec(policyv1ac.PodDisruptionBudgetSpec().
			WithMaxUnavailable(intstr.FromString("25%")).
			WithUnhealthyPodEvictionPolicy(policyv1.AlwaysAllow).
			WithSelector(metav1ac.LabelSelector().WithMatchLabels(naming.Selector(im.Name, c))))}
}

// flag formats a command-line flag.
func flag(name string, value any) string { return fmt.Sprintf("--%s=%v", name, value) }
