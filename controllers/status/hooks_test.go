package status_test

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/imcluster/imcluster/api/v1alpha1"
	"github.com/imcluster/imcluster/controllers/status"
	"github.com/imcluster/imcluster/presence/internalapi"
)

func TestHooksDeliveringSaysWhatIsInTheWay(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	im := &v1alpha1.IMCluster{Spec: v1alpha1.IMClusterSpec{Presence: v1alpha1.Presence{
		Hooks: &v1alpha1.Hooks{SecretRef: v1alpha1.SecretReference{Name: "signing"}},
	}}}
	im.Generation = 4
	failing := metav1.Condition{Status: metav1.ConditionFalse, LastTransitionTime: metav1.NewTime(now.Add(-time.Hour))}
	for _, tc := range []struct {
		name    string
		waited  time.Duration
		refusal int
		err     string
		before  metav1.Condition
		pending int64
		reason  string
		message string // a part of it
	}{
		{name: "nothing waits", reason: status.ReasonDelivering, message: "as they happen"},
		{name: "on its way", waited: 9 * time.Second, err: "the receiver answered 500", refusal: 500, reason: status.ReasonDelivering},
		{name: "not yet late", waited: 50 * time.Second, err: "the receiver answered 500", refusal: 500, pending: 12, reason: status.ReasonDelivering},
		{name: "signature", waited: 2 * time.Minute, err: "the receiver answered 401", refusal: 401, pending: 12, reason: status.ReasonReceiverRefuses, message: "the key in the Secret signing"},
		{name: "path", waited: 2 * time.Minute, err: "the receiver answered 404", refusal: 404, pending: 12, reason: status.ReasonReceiverRefuses, message: "check the path in spec.presence.hooks.url"},
		{name: "redirection", waited: 2 * time.Minute, err: "the receiver answered 308", refusal: 308, pending: 12, reason: status.ReasonReceiverRefuses, message: "not followed"},
		{name: "fault", waited: 2 * time.Minute, err: "the receiver answered 500: request 17", refusal: 500, pending: 12, reason: status.ReasonReceiverRefuses, message: "answers 500"},
		{name: "silence", waited: 2 * time.Minute, err: "lookup backend: no such host", pending: 12, reason: status.ReasonReceiverUnreachable, message: "no such host"},
		{name: "slow", waited: 2 * time.Minute, pending: 12, reason: status.ReasonBehind, message: "more slowly"},
		{name: "another pod counts anew", waited: time.Second, err: "the receiver answered 500", refusal: 500, before: failing, reason: status.ReasonReceiverRefuses},
		{name: "heard again", waited: time.Second, before: failing, reason: status.ReasonDelivering},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := &internalapi.HookDelivery{AsOf: now, Pods: 2, Refusal: tc.refusal, LastError: tc.err}
			if tc.waited > 0 {
				d.Pending, d.OldestPending = 12, now.Add(-tc.waited)
			}
			got, c := status.Delivery(im, tc.before, d, now)
			if got.Pending != tc.pending || (got.Pending == 0) != got.OldestPending.IsZero() || got.Pending == 0 && got.LastError != "" {
				t.Errorf("status %+v, want %d pending", got, tc.pending)
			}
			wantStatus := metav1.ConditionFalse
			if tc.reason == status.ReasonDelivering {
				wantStatus = metav1.ConditionTrue
			}
			if c.Type != v1alpha1.ConditionHooksDelivering || c.Status != wantStatus || c.Reason != tc.reason || c.ObservedGeneration != 4 ||
				!strings.Contains(c.Message, tc.message) || strings.Contains(c.Message, "request 17") {
				t.Errorf("condition %+v, want %s %s: …%s…", c, wantStatus, tc.reason, tc.message)
			}
			want := now
			if tc.before.Status == wantStatus {
				want = tc.before.LastTransitionTime.Time
			}
			if !c.LastTransitionTime.Time.Equal(want) {
				t.Errorf("it changed at %s, want %s", c.LastTransitionTime, want)
			}
		})
	}
}
