// Package charts holds the Helm chart of the operator, and its tests.
package charts

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/imcluster/imcluster/internal/testenv"
)

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// helm runs Helm and returns what it printed.
func helm(t *testing.T, args ...string) (string, error) {
	t.Helper()
	binary := os.Getenv("IMC_HELM")
	if binary == "" {
		var err error
		if binary, err = exec.LookPath("helm"); err != nil {
			t.Fatal(`this test needs Helm: put it on PATH or set IMC_HELM. "make test" does that; ` +
				`"go -C test/cluster run ./cmd/cluster tools" builds it`)
		}
	}
	out, err := exec.CommandContext(t.Context(), binary, args...).CombinedOutput()
	return string(out), err
}

// template renders the chart; it must succeed.
func template(t *testing.T, set ...string) string {
	t.Helper()
	args := []string{"template", "imcluster", "imcluster", "--namespace", "imcluster-system"}
	for _, s := range set {
		args = append(args, "--set", s)
	}
	out, err := helm(t, args...)
	if err != nil {
		t.Fatalf("helm template: %v\n%s", err, out)
	}
	return out
}

// objects parses a rendered chart.
func objects(t *testing.T, rendered string) []*unstructured.Unstructured {
	t.Helper()
	var out []*unstructured.Unstructured
	for document := range strings.SplitSeq(rendered, "\n---\n") {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), &object.Object); err != nil {
			t.Fatal(err)
		}
		if len(object.Object) > 0 {
			out = append(out, object)
		}
	}
	return out
}

func TestChartPassesLint(t *testing.T) {
	if out, err := helm(t, "lint", "--strict", "imcluster"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestChartRendersAsRecorded(t *testing.T) {
	for name, set := range map[string][]string{
		"default": {"crds.enabled=false"},
		"namespaces": {"crds.enabled=false", "rbac.aggregate=false", "watchNamespaces={chat,games}", "replicas=2",
			"image.digest=sha256:" + strings.Repeat("0", 64), "imagePullSecrets[0].name=registry"},
	} {
		t.Run(name, func(t *testing.T) {
			got := template(t, set...)
			golden := filepath.Join("testdata", name+".yaml")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("go test ./charts -update records the new state (-recorded +rendered):\n%s", diff)
			}
		})
	}
}

// The definition must survive an uninstall: Kubernetes deletes every IMCluster with it.
func TestDefinitionIsKept(t *testing.T) {
	for _, object := range objects(t, template(t)) {
		if object.GetKind() != "CustomResourceDefinition" {
			continue
		}
		if got := object.GetAnnotations()["helm.sh/resource-policy"]; got != "keep" {
			t.Errorf("helm.sh/resource-policy is %q", got)
		}
		return
	}
	t.Error("the chart has no definition")
}

func TestFaultyValuesAreRefused(t *testing.T) {
	for set, want := range map[string]string{
		"imge.tag=v1":                  "imge",
		"dataPlane.image=":             "/dataPlane/image",
		"replicas=many":                "/replicas",
		"image.digest=latest":          "/image/digest",
		"watchNamespaces={Chat}":       "/watchNamespaces/0",
		"serviceAccount.create=false":  "serviceAccount.name is required",
		"metrics.service.enabled=true": "/metrics/service",
	} {
		t.Run(set, func(t *testing.T) {
			out, err := helm(t, "template", "imcluster", "imcluster", "--set", set)
			if err == nil || !strings.Contains(out, want) {
				t.Errorf("helm template --set %s: %v\n%s\nwant an error about %s", set, err, out, want)
			}
		})
	}
}

// The operator reads Secrets by name. It may not list or watch them, in any mode.
func TestNoRightToSeeAllSecrets(t *testing.T) {
	for _, set := range []string{"replicas=1", "watchNamespaces={chat}"} {
		for _, object := range objects(t, template(t, set)) {
			if object.GetKind() != "ClusterRole" && object.GetKind() != "Role" {
				continue
			}
			data, err := object.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			var role rbacv1.ClusterRole
			if err := yaml.Unmarshal(data, &role); err != nil {
				t.Fatal(err)
			}
			for _, rule := range role.Rules {
				all := strings.Join(append(append([]string{}, rule.Verbs...), rule.Resources...), " ")
				if strings.Contains(all, "*") || (strings.Contains(all, "secrets") && (strings.Contains(all, "list") || strings.Contains(all, "watch"))) {
					t.Errorf("%s %s has the rule %+v", object.GetKind(), object.GetName(), rule)
				}
			}
		}
	}
}

// Everything in the chart, and in the kustomize bases that are rendered from it, is valid for a real API
// server, and the pod meets the restricted Pod Security Standard.
func TestAPIServerAcceptsEverything(t *testing.T) {
	c := testenv.Client(t)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: "imcluster-system", Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"},
	}}
	if err := c.Create(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	bases := template(t, "crds.enabled=false")
	for _, file := range []string{"rbac/rbac.yaml", "manager/manager.yaml"} {
		data, err := os.ReadFile(filepath.Join(testenv.Root(), "config", file))
		if err != nil {
			t.Fatal(err)
		}
		bases += "\n---\n" + string(bytes.TrimSpace(data))
	}
	for _, object := range objects(t, bases) {
		if err := c.Create(t.Context(), object.DeepCopy(), client.DryRunAll); err != nil {
			t.Errorf("%s %s: %v", object.GetKind(), object.GetName(), err)
		}
		if object.GetKind() != "Deployment" {
			continue
		}
		template, _, err := unstructured.NestedMap(object.Object, "spec", "template")
		if err != nil {
			t.Fatal(err)
		}
		pod := &unstructured.Unstructured{Object: template}
		pod.SetAPIVersion("v1")
		pod.SetKind("Pod")
		pod.SetName("operator")
		pod.SetNamespace(namespace.Name)
		if err := c.Create(t.Context(), pod, client.DryRunAll); err != nil {
			t.Errorf("pod: %v", err)
		}
	}
}
