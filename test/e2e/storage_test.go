package e2e

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	imv1 "github.com/imcluster/imcluster/api/v1alpha1"
)

// TestVolumeOutlivesTheIMCluster deletes an IMCluster with storage and makes it again: what Redis knew is still there.
func TestVolumeOutlivesTheIMCluster(t *testing.T) {
	ns := namespace(t)
	build := func() *imv1.IMCluster {
		imc := newIMCluster(ns, "stored")
		imc.Spec.Redis.Managed.Storage = &imv1.RedisStorage{Size: "128Mi"}
		return imc
	}
	p := start(t, build())
	alice := login(t, forward(t, p.pods("gateway")[0], 8080), "alice")
	p.waitState(settled, map[string]string{"alice": "online"})
	alice.send(`{"type":"12"}`)
	p.waitState(settled, map[string]string{"alice": "offline"})
	before, err := p.ask(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	wait(t, 2*time.Second) // the file is written to disk every second

	if _, err := kubectl(t.Context(), "-n", ns, "delete", "imc", "stored", "--wait"); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, func() error {
		return gone(t, &corev1.ServiceAccount{}, client.ObjectKey{Namespace: ns, Name: "stored-redis"})
	})
	volume := &corev1.PersistentVolumeClaim{}
	if err := cluster.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "stored-redis"}, volume); err != nil || volume.DeletionTimestamp != nil {
		t.Fatalf("the volume went with its IMCluster: %v, %v", err, volume.DeletionTimestamp)
	}

	p = start(t, build())
	p.waitState(settled, map[string]string{"alice": "offline"})
	after, err := p.ask(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	if after["alice"].LastSeen != before["alice"].LastSeen {
		t.Errorf("alice was last seen %s, want %s", after["alice"].LastSeen, before["alice"].LastSeen)
	}
}

// gone returns nil when the object does not exist.
func gone(t *testing.T, object client.Object, key client.ObjectKey) error {
	t.Helper()
	err := cluster.Get(t.Context(), key, object)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("%T %s is still there", object, key)
	}
	return err
}
