package status

import (
	"fmt"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/imcluster/imcluster/api/v1alpha1"
	"github.com/imcluster/imcluster/presence/internalapi"
)

// Reasons of the condition HooksDelivering.
const (
	ReasonDelivering          = "Delivering"
	ReasonReceiverRefuses     = "ReceiverRefuses"
	ReasonReceiverUnreachable = "ReceiverUnreachable"
	ReasonBehind              = "Behind"
)

const (
	// onItsWay is for how long a change may wait before it counts as pending: one that is on its way would otherwise make the
	// status change all the time.
	onItsWay = 10 * time.Second
	// late is after how long a change that the receiver of the hooks was not told of makes HooksDelivering false.
	late = time.Minute
)

// Delivery returns status.hooks and the condition HooksDelivering of an IMCluster whose presence says d. Before is the condition as it
// was written last, or the zero value.
func Delivery(im *v1alpha1.IMCluster, before metav1.Condition, d *internalapi.HookDelivery, now time.Time) (*v1alpha1.HooksStatus, metav1.Condition) {
	second := func(t time.Time) metav1.Time {
		if t.IsZero() {
			return metav1.Time{}
		}
		return metav1.NewTime(t.Truncate(time.Second))
	}
	out := &v1alpha1.HooksStatus{LastSuccess: second(d.LastSuccess), AsOf: second(d.AsOf)}
	var waited time.Duration
	if !d.OldestPending.IsZero() {
		waited = d.AsOf.Sub(d.OldestPending)
	}
	if waited > onItsWay {
		out.Pending, out.OldestPending, out.LastError = d.Pending, second(d.OldestPending), shorten(d.LastError)
	}
	c := metav1.Condition{
		Type: v1alpha1.ConditionHooksDelivering, Status: metav1.ConditionTrue, Reason: ReasonDelivering,
		Message:            "The receiver of the hooks is told of changes as they happen",
		ObservedGeneration: im.Generation, LastTransitionTime: second(now),
	}
	// A pod that takes over counts anew how long changes wait, so what was late stays so until the receiver takes something.
	if waited > late || before.Status == metav1.ConditionFalse && d.LastError != "" {
		c.Status = metav1.ConditionFalse
		c.Reason, c.Message = obstacle(im, d)
	}
	if c.Status == before.Status {
		c.LastTransitionTime = before.LastTransitionTime
	}
	return out, c
}

// obstacle says why the receiver is behind, and what to do.
func obstacle(im *v1alpha1.IMCluster, d *internalapi.HookDelivery) (reason, message string) {
	const kept = "; until it takes events again they are kept, and collapse into the last state of each user"
	switch {
	case d.Refusal != 0:
		return ReasonReceiverRefuses, fmt.Sprintf("The receiver of the hooks answers %d, so it does not know of changes that are more than a minute old: %s%s",
			d.Refusal, refusalHint(im, d.Refusal), kept)
	case d.LastError != "":
		return ReasonReceiverUnreachable, fmt.Sprintf("The receiver of the hooks takes no events (%s), so it does not know of changes that are more than a minute old: "+
			"check that it runs, that spec.presence.hooks.url is right, and that presence pods may reach it%s", shorten(d.LastError), kept)
	default:
		return ReasonBehind, "The receiver of the hooks takes events, but some changes have waited for more than a minute: it answers more slowly than " +
			"changes come (imcluster_hook_request_duration_seconds of presence), or it is not known how some users are (RedisAvailable)"
	}
}

// refusalHint says what an answer mostly means.
func refusalHint(im *v1alpha1.IMCluster, code int) string {
	switch code {
	case http.StatusUnauthorized, http.StatusForbidden:
		secret := ""
		if hooks := im.Spec.Presence.Hooks; hooks != nil {
			secret = hooks.SecretRef.Name
		}
		return fmt.Sprintf("check that it verifies signatures with the key in the Secret %s, and that its clock is right", secret)
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusGone:
		return "check the path in spec.presence.hooks.url, which must take POST"
	case http.StatusTooManyRequests:
		return "it takes fewer events than there are; give it more room"
	}
	if code/100 == 3 {
		return "redirections are not followed; set spec.presence.hooks.url to where it leads"
	}
	return "look into its log; status.hooks.lastError quotes the answer"
}
