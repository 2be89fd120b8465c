package e2e

import (
	"testing"
	"time"
)

// TestChartUninstallKeepsThePlatform shows that the operator can go and come back: IMClusters, their pods and their
// users stay.
func TestChartUninstallKeepsThePlatform(t *testing.T) {
	p := start(t, newIMCluster(namespace(t), "kept"))
	pods := uids(p.pods("gateway"))
	user := login(t, forward(t, p.pods("gateway")[0], 8080), "alice").hold()

	if _, err := helm(t.Context(), "uninstall", release, "--namespace", operatorNamespace, "--wait"); err != nil {
		t.Fatal(err)
	}
	p.get()
	p.waitState(5*time.Second, map[string]string{"alice": "online"})
	if err := installChart(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.waitReady()
	for _, pod := range p.pods("gateway") {
		if !pods[pod.UID] {
			t.Errorf("pod %s is new: the new operator rolled the gateways", pod.Name)
		}
	}
	select {
	case err := <-user:
		t.Errorf("alice was disconnected: %v", err)
	default:
	}
}

// TestChartUpgradeRollsNobody upgrades the operator with other settings of its own; the data plane must not notice.
func TestChartUpgradeRollsNobody(t *testing.T) {
	p := start(t, newIMCluster(namespace(t), "upgraded"))
	pods := uids(p.pods("gateway"))
	if _, err := helm(t.Context(), "upgrade", release, "../../charts/imcluster", "--namespace", operatorNamespace,
		"--reuse-values", "--set", "podAnnotations.e2e=upgrade", "--wait", "--timeout", "2m"); err != nil {
		t.Fatal(err)
	}
	p.waitReady()
	for _, pod := range p.pods("gateway") {
		if !pods[pod.UID] {
			t.Errorf("pod %s is new: an upgrade of the operator alone rolled the gateways", pod.Name)
		}
	}
}
