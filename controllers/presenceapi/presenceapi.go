// Package presenceapi lets the operator call the internal API of an IMCluster's presence pods.
package presenceapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/imcluster/imcluster/api/v1alpha1"
	"github.com/imcluster/imcluster/controllers/naming"
	"github.com/imcluster/imcluster/presence/internalapi"
)

// Timeout bounds each call to presence, also those that meet nobody.
const Timeout = 2 * time.Second

// Config says how presence is reached.
type Config struct {
	// Secrets reads peer keys; it should not be cached. Required.
	Secrets client.Reader
	// BaseURL finds the internal API of an IMCluster. Nil means its Service.
	BaseURL func(*v1alpha1.IMCluster) string
	// Transport sends requests. Nil means HTTP with one kept connection for each IMCluster.
	Transport http.RoundTripper
}

// Access opens the internal APIs of IMClusters. Keys are remembered, because they are read from the API
// server and hardly ever change. It is safe for concurrent use.
type Access struct {
	secrets client.Reader
	baseURL func(*v1alpha1.IMCluster) string
	http    *http.Client

	mu   sync.Mutex
	keys map[types.UID]string
}

// New returns an Access.
func New(cfg Config) *Access {
	if cfg.BaseURL == nil {
		cfg.BaseURL = func(im *v1alpha1.IMCluster) string { return naming.InternalURL(im.Namespace, im.Name) }
	}
	if cfg.Transport == nil {
		cfg.Transport = &http.Transport{MaxIdleConns: 1000, MaxIdleConnsPerHost: 1, IdleConnTimeout: 30 * time.Second}
	}
	return &Access{
		secrets: cfg.Secrets,
		baseURL: cfg.BaseURL,
		http:    &http.Client{Transport: cfg.Transport},
		keys:    map[types.UID]string{},
	}
}

// Close closes idle connections.
func (a *Access) Close() { a.http.CloseIdleConnections() }

// Call runs call with a client for im, within [Timeout]. If presence refuses the key, the key is read
// again and call runs once more.
func (a *Access) Call(ctx context.Context, im *v1alpha1.IMCluster, call func(context.Context, *internalapi.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	key, remembered := a.remembered(im.UID)
	if remembered {
		err := call(ctx, &internalapi.Client{BaseURL: a.baseURL(im), Key: key, HTTP: a.http})
		if !errors.Is(err, internalapi.ErrUnauthenticated) {
			return err
		}
	}
	key, err := a.read(ctx, im)
	if err != nil {
		return err
	}
	return call(ctx, &internalapi.Client{BaseURL: a.baseURL(im), Key: key, HTTP: a.http})
}

// Forget drops the remembered keys of all IMClusters but those given.
func (a *Access) Forget(keep map[types.UID]bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for uid := range a.keys {
		if !keep[uid] {
			delete(a.keys, uid)
		}
	}
}

func (a *Access) remembered(uid types.UID) (string, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key, ok := a.keys[uid]
	return key, ok
}

func (a *Access) read(ctx context.Context, im *v1alpha1.IMCluster) (string, error) {
	secret := &corev1.Secret{}
	name := client.ObjectKey{Namespace: im.Namespace, Name: naming.PeerKeySecret(im.Name)}
	if err := a.secrets.Get(ctx, name, secret); err != nil {
		return "", fmt.Errorf("read peer key: %w", err)
	}
	key := string(secret.Data[naming.KeyCurrent])
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keys[im.UID] = key
	return key, nil
}
