package compose_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/imcluster/imcluster/api/v1alpha1"
	"github.com/imcluster/imcluster/controllers/compose"
)

var update = flag.Bool("update", false, "write the golden files")

// redisAuth is the UID of the Secret with the users of a managed Redis.
const redisAuth = "6f1ad1bd-0000-4000-8000-000000000002"

var images = compose.Images{DataPlane: "DATAPLANE", Redis: "REDIS"}

// imcluster returns the smallest IMCluster; change makes it another one.
func imcluster(change ...func(*v1alpha1.IMCluster)) *v1alpha1.IMCluster {
	im := &v1alpha1.IMCluster{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "chat", UID: "6f1ad1bd-0000-4000-8000-000000000001"},
		Spec: v1alpha1.IMClusterSpec{
			Auth:  v1alpha1.Auth{Mode: v1alpha1.AuthModeInsecure},
			Redis: v1alpha1.Redis{Managed: &v1alpha1.ManagedRedis{}},
		},
	}
	for _, f := range change {
		f(im)
	}
	return im
}

// sample reads the IMCluster of a file in config/samples.
func sample(t *testing.T, file string) *v1alpha1.IMCluster {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for document := range bytes.SplitSeq(data, []byte("\n---\n")) {
		im := &v1alpha1.IMCluster{}
		if err := yaml.UnmarshalStrict(document, im); err == nil && im.Kind == v1alpha1.Kind {
			im.Namespace, im.UID = "default", "6f1ad1bd-0000-4000-8000-000000000001"
			return im
		}
	}
	t.Fatalf("%s holds no IMCluster", file)
	return nil
}

// A difference in a golden file under "template:" means that a release with it replaces pods, which makes
// every user reconnect. Be sure that it is worth it.
func TestSamplesAreComposedAsRecorded(t *testing.T) {
	files, err := filepath.Glob("../../config/samples/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		if name == "kustomization.yaml" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			objects, err := compose.Objects(sample(t, file), images, redisAuth)
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			for _, object := range objects {
				text, err := yaml.Marshal(object)
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&got, "---\n%s", text)
			}
			golden := filepath.Join("testdata", name)
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("go test ./controllers/compose -update records the new state (-recorded +composed):\n%s", diff)
			}
		})
	}
}

// find returns the object of a kind and name.
func find[T compose.Object](t *testing.T, objects []compose.Object, name string) T {
	t.Helper()
	for _, object := range objects {
		if found, ok := object.(T); ok && *object.GetName() == name {
			return found
		}
	}
	var none T
	t.Fatalf("no %T %s", none, name)
	return none
}

func composed(t *testing.T, im *v1alpha1.IMCluster) []compose.Object {
	t.Helper()
	objects, err := compose.Objects(im, images, redisAuth)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// container returns the one container of a component's pods.
func container(t *testing.T, im *v1alpha1.IMCluster, component string) corev1ac.ContainerApplyConfiguration {
	t.Helper()
	d := find[*appsv1ac.DeploymentApplyConfiguration](t, composed(t, im), im.Name+"-"+component)
	return d.Spec.Template.Spec.Containers[0]
}

func TestHeapStaysBelowTheMemoryLimit(t *testing.T) {
	for _, tc := range []struct {
		name      string
		resources *v1alpha1.Resources
		want      string
	}{
		{"default of 512Mi", nil, "483183819"},
		{"given limit", &v1alpha1.Resources{Limits: corev1.ResourceList{"memory": resource.MustParse("1G")}}, "900000000"},
		{"no limit", &v1alpha1.Resources{Requests: corev1.ResourceList{"memory": resource.MustParse("1G")}}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := container(t, imcluster(func(im *v1alpha1.IMCluster) { im.Spec.Gateway.Resources = tc.resources }), "gateway")
			got := ""
			for _, env := range c.Env {
				if *env.Name == "GOMEMLIMIT" {
					got = *env.Value
				}
			}
			if got != tc.want {
				t.Errorf("GOMEMLIMIT = %q, want %q", got, tc.want)
			}
		})
	}
}

func TestGraceOfPodsFollowsTheDrainWindow(t *testing.T) {
	im := imcluster(func(im *v1alpha1.IMCluster) {
		im.Spec.Gateway.Drain = &v1alpha1.Drain{WindowSeconds: new(int32(600))}
	})
	d := find[*appsv1ac.DeploymentApplyConfiguration](t, composed(t, im), "chat-gateway")
	if got := *d.Spec.Template.Spec.TerminationGracePeriodSeconds; got != 615 {
		t.Errorf("terminationGracePeriodSeconds = %d, want 615", got)
	}
	if got := *d.Spec.ProgressDeadlineSeconds; got != 900 {
		t.Errorf("progressDeadlineSeconds = %d, want 900", got)
	}
}

