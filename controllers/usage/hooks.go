package usage

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/imcluster/imcluster/api/v1alpha1"
	imv1ac "github.com/imcluster/imcluster/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/imcluster/imcluster/controllers/status"
	"github.com/imcluster/imcluster/presence/internalapi"
)

// HooksFieldManager owns status.hooks and the condition HooksDelivering.
const HooksFieldManager = "imcluster-hooks"

// delivery is what was last written about hooks.
type delivery struct {
	status    *v1alpha1.HooksStatus
	condition metav1.Condition
	written   time.Time
}

func deliveryOf(im *v1alpha1.IMCluster) delivery {
	return delivery{status: im.Status.Hooks, condition: status.Find(im.Status.Conditions, v1alpha1.ConditionHooksDelivering)}
}

// pollHooks asks how far the receiver of the hooks is behind, and writes it if it is worth it.
func (c *Collector) pollHooks(ctx context.Context, im *v1alpha1.IMCluster, p *plan) error {
	if im.Spec.Presence.Hooks == nil {
		return c.forgetHooks(ctx, im, p)
	}
	var got *internalapi.HookDelivery
	err := c.access.Call(ctx, im, func(ctx context.Context, api *internalapi.Client) (err error) {
		got, err = api.Hooks(ctx)
		return err
	})
	if err != nil || got.Pods == 0 { // no pod has the hooks yet, or has reported
		return err
	}
	before := p.hooks
	next, condition := status.Delivery(im, before.condition, got, time.Now())
	if !hooksWorthWriting(before, next, condition) || time.Since(before.written) < writeInterval {
		return nil
	}
	ac := imv1ac.IMClusterStatus().WithConditions(conditionConfiguration(condition)).WithHooks(hooksConfiguration(next))
	if err := c.writeHooks(ctx, im, ac); err != nil {
		return err
	}
	p.hooks = delivery{next, condition, time.Now()}
	c.announceHooks(im, before.condition, condition)
	return nil
}

// forgetHooks takes away what was written of hooks that are not wanted any more.
func (c *Collector) forgetHooks(ctx context.Context, im *v1alpha1.IMCluster, p *plan) error {
	if p.hooks.status == nil && p.hooks.condition.Type == "" {
		return nil
	}
	if err := c.writeHooks(ctx, im, imv1ac.IMClusterStatus()); err != nil {
		return err
	}
	p.hooks = delivery{}
	return nil
}

func (c *Collector) writeHooks(ctx context.Context, im *v1alpha1.IMCluster, s *imv1ac.IMClusterStatusApplyConfiguration) error {
	ac := imv1ac.IMCluster(im.Name, im.Namespace).WithUID(im.UID).WithStatus(s)
	if err := c.client.Status().Apply(ctx, ac, client.FieldOwner(HooksFieldManager), client.ForceOwnership); err != nil {
		return client.IgnoreNotFound(fmt.Errorf("write the delivery of hooks: %w", err))
	}
	return nil
}

func conditionConfiguration(c metav1.Condition) *metav1ac.ConditionApplyConfiguration {
	return metav1ac.Condition().WithType(c.Type).WithStatus(c.Status).WithReason(c.Reason).WithMessage(c.Message).
		WithObservedGeneration(c.ObservedGeneration).WithLastTransitionTime(c.LastTransitionTime)
}

func hooksConfiguration(s *v1alpha1.HooksStatus) *imv1ac.HooksStatusApplyConfiguration {
	ac := imv1ac.HooksStatus().WithPending(s.Pending).WithAsOf(s.AsOf)
	if !s.OldestPending.IsZero() {
		ac.WithOldestPending(s.OldestPending)
	}
	if !s.LastSuccess.IsZero() {
		ac.WithLastSuccess(s.LastSuccess)
	}
	if s.LastError != "" {
		ac.WithLastError(s.LastError)
	}
	return ac
}

// hooksWorthWriting reports whether the condition says something new, or the number of users has moved. When the receiver last took
// events is not: it is now, as long as nothing is wrong.
func hooksWorthWriting(old delivery, now *v1alpha1.HooksStatus, condition metav1.Condition) bool {
	said := func(c metav1.Condition) []any { return []any{c.Status, c.Reason, c.Message, c.ObservedGeneration} }
	return old.status == nil || moved(old.status.Pending, now.Pending) || !slices.Equal(said(old.condition), said(condition))
}

// announceHooks makes an event and a log line when the receiver begins to be behind, and when it is not any more.
func (c *Collector) announceHooks(im *v1alpha1.IMCluster, before, now metav1.Condition) {
	kind := corev1.EventTypeNormal
	switch {
	case before.Reason == now.Reason, before.Type == "" && now.Status == metav1.ConditionTrue:
		return
	case now.Status != metav1.ConditionTrue:
		kind = corev1.EventTypeWarning
	}
	c.recorder.Eventf(im, nil, kind, now.Reason, "DeliverHooks", "%s", now.Message)
	c.log.Info("The delivery of hooks changed", "imcluster", client.ObjectKeyFromObject(im), "reason", now.Reason, "message", now.Message)
}
