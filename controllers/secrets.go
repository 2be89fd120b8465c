package controllers

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/imcluster/imcluster/api/v1alpha1"
	"github.com/imcluster/imcluster/controllers/naming"
	"github.com/imcluster/imcluster/controllers/status"
)

// generatedSecret is a Secret that the operator makes once and then keeps as it is.
type generatedSecret struct {
	name      string
	component naming.Component
	// content makes the data out of a new random value.
	content func(value string) map[string][]byte
	key     string // must have a value
}

// referencedSecret is a Secret that the user makes.
type referencedSecret struct {
	field, name, key string
	minBytes         int // that the value must have; 0: any
}

// secretsState is what is known of the Secrets of an IMCluster.
type secretsState struct {
	faults    []status.Fault
	redisAuth types.UID // of the Secret of a managed Redis, if it can be used
}

// minHMACKeyBytes is the least size of a key for HS256 (RFC 7518, section 3.2): whoever has a token, or a signed
// request, can look for a shorter key offline.
const minHMACKeyBytes = 32

// generatedSecrets lists what an IMCluster needs that the user does not bring.
func generatedSecrets(im *v1alpha1.IMCluster) []generatedSecret {
	secrets := []generatedSecret{
		{naming.PeerKeySecret(im.Name), naming.Gateway, onlyCurrent, naming.KeyCurrent},
	}
	if im.Spec.Presence.APIKeySecretRef == nil {
		secrets = append(secrets, generatedSecret{naming.APIKeySecret(im.Name), naming.Presence, onlyCurrent, naming.KeyCurrent})
	}
	if im.Spec.Redis.Managed != nil {
		secrets = append(secrets, generatedSecret{naming.RedisAuthSecret(im.Name), naming.Redis, redisUsers, naming.KeyUsersACL})
	}
	return secrets
}

func onlyCurrent(value string) map[string][]byte {
	return map[string][]byte{naming.KeyCurrent: []byte(value)}
}

// redisUsers holds the password for clients, and for the server an ACL file with its hash.
func redisUsers(value string) map[string][]byte {
	acl := fmt.Sprintf("user default on #%x ~* &* +@all\n", sha256.Sum256([]byte(value)))
	return map[string][]byte{naming.KeyCurrent: []byte(value), naming.KeyUsersACL: []byte(acl)}
}

// referencedSecrets lists the Secrets that the spec names.
func referencedSecrets(im *v1alpha1.IMCluster) []referencedSecret {
	var secrets []referencedSecret
	add := func(field string, ref *v1alpha1.SecretReference, key string) {
		if ref != nil {
			secrets = append(secrets, referencedSecret{field: field, name: ref.Name, key: key})
		}
	}
	hmacKey := func(field string, ref *v1alpha1.SecretReference) {
		if ref != nil {
			secrets = append(secrets, referencedSecret{field, ref.Name, naming.KeyCurrent, minHMACKeyBytes})
		}
	}
	if jwt := im.Spec.Auth.JWT; jwt != nil {
		hmacKey("spec.auth.jwt.secretRef", jwt.SecretRef)
		if jwt.JWKS != nil {
			add("spec.auth.jwt.jwks.caSecretRef", jwt.JWKS.CASecretRef, naming.KeyCA)
		}
	}
	if webhook := im.Spec.Auth.Webhook; webhook != nil {
		hmacKey("spec.auth.webhook.secretRef", webhook.SecretRef)
		add("spec.auth.webhook.caSecretRef", webhook.CASecretRef, naming.KeyCA)
	}
	add("spec.presence.apiKeySecretRef", im.Spec.Presence.APIKeySecretRef, naming.KeyCurrent)
	if lean := im.Spec.Presence.LeanCloud; lean != nil {
		add("spec.presence.leancloud.keySecretRef", &lean.KeySecretRef, naming.KeyCurrent)
	}
	if hooks := im.Spec.Presence.Hooks; hooks != nil {
		add("spec.presence.hooks.secretRef", &hooks.SecretRef, naming.KeyCurrent)
	}
	if external := im.Spec.Redis.External; external != nil {
		add("spec.redis.external.secretRef", external.SecretRef, naming.KeyCurrent)
		if external.TLS != nil {
			add("spec.redis.external.tls.caSecretRef", external.TLS.CASecretRef, naming.KeyCA)
		}
	}
	return secrets
}