func TestRedisKeepsRoomBesideItsData(t *testing.T) {
	for _, tc := range []struct {
		name    string
		managed v1alpha1.ManagedRedis
		want    []string
	}{
		{"in memory", v1alpha1.ManagedRedis{}, []string{"maxmemory 201326550\n", "appendonly no\n", "maxmemory-policy noeviction\n"}},
		{"on a volume", v1alpha1.ManagedRedis{Memory: "1Gi", Storage: &v1alpha1.RedisStorage{Size: "4Gi"}},
			[]string{"maxmemory 644245080\n", "appendonly yes\n", "appendfsync everysec\n", "maxmemory-policy noeviction\n"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			objects := composed(t, imcluster(func(im *v1alpha1.IMCluster) { im.Spec.Redis.Managed = &tc.managed }))
			config := find[*corev1ac.ConfigMapApplyConfiguration](t, objects, "chat-redis").Data["redis.conf"]
			for _, want := range tc.want {
				if !strings.Contains(config, want) {
					t.Errorf("redis.conf lacks %q:\n%s", want, config)
				}
			}
		})
	}
}

func TestOnlyRedisConfigurationRollsRedis(t *testing.T) {
	hash := func(change ...func(*v1alpha1.IMCluster)) string {
		d := find[*appsv1ac.DeploymentApplyConfiguration](t, composed(t, imcluster(change...)), "chat-redis")
		return d.Spec.Template.Annotations["imcluster.dev/config-hash"]
	}
	before := hash()
	if after := hash(func(im *v1alpha1.IMCluster) { im.Spec.Gateway.MaxConnectionsPerPod = new(int32(5)) }); after != before {
		t.Error("a setting of gateways rolls Redis")
	}
	if after := hash(func(im *v1alpha1.IMCluster) { im.Spec.Redis.Managed.Memory = "1Gi" }); after == before {
		t.Error("another maxmemory does not roll Redis")
	}
}

func TestSinglePodsHaveNoDisruptionBudget(t *testing.T) {
	for _, object := range composed(t, imcluster(func(im *v1alpha1.IMCluster) {
		im.Spec.Gateway.Replicas, im.Spec.Presence.Replicas = new(int32(1)), new(int32(0))
	})) {
		if *object.GetKind() == "PodDisruptionBudget" {
			t.Errorf("there is a budget %s", *object.GetName())
		}
	}
}

func TestUnreadableQuantitiesNameTheirField(t *testing.T) {
	_, err := compose.Objects(imcluster(func(im *v1alpha1.IMCluster) { im.Spec.Redis.Managed.Memory = "lots" }), images, redisAuth)
	want := `spec.redis.managed.memory: "lots" is not a quantity such as 512Mi`
	if err == nil || err.Error() != want {
		t.Errorf("error is %v, want %s", err, want)
	}
}

// Every pod meets the restricted Pod Security Standard and has a read-only root file system.
func TestPodsAreRestricted(t *testing.T) {
	for _, component := range []string{"gateway", "presence", "redis"} {
		t.Run(component, func(t *testing.T) {
			pod := find[*appsv1ac.DeploymentApplyConfiguration](t, composed(t, imcluster()), "chat-"+component).Spec.Template.Spec
			if *pod.AutomountServiceAccountToken {
				t.Error("has a token for the Kubernetes API")
			}
			if !*pod.SecurityContext.RunAsNonRoot || *pod.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
				t.Errorf("pod security context %+v", pod.SecurityContext)
			}
			c := pod.Containers[0].SecurityContext
			if *c.AllowPrivilegeEscalation || !*c.ReadOnlyRootFilesystem || len(c.Capabilities.Drop) != 1 || c.Capabilities.Drop[0] != "ALL" {
				t.Errorf("container security context %+v", c)
			}
		})
	}
}

// The comments of fields are what "kubectl explain" says about defaults; they must be the ones in force.
func TestCommentsNameTheDefaultsInForce(t *testing.T) {
	crd, err := os.ReadFile("../../config/crd/imcluster.dev_imclusters.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(string(crd)), " ")
	gateway := strings.Join(container(t, imcluster(), "gateway").Args, " ") + " "
	presence := strings.Join(container(t, imcluster(), "presence").Args, " ") + " "
	for _, tc := range []struct{ comment, args, flag string }{
		{"accepts; further clients are told to come back later. Default 20000.", gateway, "--max-connections=20000 "},
		{"what is left then is closed. Default 120.", gateway, "--drain-window=120s "},
		{"over all pods that drain at the same time. Default 200.", gateway, "--drain-max-reconnects-per-second=200 "},
		{"A clean logout shows at once. Default 10.", presence, "--grace=10s "},
		{"Default 604800 (7 days).", presence, "--last-seen-retention=604800s "},
	} {
		if !strings.Contains(text, tc.comment) {
			t.Errorf("no comment says %q", tc.comment)
		}
		if !strings.Contains(tc.args, tc.flag) {
			t.Errorf("arguments %q lack %q", tc.args, tc.flag)
		}
	}
}
