package status

import (
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/imcluster/imcluster/api/v1alpha1"
	"github.com/imcluster/imcluster/controllers/compose"
	"github.com/imcluster/imcluster/controllers/naming"
)

// Input is everything that a status is made of.
type Input struct {
	IMCluster *v1alpha1.IMCluster
	Images    compose.Images
	// Gateway, Presence and Redis are the Deployments as they were after the last write; nil if there is
	// none that belongs to the IMCluster.
	Gateway, Presence, Redis *appsv1.Deployment
	// Pods are those of all components.
	Pods []corev1.Pod
	// Claim is that of the managed Redis, or nil.
	Claim *corev1.PersistentVolumeClaim
	// Faults are what went wrong, the most important first.
	Faults []Fault
	// Now is the time of conditions that change.
	Now time.Time
}

// Summarize returns the status without usage and the delivery of hooks, which are collected and written elsewhere.
func Summarize(in Input) v1alpha1.IMClusterStatus {
	im := in.IMCluster
	redis, presence, gateway := verdicts(in)

	out := v1alpha1.IMClusterStatus{
		ObservedGeneration: im.Generation,
		Gateway:            gatewayStatus(in),
		Presence:           presenceStatus(in),
		Redis:              redisStatus(im, redis),
		URLs:               &v1alpha1.URLs{WebSocket: compose.WebSocketURL(im), PresenceHTTP: compose.PresenceURL(im)},
	}
	add := func(kind string, status metav1.ConditionStatus, reason, message string) {
		out.Conditions = append(out.Conditions, condition(im, in.Now, kind, status, reason, message))
	}
	ready := readiness(in.Faults, redis, presence, gateway)
	add(v1alpha1.ConditionReady, ready.status, ready.reason, ready.message)
	// kstatus takes the first of the two that is true, and a stalled IMCluster is not getting anywhere.
	switch stalled := stalling(in.Faults); {
	case len(stalled) > 0:
		add(v1alpha1.ConditionStalled, metav1.ConditionTrue, stalled[0].Reason, messages(stalled))
	case ready.working:
		add(v1alpha1.ConditionReconciling, metav1.ConditionTrue, ready.reason, ready.message)
	}
	add(v1alpha1.ConditionGatewayAvailable, gateway.status, gateway.reason, gateway.message+gateway.hint)
	add(v1alpha1.ConditionPresenceAvailable, presence.status, presence.reason, presence.message+presence.hint)
	add(v1alpha1.ConditionRedisAvailable, redis.status, redis.reason, redis.message+redis.hint)
	if im.Spec.Auth.Mode == v1alpha1.AuthModeInsecure {
		add(v1alpha1.ConditionInsecureAuth, metav1.ConditionTrue, "Insecure",
			"Anybody can log in as anybody, because spec.auth.mode is Insecure; use JWT for anything but trying out")
	}
	return out
}

// verdicts judges the components.
func verdicts(in Input) (redis, presence, gateway verdict) {
	im := in.IMCluster
	redis = redisVerdict(in)
	presence = workload("presence", in.Presence, compose.PresenceReplicas(im)).because(causeOf(in, naming.Presence, in.Presence))
	gateway = workload("gateway", in.Gateway, compose.GatewayReplicas(im)).because(causeOf(in, naming.Gateway, in.Gateway))
	return redis, presence, gateway
}

// Trouble returns what is in the way of the components, one a line: causes, and rollouts that take too long.
// It is empty while everything is as it should be, or is on the way there.
func Trouble(in Input) string {
	redis, presence, gateway := verdicts(in)
	var out []string
	for _, v := range []verdict{redis, presence, gateway} {
		if !v.complete && (v.stuck || v.cause.text != "" && !v.cause.passing) {
			out = append(out, v.reason+" "+v.cause.text)
		}
	}
	return strings.Join(out, "\n")
}

// ready is what the condition Ready says, and whether anybody still works on what is missing.
type ready struct {
	status          metav1.ConditionStatus
	reason, message string
	working         bool
}

// readiness decides about Ready: it is true if nothing went wrong and every component has all its pods,
// with the current template. All faults are reported together, under the reason of the first, and so are
// the components, with the hint of the first.
func readiness(faults []Fault, components ...verdict) ready {
	var working bool
	for _, f := range faults {
		working = working || f.Works
	}
	missing := filter(components, func(v verdict) bool { return !v.complete })
	switch {
	case len(faults) > 0:
		return ready{metav1.ConditionFalse, faults[0].Reason, messages(faults), working}
	case len(missing) > 0:
		// What has a cause comes first: the others often wait for just that.
		explained := func(v verdict) bool { return v.cause.text != "" }
		missing = append(filter(missing, explained), filter(missing, func(v verdict) bool { return !explained(v) })...)
		text := make([]string, 0, len(missing))
		for _, c := range missing {
			text = append(text, c.message)
		}
		return ready{metav1.ConditionFalse, missing[0].reason, strings.Join(text, ". ") + missing[0].hint, true}
	default:
		return ready{metav1.ConditionTrue, ReasonReady, "Everything in the spec is in effect", false}
	}
}

