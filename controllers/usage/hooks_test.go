package usage

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imcluster/imcluster/api/v1alpha1"
	"github.com/imcluster/imcluster/presence/internalapi"
)

func withHooks(im *v1alpha1.IMCluster) {
	im.Spec.Presence.Hooks = &v1alpha1.Hooks{URL: "https://backend.example.com", SecretRef: v1alpha1.SecretReference{Name: "signing"}}
}

func (p *presence) deliver(d internalapi.HookDelivery) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hooks = d
}

func hookWrites(writes []string) (found []string) {
	for _, w := range writes {
		if w != "0: 0" { // the usage
			found = append(found, w)
		}
	}
	return found
}

func TestDeliveryOfHooksIsWrittenWhenItFailsAndWhenItIsBack(t *testing.T) {
	announced := run(t, func(p *presence, writes *[]string) {
		wait(5 * time.Second)
		p.deliver(internalapi.HookDelivery{Pods: 2, LastSuccess: time.Now()})
		wait(3 * time.Minute)
		// What is on its way is not worth a word.
		p.deliver(internalapi.HookDelivery{Pods: 2, Pending: 7, OldestPending: time.Now(), LastSuccess: time.Now()})
		wait(7 * time.Second)
		p.deliver(internalapi.HookDelivery{Pods: 2, LastSuccess: time.Now()})
		wait(53 * time.Second)
		// The receiver begins to refuse: after 10 s users are pending, after a minute the condition is false.
		refusing := internalapi.HookDelivery{Pods: 2, Pending: 1000, OldestPending: time.Now(), LastError: "the receiver answered 401: who are you?", Refusal: 401}
		p.deliver(refusing)
		wait(5 * time.Minute)
		refusing.Pending = 1005 // 0.5 %
		p.deliver(refusing)
		wait(5 * time.Minute)
		refusing.Pending = 2000
		p.deliver(refusing)
		wait(time.Minute)
		// Another pod takes over, and counts anew.
		refusing.OldestPending = time.Now()
		p.deliver(refusing)
		wait(time.Minute)
		p.deliver(internalapi.HookDelivery{Pods: 2, LastSuccess: time.Now()})
		wait(10 * time.Minute)
		want := []string{"10: Delivering, 0", "260: Delivering, 1000", "310: ReceiverRefuses, 1000", "850: ReceiverRefuses, 2000",
			"910: ReceiverRefuses, 0", "940: ReceiverRefuses, 2000", "970: Delivering, 0"}
		if diff := cmp.Diff(want, hookWrites(*writes)); diff != "" {
			t.Errorf("writes (-want +got):\n%s", diff)
		}
	}, withHooks)
	if diff := cmp.Diff([]string{"Warning ReceiverRefuses", "Normal Delivering"}, announced); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestWithoutHooksTheirStatusIsTakenAway(t *testing.T) {
	run(t, func(_ *presence, writes *[]string) {
		wait(5 * time.Minute)
		if diff := cmp.Diff([]string{"0: nothing"}, hookWrites(*writes)); diff != "" {
			t.Errorf("writes (-want +got):\n%s", diff)
		}
	}, func(im *v1alpha1.IMCluster) { im.Status.Hooks = &v1alpha1.HooksStatus{Pending: 3} })
	run(t, func(_ *presence, writes *[]string) {
		wait(5 * time.Minute)
		if got := hookWrites(*writes); got != nil {
			t.Errorf("wrote %v of hooks that never were", got)
		}
	})
}
