package v1alpha1_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	autoscalingv1 "k8s.io/api/autoscaling/v1"

	"github.com/imcluster/imcluster/api/v1alpha1"
	"github.com/imcluster/imcluster/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// decode reads the objects of a YAML file as kubectl would, and puts them into a namespace.
func decode(t *testing.T, file, namespace string) []*unstructured.Unstructured {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var objects []*unstructured.Unstructured
	for document := range bytes.SplitSeq(data, []byte("\n---\n")) {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(document, &object.Object); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		object.SetNamespace(namespace)
		objects = append(objects, object)
	}
	return objects
}

func files(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		t.Fatalf("no files match %s (%v)", pattern, err)
	}
	return found
}

func TestSamplesAreAccepted(t *testing.T) {
	c := testenv.Client(t)
	namespace := testenv.Namespace(t, c)
	for _, file := range files(t, filepath.Join(testenv.Root(), "config", "samples", "*.yaml")) {
		if filepath.Base(file) == "kustomization.yaml" {
			continue
		}
		t.Run(filepath.Base(file), func(t *testing.T) {
			for _, object := range decode(t, file, namespace) {
				if err := c.Create(t.Context(), object); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestEverySettingIsAccepted(t *testing.T) {
	c := testenv.Client(t)
	namespace := testenv.Namespace(t, c)
	for _, file := range files(t, "testdata/accepted/*.yaml") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			for _, object := range decode(t, file, namespace) {
				if err := c.Create(t.Context(), object, client.FieldValidation("Strict")); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// Each file in testdata/refused starts with comments "# refused: …", which the API server's answer must contain.
func TestFaultySpecsAreRefusedByFieldAndRule(t *testing.T) {
	c := testenv.Client(t)
	namespace := testenv.Namespace(t, c)
	for _, file := range files(t, "testdata/refused/*.yaml") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			err := c.Create(t.Context(), decode(t, file, namespace)[0])
			if err == nil {
				t.Fatal("accepted")
			}
			data, readErr := os.ReadFile(file)
			if readErr != nil {
				t.Fatal(readErr)
			}
			for line := range strings.Lines(string(data)) {
				want, ok := strings.CutPrefix(strings.TrimSpace(line), "# refused: ")
				if ok && !strings.Contains(err.Error(), want) {
					t.Errorf("got  %v\nwant %s", err, want)
				}
			}
		})
	}
}

// minimal is the smallest valid IMCluster.
func minimal(namespace string) *v1alpha1.IMCluster {
	return &v1alpha1.IMCluster{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "im-", Namespace: namespace},
		Spec: v1alpha1.IMClusterSpec{
			Auth:  v1alpha1.Auth{Mode: v1alpha1.AuthModeInsecure},
			Redis: v1alpha1.Redis{Managed: &v1alpha1.ManagedRedis{}},
		},
	}
}

func TestChangesThatWouldLoseDataAreRefused(t *testing.T) {
	c := testenv.Client(t)
	namespace := testenv.Namespace(t, c)
	withStorage := func(im *v1alpha1.IMCluster) {
		im.Spec.Redis.Managed.Storage = &v1alpha1.RedisStorage{Size: "2Gi", ClassName: "fast"}
	}
	none := func(*v1alpha1.IMCluster) {}
	for _, tc := range []struct {
		name         string
		from, change func(*v1alpha1.IMCluster)
		want         string // empty: accepted
	}{
		{"managed to external", none, func(im *v1alpha1.IMCluster) {
			im.Spec.Redis = v1alpha1.Redis{External: &v1alpha1.ExternalRedis{Mode: v1alpha1.RedisModeStandalone, Addresses: []string{"r:6379"}}}
		}, "spec: Invalid value: redis cannot move between managed and external in place"},
		{"adding storage", none, withStorage, "spec.redis.managed: Invalid value: storage cannot be added or removed in place"},
		{"removing storage", withStorage, func(im *v1alpha1.IMCluster) { im.Spec.Redis.Managed.Storage = nil },
			"spec.redis.managed: Invalid value: storage cannot be added or removed in place"},
		{"shrinking storage", withStorage, func(im *v1alpha1.IMCluster) { im.Spec.Redis.Managed.Storage.Size = "1Gi" },
			"spec.redis.managed.storage: Invalid value: storage.size cannot shrink"},
		{"growing storage", withStorage, func(im *v1alpha1.IMCluster) { im.Spec.Redis.Managed.Storage.Size = "3Gi" }, ""},
		{"another storage class", withStorage, func(im *v1alpha1.IMCluster) { im.Spec.Redis.Managed.Storage.ClassName = "slow" },
			"spec.redis.managed.storage: Invalid value: storage.className cannot change in place"},
		{"another deletion policy", withStorage, func(im *v1alpha1.IMCluster) {
			im.Spec.Redis.Managed.Storage.WhenDeleted = v1alpha1.DeletionPolicyDelete
		}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			im := minimal(namespace)
			tc.from(im)
			if err := c.Create(t.Context(), im); err != nil {
				t.Fatal(err)
			}
			tc.change(im)
			err := c.Update(t.Context(), im)
			if tc.want == "" && err != nil {
				t.Error(err)
			}
			if tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got  %v\nwant %s", err, tc.want)
			}
		})
	}
}

// Whatever shapes a pod template must not be defaulted by the resource definition: upgrading the
// definition would then roll every gateway.
func TestOnlyHarmlessFieldsAreDefaulted(t *testing.T) {
	c := testenv.Client(t)
	im := minimal(testenv.Namespace(t, c))
	im.Spec.Redis.Managed.Storage = &v1alpha1.RedisStorage{Size: "1Gi"}
	if err := c.Create(t.Context(), im); err != nil {
		t.Fatal(err)
	}
	two := int32(2)
	want := v1alpha1.IMClusterSpec{
		Auth:     v1alpha1.Auth{Mode: v1alpha1.AuthModeInsecure},
		Gateway:  v1alpha1.Gateway{Replicas: &two},
		Presence: v1alpha1.Presence{Replicas: &two},
		Redis: v1alpha1.Redis{Managed: &v1alpha1.ManagedRedis{
			Storage: &v1alpha1.RedisStorage{Size: "1Gi", WhenDeleted: v1alpha1.DeletionPolicyRetain},
		}},
	}
	if diff := cmp.Diff(want, im.Spec); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
}

// A resource without status counts as ready for "helm --wait" and Flux, so a default status says that
// it is not.
func TestStatusSaysPendingBeforeTheOperatorSpeaks(t *testing.T) {
	c := testenv.Client(t)
	im := minimal(testenv.Namespace(t, c))
	if err := c.Create(t.Context(), im); err != nil {
		t.Fatal(err)
	}
	want := v1alpha1.IMClusterStatus{Conditions: []metav1.Condition{{
		Type: v1alpha1.ConditionReady, Status: metav1.ConditionUnknown, Reason: "Pending",
		Message: "Waiting for the operator", LastTransitionTime: metav1.NewTime(time.Unix(0, 0)),
	}}}
	if diff := cmp.Diff(want, im.Status, cmp.Comparer(func(a, b metav1.Time) bool { return a.Equal(&b) })); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
}

func TestScaleSubresourceSetsGatewayReplicas(t *testing.T) {
	c := testenv.Client(t)
	im := minimal(testenv.Namespace(t, c))
	if err := c.Create(t.Context(), im); err != nil {
		t.Fatal(err)
	}
	scale := &autoscalingv1.Scale{Spec: autoscalingv1.ScaleSpec{Replicas: 5}}
	if err := c.SubResource("scale").Update(t.Context(), im, client.WithSubResourceBody(scale)); err != nil {
		t.Fatal(err)
	}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(im), im); err != nil {
		t.Fatal(err)
	}
	if got := *im.Spec.Gateway.Replicas; got != 5 {
		t.Errorf("replicas = %d, want 5", got)
	}
}
