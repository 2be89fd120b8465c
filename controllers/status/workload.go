package status

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Reasons of the conditions GatewayAvailable, PresenceAvailable and RedisAvailable.
const (
	ReasonAvailable    = "Available"
	ReasonRollingOut   = "RollingOut"
	ReasonDegraded     = "Degraded"
	ReasonUnavailable  = "Unavailable"
	ReasonScaledToZero = "ScaledToZero"
	ReasonNotCreated   = "NotCreated"
	ReasonRolloutStuck = "RolloutStuck"
	ReasonEphemeral    = "Ephemeral"
	ReasonExternal     = "External"
	ReasonNotReached   = "NotReached"
	ReasonNotUsed      = "NotUsed"
)

// verdict is what a condition says about one component.
type verdict struct {
	status  metav1.ConditionStatus
	reason  string
	message string
	// complete is false while pods are missing, or of an older template.
	complete bool
}

// workload judges a Deployment that should run desired pods. Available means that somebody is served.
//
// A rollout of gateways takes as long as the drains do, so "available" and "complete" are far apart:
//
//	pods                             status  reason        complete
//	none wanted                      True    ScaledToZero  yes
//	no Deployment yet                False   NotCreated    no
//	none is available                False   Unavailable   no
//	template or number not reached   True    RollingOut    no
//	the same, past the deadline      True    RolloutStuck  no
//	reached, but some not available  True    Degraded      no
//	all available                    True    Available     yes
func workload(what string, d *appsv1.Deployment, desired int32) verdict {
	if d == nil {
		return verdict{metav1.ConditionFalse, ReasonNotCreated, fmt.Sprintf("The Deployment of %s does not exist yet", what), false}
	}
	s := d.Status
	seen := s.ObservedGeneration >= d.Generation
	hint := fmt.Sprintf("; see kubectl describe pods -l %s", selector(d))
	switch {
	case desired == 0 && seen && s.Replicas == 0:
		return verdict{metav1.ConditionTrue, ReasonScaledToZero, fmt.Sprintf("No pods of %s are wanted", what), true}
	case desired > 0 && s.AvailableReplicas == 0:
		message := fmt.Sprintf("No pod of %s is ready", what)
		if stuck(d) {
			message += " for longer than the rollout may take"
		}
		return verdict{metav1.ConditionFalse, ReasonUnavailable, message + hint, false}
	case !seen || s.UpdatedReplicas < desired || s.Replicas != s.UpdatedReplicas:
		message := fmt.Sprintf("%d of %d pods of %s are up to date", min(s.UpdatedReplicas, desired), desired, what)
		if stuck(d) {
			return verdict{metav1.ConditionTrue, ReasonRolloutStuck, message + " and the rollout does not go on" + hint, false}
		}
		return verdict{metav1.ConditionTrue, ReasonRollingOut, message, false}
	case s.AvailableReplicas < desired:
		return verdict{metav1.ConditionTrue, ReasonDegraded,
			fmt.Sprintf("%d of %d pods of %s are ready", s.AvailableReplicas, desired, what) + hint, false}
	default:
		return verdict{metav1.ConditionTrue, ReasonAvailable, fmt.Sprintf("All %d pods of %s are ready", desired, what), true}
	}
}

// stuck reports whether a rollout has passed its progress deadline.
func stuck(d *appsv1.Deployment) bool {
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentProgressing && c.Status == corev1.ConditionFalse && c.Reason == "ProgressDeadlineExceeded" {
			return d.Status.ObservedGeneration >= d.Generation
		}
	}
	return false
}

func selector(d *appsv1.Deployment) string {
	return metav1.FormatLabelSelector(d.Spec.Selector)
}
