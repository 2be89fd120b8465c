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
	// cause is why the component is not complete, if something concrete is in its way. The message ends with it.
	cause cause
	// stuck is true after the rollout's progress deadline.
	stuck bool
	// hint says where to look further. It follows the message.
	hint string
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
		return verdict{status: metav1.ConditionFalse, reason: ReasonNotCreated,
			message: fmt.Sprintf("The Deployment of %s does not exist yet", what)}
	}
	s := d.Status
	seen := s.ObservedGeneration >= d.Generation
	v := verdict{status: metav1.ConditionTrue, stuck: stuck(d),
		hint: fmt.Sprintf(". See kubectl describe pods -n %s -l %s", d.Namespace, metav1.FormatLabelSelector(d.Spec.Selector))}
	switch {
	case desired == 0 && seen && s.Replicas == 0:
		return verdict{status: metav1.ConditionTrue, reason: ReasonScaledToZero,
			message: fmt.Sprintf("No pods of %s are wanted", what), complete: true}
	case desired > 0 && s.AvailableReplicas == 0:
		v.status, v.reason = metav1.ConditionFalse, ReasonUnavailable
		v.message = fmt.Sprintf("No pod of %s is ready", what)
		if v.stuck {
			v.message += ", for longer than a rollout may take"
		}
	case !seen || s.UpdatedReplicas != desired || s.Replicas != desired:
		v.reason = ReasonRollingOut
		v.message = fmt.Sprintf("%d of %d pods of %s are up to date", min(s.UpdatedReplicas, desired), desired, what)
		if s.UpdatedReplicas > desired {
			v.message = fmt.Sprintf("%d pods of %s are being stopped", s.UpdatedReplicas-desired, what)
		}
		if v.stuck {
			v.reason = ReasonRolloutStuck
			v.message += ", and the rollout does not go on"
		}
	case s.AvailableReplicas < desired:
		v.reason = ReasonDegraded
		v.message = fmt.Sprintf("%d of %d pods of %s are ready", s.AvailableReplicas, desired, what)
	default:
		return verdict{status: metav1.ConditionTrue, reason: ReasonAvailable,
			message: fmt.Sprintf("All %d pods of %s are ready", desired, what), complete: true}
	}
	return v
}

// because adds the cause to the verdict about a component that is not complete.
func (v verdict) because(c cause) verdict {
	if !v.complete && c.text != "" {
		v.cause = c
		v.message += ": " + c.text
	}
	return v
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
