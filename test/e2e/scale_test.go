package e2e

import (
	"bufio"
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	imv1 "github.com/imcluster/imcluster/api/v1alpha1"
)

func TestKubectlScaleUpAndBack(t *testing.T) {
	p := start(t, newIMCluster(namespace(t), "scale"))
	for _, n := range []int{5, 2} {
		if _, err := kubectl(t.Context(), "-n", p.key.Namespace, "scale", "imc/"+p.key.Name, fmt.Sprintf("--replicas=%d", n)); err != nil {
			t.Fatal(err)
		}
		eventually(t, startTimeout, func() error {
			if got := len(p.pods("gateway")); got != n {
				return fmt.Errorf("%d gateway pods run, want %d", got, n)
			}
			if got, want := p.get().Status.Gateway.Summary, fmt.Sprintf("%d/%d", n, n); got != want {
				return fmt.Errorf("status shows %s gateways, want %s", got, want)
			}
			return nil
		})
		p.waitReady()
	}
}

func TestChangeOfThePodTemplateRollsTheGateways(t *testing.T) {
	p := start(t, newIMCluster(namespace(t), "roll"))
	before := uids(p.pods("gateway"))
	imc := p.get()
	limit := int32(1000)
	imc.Spec.Gateway.MaxConnectionsPerPod = &limit
	if err := cluster.Update(t.Context(), imc); err != nil {
		t.Fatal(err)
	}
	p.waitReady()
	eventually(t, startTimeout, func() error {
		pods := p.pods("gateway")
		for _, pod := range pods {
			if before[pod.UID] {
				return fmt.Errorf("pod %s of the old template still runs", pod.Name)
			}
		}
		if len(pods) != 2 {
			return fmt.Errorf("%d gateway pods run, want 2", len(pods))
		}
		return nil
	})
}

// TestUnchangedSpecMakesNoWrites counts the requests that the API server got, so a server-side apply that changes
// nothing counts too.
func TestUnchangedSpecMakesNoWrites(t *testing.T) {
	p := start(t, newIMCluster(namespace(t), "quiet"))
	// Platforms of earlier tests must be gone; usage is written for the first time once presence knows all gateways; and
	// the status follows the pods for a moment after Ready.
	eventually(t, 2*time.Minute, func() error {
		list := &imv1.IMClusterList{}
		if err := cluster.List(t.Context(), list); err != nil {
			return err
		}
		if len(list.Items) != 1 || list.Items[0].Status.Usage == nil {
			return fmt.Errorf("%d IMClusters, the first with usage %v; want just this one, with usage", len(list.Items), list.Items[0].Status.Usage)
		}
		return nil
	})
	previous := applies(t)
	eventually(t, 2*time.Minute, func() error {
		wait(t, 15*time.Second)
		now := applies(t)
		if !maps.Equal(now, previous) {
			previous = now
			return fmt.Errorf("still applying: %v", now)
		}
		return nil
	})
	wait(t, 20*time.Second)
	if now := applies(t); !maps.Equal(now, previous) {
		t.Errorf("applies in 20 s with nothing to do:\nbefore %v\nafter  %v", previous, now)
	}
	// What somebody else adds to an object of ours is left alone.
	service := &corev1.Service{}
	key := client.ObjectKey{Namespace: p.key.Namespace, Name: p.key.Name + "-presence"}
	if err := cluster.Get(t.Context(), key, service); err != nil {
		t.Fatal(err)
	}
	patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"annotations":{"example.com/note":"mine"}}}`))
	if err := cluster.Patch(t.Context(), service, patch); err != nil {
		t.Fatal(err)
	}
	wait(t, 3*time.Second)
	if err := cluster.Get(t.Context(), key, service); err != nil {
		t.Fatal(err)
	}
	if service.Annotations["example.com/note"] != "mine" {
		t.Errorf("a foreign annotation was not left alone: %v", service.Annotations)
	}
}

func TestDriftIsRepaired(t *testing.T) {
	p := start(t, newIMCluster(namespace(t), "drift"))
	key := client.ObjectKey{Namespace: p.key.Namespace, Name: p.key.Name + "-gateway"}
	service := &corev1.Service{}
	if err := cluster.Get(t.Context(), key, service); err != nil {
		t.Fatal(err)
	}
	old := service.UID
	if err := cluster.Delete(t.Context(), service); err != nil {
		t.Fatal(err)
	}
	if _, err := kubectl(t.Context(), "-n", key.Namespace, "scale", "deploy/"+key.Name, "--replicas=3"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, func() error {
		if err := cluster.Get(t.Context(), key, service); err != nil {
			return err
		}
		if service.UID == old {
			return fmt.Errorf("Service %s still is the deleted one", key.Name)
		}
		deployment := &appsv1.Deployment{}
		if err := cluster.Get(t.Context(), key, deployment); err != nil {
			return err
		}
		if got := *deployment.Spec.Replicas; got != 2 {
			return fmt.Errorf("Deployment wants %d replicas, want 2", got)
		}
		return nil
	})
	p.waitReady()
}

var applyMetric = regexp.MustCompile(
	`^apiserver_request_total\{.*group="(imcluster.dev|apps|policy|)",resource="([a-z]+)".*subresource="([a-z]*)",verb="APPLY".*\} (\S+)$`)

// applies returns how many server-side applies of the groups that our kinds are of the API server has had, by resource.
func applies(t *testing.T) map[string]float64 {
	t.Helper()
	out, err := kubectl(t.Context(), "get", "--raw", "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]float64{}
	for lines := bufio.NewScanner(strings.NewReader(out)); lines.Scan(); {
		if m := applyMetric.FindStringSubmatch(lines.Text()); m != nil {
			n, err := strconv.ParseFloat(m[4], 64)
			if err != nil {
				t.Fatal(err)
			}
			counts[strings.Trim(m[1]+"/"+m[2]+"/"+m[3], "/")] += n
		}
	}
	if len(counts) == 0 {
		t.Fatal("the API server's metrics count no apply at all: this test cannot see what it looks for")
	}
	return counts
}

func uids(pods []*corev1.Pod) map[types.UID]bool {
	set := map[types.UID]bool{}
	for _, pod := range pods {
		set[pod.UID] = true
	}
	return set
}
