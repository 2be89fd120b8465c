package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	imv1 "github.com/imcluster/imcluster/api/v1alpha1"
)

// startTimeout is how long a platform may take to become Ready, on a machine that is busy with other tests.
const startTimeout = 3 * time.Minute

// platform is an IMCluster in a namespace of its own.
type platform struct {
	t    *testing.T
	key  client.ObjectKey
	http *http.Client
	// apiKey opens the presence API.
	apiKey string
	// presence is the address of a presence pod's query port, on this machine.
	presence string
}

// newIMCluster is the smallest IMCluster: anybody may log in, and Redis is in memory.
func newIMCluster(ns, name string) *imv1.IMCluster {
	return &imv1.IMCluster{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name},
		Spec: imv1.IMClusterSpec{
			Auth:  imv1.Auth{Mode: imv1.AuthModeInsecure},
			Redis: imv1.Redis{Managed: &imv1.ManagedRedis{}},
		},
	}
}

// start creates the IMCluster, waits until it is Ready, and opens its presence API.
func start(t *testing.T, imc *imv1.IMCluster) *platform {
	t.Helper()
	if err := cluster.Create(t.Context(), imc); err != nil {
		t.Fatal(err)
	}
	p := &platform{t: t, key: client.ObjectKeyFromObject(imc), http: &http.Client{Timeout: 10 * time.Second}}
	p.waitReady()
	secret := &corev1.Secret{}
	if err := cluster.Get(t.Context(), client.ObjectKey{Namespace: p.key.Namespace, Name: p.key.Name + "-api-key"}, secret); err != nil {
		t.Fatal(err)
	}
	p.apiKey = string(bytes.TrimSpace(secret.Data["current"]))
	p.presence = forward(t, p.pods("presence")[0], 8080)
	return p
}

// get reads the IMCluster.
func (p *platform) get() *imv1.IMCluster {
	p.t.Helper()
	imc := &imv1.IMCluster{}
	if err := cluster.Get(p.t.Context(), p.key, imc); err != nil {
		p.t.Fatal(err)
	}
	return imc
}

// waitReady waits until the operator says that the spec as it is now is in effect.
func (p *platform) waitReady() {
	p.t.Helper()
	eventually(p.t, startTimeout, func() error {
		imc := p.get()
		ready := meta.FindStatusCondition(imc.Status.Conditions, imv1.ConditionReady)
		if ready == nil || ready.Status != metav1.ConditionTrue || imc.Status.ObservedGeneration != imc.Generation {
			return fmt.Errorf("Ready is %+v, observed generation %d of %d", ready, imc.Status.ObservedGeneration, imc.Generation)
		}
		return nil
	})
}

// pods returns the pods of a component that run and are not being deleted, oldest first.
func (p *platform) pods(component string) []*corev1.Pod {
	p.t.Helper()
	pods, err := p.podsOf(p.t.Context(), component)
	if err != nil {
		p.t.Fatal(err)
	}
	return pods
}

func (p *platform) podsOf(ctx context.Context, component string) (pods []*corev1.Pod, err error) {
	list := &corev1.PodList{}
	if err := cluster.List(ctx, list, client.InNamespace(p.key.Namespace), client.MatchingLabels{
		"app.kubernetes.io/instance": p.key.Name, "app.kubernetes.io/component": component,
	}); err != nil {
		return nil, err
	}
	for i := range list.Items {
		if pod := &list.Items[i]; pod.DeletionTimestamp == nil && pod.Status.Phase == corev1.PodRunning {
			pods = append(pods, pod)
		}
	}
	slices.SortFunc(pods, func(a, b *corev1.Pod) int {
		return a.CreationTimestamp.Compare(b.CreationTimestamp.Time)
	})
	return pods, nil
}

// answer is what presence says of one user.
type answer struct {
	User     string `json:"user"`
	State    string `json:"state"`
	Reason   string `json:"reason"`
	LastSeen string `json:"lastSeen"`
	Degraded bool   `json:"degraded"`
	Devices  []struct {
		ID      string `json:"id"`
		Gateway string `json:"gateway"`
	} `json:"devices"`
}

// ask queries presence for users.
func (p *platform) ask(ctx context.Context, users ...string) (map[string]answer, error) {
	return p.askAt(ctx, p.presence, users...)
}

// askAt queries the presence pod at an address.
func (p *platform) askAt(ctx context.Context, addr string, users ...string) (map[string]answer, error) {
	body, err := json.Marshal(map[string][]string{"users": users})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/v1/presence:batchGet", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+p.apiKey)
	req.Header.Set("Content-Type", "application/json")
	resp, err := p.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("presence answered %s: %s (%w)", resp.Status, data, err)
	}
	var got struct {
		Users    []answer `json:"users"`
		Degraded bool     `json:"degraded"`
	}
	if err := json.Unmarshal(data, &got); err != nil {
		return nil, err
	}
	answers := map[string]answer{}
	for _, a := range got.Users {
		a.Degraded = got.Degraded
		answers[a.User] = a
	}
	return answers, nil
}

// waitState waits until presence says so of every user.
func (p *platform) waitState(timeout time.Duration, states map[string]string) {
	p.t.Helper()
	eventually(p.t, timeout, func() error {
		got, err := p.ask(p.t.Context(), slices.Sorted(maps.Keys(states))...)
		if err != nil {
			return err
		}
		for user, want := range states {
			if got[user].State != want {
				return fmt.Errorf("%s is %q (%+v), want %q", user, got[user].State, got[user], want)
			}
		}
		return nil
	})
}