// ensureSecrets makes the Secrets that are to be generated and looks at the ones that the spec names.
//
// Secrets are read by name from the API server. They are never listed or watched, so the operator needs
// no right to see any other Secret; the price is that a Secret is looked at only when something else
// wakes the operator, or after a while: see [recheck].
func (r *Reconciler) ensureSecrets(ctx context.Context, im *v1alpha1.IMCluster) (secretsState, error) {
	var out secretsState
	var retry []error
	for _, want := range generatedSecrets(im) {
		uid, fault, err := r.ensureGenerated(ctx, im, want)
		if err != nil {
			out.faults = append(out.faults, status.WriteFailed("Secret "+want.name, err))
			retry = append(retry, fmt.Errorf("generate Secret %s: %w", want.name, err))
		}
		if fault != nil {
			out.faults = append(out.faults, *fault)
		}
		if want.component == naming.Redis {
			out.redisAuth = uid
		}
	}
	for _, want := range referencedSecrets(im) {
		secret, err := r.readSecret(ctx, im.Namespace, want.name)
		switch {
		case err != nil:
			retry = append(retry, err)
		case secret == nil:
			out.faults = append(out.faults, status.SecretMissing(want.field, want.name, want.key))
		case len(secret.Data[want.key]) == 0:
			out.faults = append(out.faults, status.SecretInvalid(want.field, want.name, want.key))
		case len(secret.Data[want.key]) < want.minBytes:
			out.faults = append(out.faults, status.SecretTooShort(want.field, want.name, want.key, want.minBytes))
		}
	}
	return out, errors.Join(retry...)
}

// ensureGenerated returns the UID of the Secret if it is there and belongs to the IMCluster.
func (r *Reconciler) ensureGenerated(ctx context.Context, im *v1alpha1.IMCluster, want generatedSecret) (types.UID, *status.Fault, error) {
	secret, err := r.readSecret(ctx, im.Namespace, want.name)
	if err != nil {
		return "", nil, err
	}
	if secret == nil {
		secret = newSecret(im, want)
		if err := r.client.Create(ctx, secret, client.FieldOwner(FieldManager)); err != nil {
			return "", nil, err // perhaps somebody was quicker; the next try shows who
		}
		r.metrics.written(ctx, "Secret", "create")
		return secret.UID, nil, nil
	}
	var fault status.Fault
	switch ownerOf(im, "Secret", secret) {
	case foreign:
		fault = status.NameConflict("Secret " + want.name)
	case leaving:
		fault = status.WaitingForDeletion("Secret " + want.name)
	default:
		if len(secret.Data[want.key]) > 0 {
			return secret.UID, nil, nil
		}
		fault = status.GeneratedSecretInvalid(want.name, want.key)
	}
	return "", &fault, nil
}

// readSecret returns nil if there is no such Secret.
func (r *Reconciler) readSecret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	err := r.live.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, secret)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read Secret %s: %w", name, err)
	}
	return secret, nil
}

// newSecret returns a Secret with a new random value of 260 bits.
func newSecret(im *v1alpha1.IMCluster, want generatedSecret) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:       im.Namespace,
			Name:            want.name,
			Labels:          naming.Labels(im.Name, want.component),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(im, v1alpha1.SchemeGroupVersion.WithKind(v1alpha1.Kind))},
		},
		Type: corev1.SecretTypeOpaque,
		Data: want.content(rand.Text() + rand.Text()),
	}
}
