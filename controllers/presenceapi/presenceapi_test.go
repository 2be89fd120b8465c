package presenceapi_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/imcluster/imcluster/api/v1alpha1"
	"github.com/imcluster/imcluster/controllers/presenceapi"
	"github.com/imcluster/imcluster/presence/internalapi"
)

// A peer key is read once, and again only when presence does not take it any more.
func TestKeysAreReadAgainWhenRefused(t *testing.T) {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "chat-peer-key"},
		Data: map[string][]byte{"current": []byte("one")}}
	secrets := fake.NewClientBuilder().WithObjects(secret).Build()
	accepted := "one"
	var keys []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		keys = append(keys, r.Header.Get("Authorization"))
		if keys[len(keys)-1] != "Bearer "+accepted {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = w.Write([]byte("{}"))
	}))
	defer server.Close()
	access := presenceapi.New(presenceapi.Config{Secrets: secrets, BaseURL: func(*v1alpha1.IMCluster) string { return server.URL }})
	defer access.Close()
	im := &v1alpha1.IMCluster{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "chat", UID: "u"}}
	ask := func() {
		t.Helper()
		err := access.Call(t.Context(), im, func(ctx context.Context, api *internalapi.Client) error {
			_, err := api.Incarnations(ctx)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	ask()
	if err := secrets.Patch(t.Context(), secret, client.RawPatch("application/merge-patch+json", []byte(`{"data":{"current":"dHdv"}}`))); err != nil {
		t.Fatal(err)
	}
	ask() // still with the old key, which is accepted
	accepted = "two"
	ask()
	want := []string{"Bearer one", "Bearer one", "Bearer one", "Bearer two"}
	if diff := cmp.Diff(want, keys); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}
