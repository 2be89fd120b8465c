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
	// The status follows the pods for a moment after Ready.
	previous := applies(t)
	eventually(t, time.Minute, func() error {
		wait(t, 5*time.Second)
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
	// An event that concerns no field of ours, such as a label of somebody else, must not be answered by a write.
	deployment := &appsv1.Deployment{}
	key := client.ObjectKey{Namespace: p.key.Namespace, Name: p.key.Name + "-presence"}
	if err := cluster.Get(t.Context(), key, deployment); err != nil {
		t.Fatal(err)
	}
	generation := deployment.Generation
	if err := cluster.Patch(t.Context(), deployment, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"annotations":{"example.com/note":"mine"}}}`))); err != nil {
		t.Fatal(err)
	}
	wait(t, 3*time.Second)
	if err := cluster.Get(t.Context(), key, deployment); err != nil {
		t.Fatal(err)
	}
	if deployment.Annotations["example.com/note"] != "mine" || deployment.Generation != generation {
		t.Errorf("a foreign annotation was not left alone: %v, generation %d of %d", deployment.Annotations, deployment.Generation, generation)
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

var applyMetric = regexp.MustCompile(`^apiserver_request_total\{.*resource="([a-z]+)".*verb="APPLY".*\} (\S+)$`)

// applies returns how many server-side applies of our kinds the API server has had, by resource.
func applies(t *testing.T) map[string]float64 {
	t.Helper()
	out, err := kubectl(t.Context(), "get", "--raw", "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]float64{}
	for lines := bufio.NewScanner(strings.NewReader(out)); lines.Scan(); {
		if m := applyMetric.FindStringSubmatch(lines.Text()); m != nil {
			n, err := strconv.ParseFloat(m[2], 64)
			if err != nil {
				t.Fatal(err)
			}
			counts[m[1]] += n
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