func stalling(faults []Fault) []Fault {
	return filter(faults, func(f Fault) bool { return f.Stalls })
}

func filter[T any](all []T, keep func(T) bool) []T {
	var out []T
	for _, one := range all {
		if keep(one) {
			out = append(out, one)
		}
	}
	return out
}

func messages(faults []Fault) string {
	text := make([]string, 0, len(faults))
	for _, f := range faults {
		text = append(text, f.Message)
	}
	return strings.Join(text, ". ")
}

// ownerKey is, after the prefix, the key in which package presence/store remembers whose keys a Redis holds. The
// operator knows nothing else of what is there, and this only to tell people.
const ownerKey = "{gw}:owner"

// redisVerdict judges the Redis. The operator does not connect to an external one; that a pod of the
// data plane is ready proves that it did, for pods get ready only after their first success.
func redisVerdict(in Input) verdict {
	managed := in.IMCluster.Spec.Redis.Managed
	if managed == nil {
		prefix := ptr.Deref(in.IMCluster.Spec.Redis.External, v1alpha1.ExternalRedis{}).KeyPrefix
		switch {
		case availablePods(in.Presence)+availablePods(in.Gateway) > 0:
			return verdict{status: metav1.ConditionTrue, reason: ReasonExternal, complete: true,
				message: "The external Redis was reached by the pods that are ready"}
		case compose.PresenceReplicas(in.IMCluster)+compose.GatewayReplicas(in.IMCluster) == 0:
			return verdict{status: metav1.ConditionUnknown, reason: ReasonNotUsed, complete: true,
				message: "No pods are wanted that would use the external Redis"}
		default:
			return verdict{status: metav1.ConditionUnknown, reason: ReasonNotReached,
				message: "No pod has reached the external Redis yet; if this stays, check spec.redis.external and the logs of a gateway pod. " +
					"If they say that the keys belong to another IMCluster, set another keyPrefix, or delete the key " +
					prefix + ownerKey + " if that IMCluster is gone for good"}
		}
	}
	v := workload("redis", in.Redis, 1).because(causeOf(in, naming.Redis, in.Redis))
	if v.reason == ReasonAvailable {
		v.message = "The managed Redis is ready"
		if managed.Storage == nil {
			v.reason = ReasonEphemeral
			v.message = "The managed Redis is ready. When its pod restarts it loses the messages that are still to be delivered, and " +
				"forgets groups and when users were last seen, because spec.redis.managed.storage is not set; who is connected is registered again"
		}
	}
	return v
}

func availablePods(d *appsv1.Deployment) int32 {
	if d == nil {
		return 0
	}
	return d.Status.AvailableReplicas
}

func gatewayStatus(in Input) *v1alpha1.GatewayStatus {
	im := in.IMCluster
	out := &v1alpha1.GatewayStatus{
		DesiredReplicas: compose.GatewayReplicas(im),
		Selector:        naming.SelectorString(im.Name, naming.Gateway),
		Image:           compose.DataPlaneImage(im, in.Images),
	}
	if in.Gateway != nil {
		s := in.Gateway.Status
		out.Replicas, out.ReadyReplicas, out.UpdatedReplicas = s.Replicas, s.ReadyReplicas, s.UpdatedReplicas
	}
	out.Summary = fmt.Sprintf("%d/%d", out.ReadyReplicas, out.DesiredReplicas)
	return out
}

func presenceStatus(in Input) *v1alpha1.PresenceStatus {
	out := &v1alpha1.PresenceStatus{}
	if in.Presence != nil {
		out.ReadyReplicas = in.Presence.Status.ReadyReplicas
	}
	out.Summary = fmt.Sprintf("%d/%d", out.ReadyReplicas, compose.PresenceReplicas(in.IMCluster))
	return out
}

func redisStatus(im *v1alpha1.IMCluster, v verdict) *v1alpha1.RedisStatus {
	out := &v1alpha1.RedisStatus{Summary: v.reason, Mode: v1alpha1.RedisModeStandalone}
	if external := im.Spec.Redis.External; external != nil {
		out.Mode = external.Mode
	}
	return out
}

// condition keeps the time of a condition whose status stays the same.
func condition(im *v1alpha1.IMCluster, now time.Time, kind string, status metav1.ConditionStatus, reason, message string) metav1.Condition {
	out := metav1.Condition{
		Type: kind, Status: status, Reason: reason, Message: message,
		ObservedGeneration: im.Generation,
		LastTransitionTime: metav1.NewTime(now.Truncate(time.Second)),
	}
	for _, old := range im.Status.Conditions {
		if old.Type == kind && old.Status == status {
			out.LastTransitionTime = old.LastTransitionTime
		}
	}
	return out
}

// Find returns the condition of a type, or the zero value.
func Find(conditions []metav1.Condition, kind string) metav1.Condition {
	for _, c := range conditions {
		if c.Type == kind {
			return c
		}
	}
	return metav1.Condition{}
}
