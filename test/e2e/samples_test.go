package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// samples are the IMClusters of config/samples, by file.
var samples = map[string]string{"quickstart.yaml": "chat", "production.yaml": "im", "external-redis.yaml": "ext", "identity-provider.yaml": "sso"}

func TestEverySampleBecomesReady(t *testing.T) {
	files, err := filepath.Glob("../../config/samples/[^k]*.yaml")
	if err != nil || len(files) != len(samples) {
		t.Fatalf("samples are %v (%v), want those of this test: %v", files, err, samples)
	}
	for _, file := range files {
		base := filepath.Base(file)
		t.Run(strings.TrimSuffix(base, ".yaml"), func(t *testing.T) {
			ns := namespace(t)
			if base == "external-redis.yaml" {
				externalRedis(t, ns)
			}
			if _, err := kubectl(t.Context(), "-n", ns, "apply", "-f", file); err != nil {
				t.Fatal(err)
			}
			p := &platform{t: t, key: client.ObjectKey{Namespace: ns, Name: samples[base]}}
			p.waitReady()
			out, err := kubectl(t.Context(), "-n", ns, "get", "imc")
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("kubectl get imc\n%s", out)
		})
	}
}

// TestInvalidIMClustersAreRefused applies each IMCluster that is wrong; the comments at the top of its file are what the
// refusal must say.
func TestInvalidIMClustersAreRefused(t *testing.T) {
	ns := namespace(t)
	files, err := filepath.Glob("../../api/v1alpha1/testdata/refused/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no invalid IMClusters: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			out, err := kubectl(t.Context(), "-n", ns, "apply", "-f", file)
			if err == nil {
				t.Fatal("it was accepted")
			}
			for line := range strings.Lines(string(data)) {
				want, comment := strings.CutPrefix(strings.TrimSpace(line), "# refused: ")
				if !comment {
					break
				}
				if !strings.Contains(out, want) {
					t.Errorf("refused with\n%s\nwhich lacks %q", out, want)
				}
			}
		})
	}
}

// externalRedis runs the Redis that the sample expects: one that the operator knows nothing of.
func externalRedis(t *testing.T, ns string) {
	t.Helper()
	labels := map[string]string{"app": "external-redis"}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "external-redis", Labels: labels},
		Spec: corev1.PodSpec{
			AutomountServiceAccountToken: new(false),
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: new(true), RunAsUser: new(int64(999)),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name: "redis", Image: envOr(localRedisImage, "docker.io/valkey/valkey:8.1.4-alpine"),
				Command: []string{"redis-server"},
				Args: []string{"--requirepass", "replace-me-with-the-password", "--maxmemory", "64mb",
					"--maxmemory-policy", "noeviction", "--save", "", "--dir", "/tmp"},
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
					Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
				VolumeMounts: []corev1.VolumeMount{{Name: "tmp", MountPath: "/tmp"}},
			}},
			Volumes: []corev1.Volume{{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
		},
	}
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "external-redis"},
		Spec: corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{{
			Name: "redis", Port: 6379, TargetPort: intstr.FromInt32(6379)}}},
	}
	for _, object := range []client.Object{pod, service} {
		if err := cluster.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
}
