package controllers_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/imcluster/imcluster/api/v1alpha1"
	"github.com/imcluster/imcluster/controllers/status"
	"github.com/imcluster/imcluster/internal/testenv"
	"github.com/imcluster/imcluster/internal/testredis"
)

func TestSecretsAreGeneratedOnceAndKept(t *testing.T) {
	o := startOperator(t)
	o.create(o.imcluster("chat"))
	o.condition("chat", v1alpha1.ConditionReady, status.ReasonUnavailable)
	values := map[string]string{}
	for _, name := range []string{"chat-api-key", "chat-peer-key", "chat-redis-auth"} {
		secret := get(o, name, &corev1.Secret{})
		value := string(secret.Data["current"])
		if len(value) < 32 || slices.Contains([]string{values["chat-api-key"], values["chat-peer-key"]}, value) {
			t.Errorf("Secret %s holds %d bytes, or those of another Secret", name, len(value))
		}
		values[name] = value
	}
	o.settled()
	update(o, get(o, "chat", &v1alpha1.IMCluster{}), func(im *v1alpha1.IMCluster) { im.Spec.Gateway.Replicas = new(int32(3)) })
	o.condition("chat", v1alpha1.ConditionReady, status.ReasonUnavailable)
	o.settled()
	for name, value := range values {
		if got := string(get(o, name, &corev1.Secret{}).Data["current"]); got != value {
			t.Errorf("Secret %s changed", name)
		}
	}
}

// A Redis reads its users only when it starts, so it is replaced when their Secret was made anew. Otherwise it
// would refuse the new password that gateway and presence send.
func TestRedisIsRestartedWithANewPassword(t *testing.T) {
	o := startOperator(t)
	o.create(o.imcluster("chat"))
	secret := exists(o, "chat-redis-auth", &corev1.Secret{}, nil)
	starts := func(uid types.UID) func(*appsv1.Deployment) bool {
		return func(d *appsv1.Deployment) bool {
			return d.Spec.Template.Annotations["imcluster.dev/auth-uid"] == string(uid)
		}
	}
	exists(o, "chat-redis", &appsv1.Deployment{}, starts(secret.UID))
	if err := o.client.Delete(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	// It would be seen within five minutes without this.
	update(o, get(o, "chat", &v1alpha1.IMCluster{}), func(im *v1alpha1.IMCluster) { im.Spec.Gateway.Replicas = new(int32(3)) })
	made := exists(o, "chat-redis-auth", &corev1.Secret{}, func(s *corev1.Secret) bool { return s.UID != secret.UID })
	exists(o, "chat-redis", &appsv1.Deployment{}, starts(made.UID))
}

// A key for tokens that can be guessed is reported, and nothing of it is repeated.
func TestShortTokenKeysAreReported(t *testing.T) {
	o := startOperator(t)
	keys := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: o.namespace, Name: "keys"},
		StringData: map[string]string{"current": "hunter2"}}
	o.create(keys)
	o.create(o.imcluster("chat", func(im *v1alpha1.IMCluster) {
		im.Spec.Auth = v1alpha1.Auth{Mode: v1alpha1.AuthModeJWT, JWT: &v1alpha1.JWT{SecretRef: &v1alpha1.SecretReference{Name: "keys"}}}
	}))
	ready := o.condition("chat", v1alpha1.ConditionReady, status.ReasonSecretInvalid)
	want := `Secret keys (spec.auth.jwt.secretRef) has less than 32 bytes under the key "current", so it can be guessed; replace it by random bytes`
	if ready.Message != want {
		t.Errorf("message is %q, want %q", ready.Message, want)
	}
	exists(o, "chat-gateway", &appsv1.Deployment{}, nil)
}

// A gateway without the key of its webhook does not start, so the user is told of it.
func TestMissingWebhookKeyIsReportedUntilItIsThere(t *testing.T) {
	o := startOperator(t)
	o.create(o.imcluster("chat", func(im *v1alpha1.IMCluster) {
		im.Spec.Auth = v1alpha1.Auth{Mode: v1alpha1.AuthModeWebhook, Webhook: &v1alpha1.Webhook{
			URL: "http://login.default.svc/check", SecretRef: &v1alpha1.SecretReference{Name: "hook"}}}
	}))
	ready := o.condition("chat", v1alpha1.ConditionReady, status.ReasonSecretMissing)
	want := `Secret hook (spec.auth.webhook.secretRef) does not exist; create it with the key "current"`
	if ready.Message != want {
		t.Errorf("message is %q, want %q", ready.Message, want)
	}
	o.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: o.namespace, Name: "hook"},
		StringData: map[string]string{"current": strings.Repeat("k", 32)}})
	o.condition("chat", v1alpha1.ConditionReady, status.ReasonUnavailable) // of the pods; the Secret is fine
}

// The user's own Secret is used instead of a generated one, and looked for again while it is missing.
func TestReferencedSecretsAreNotGenerated(t *testing.T) {
	o := startOperator(t)
	keys := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: o.namespace, Name: "keys"}, StringData: map[string]string{"wrong": "x"}}
	o.create(keys)
	o.create(o.imcluster("chat", func(im *v1alpha1.IMCluster) {
		im.Spec.Presence.APIKeySecretRef = &v1alpha1.SecretReference{Name: "keys"}
	}))
	ready := o.condition("chat", v1alpha1.ConditionReady, status.ReasonSecretInvalid)
	want := `Secret keys (spec.presence.apiKeySecretRef) has no value under the key "current"; add it`
	if ready.Message != want {
		t.Errorf("message is %q, want %q", ready.Message, want)
	}
	err := o.client.Get(t.Context(), client.ObjectKey{Namespace: o.namespace, Name: "chat-api-key"}, &corev1.Secret{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("a key was generated beside the user's: %v", err)
	}
	update(o, keys, func(s *corev1.Secret) { s.Data = map[string][]byte{"current": []byte("secret")} })
	o.condition("chat", v1alpha1.ConditionReady, status.ReasonUnavailable) // of the pods; the Secret is fine
}

func TestOperatorCannotSeeOtherSecrets(t *testing.T) {
	o := startOperator(t)
	config := testenv.Config(t)
	config.Impersonate.UserName = "operator-" + o.namespace
	c, err := client.New(config, client.Options{Scheme: testenv.Scheme(t)})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.List(t.Context(), &corev1.SecretList{}, client.InNamespace(o.namespace)); !apierrors.IsForbidden(err) {
		t.Errorf("listing Secrets: %v, want Forbidden", err)
	}
}

// The configuration and the users that the operator writes are understood by a real Redis: it takes the
// generated password, and nothing else.
func TestRedisTakesTheGeneratedConfiguration(t *testing.T) {
	o := startOperator(t)
	o.create(o.imcluster("chat", func(im *v1alpha1.IMCluster) {
		im.Spec.Redis.Managed.Storage = &v1alpha1.RedisStorage{Size: "1Gi"}
	}))
	config := exists(o, "chat-redis", &corev1.ConfigMap{}, nil).Data["redis.conf"]
	auth := exists(o, "chat-redis-auth", &corev1.Secret{}, nil)

	// The server starts without users, so that the helper can see that it is up, and then loads them.
	acl := filepath.Join(t.TempDir(), "users.acl")
	writeFile(t, acl, []byte("user default on nopass ~* &* +@all\n"))
	args := []string{"--aclfile", acl}
	for line := range strings.Lines(config) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch name {
		case "#", "port", "bind", "dir", "aclfile": // those of the pod
		default:
			args = append(args, "--"+name, strings.Trim(value, `"`))
		}
	}
	server := testredis.StartWith(t, testredis.Options{Args: args})
	writeFile(t, acl, auth.Data["users.acl"])
	server.MustDo("ACL", "LOAD")

	connect := func(password string) *redis.Client {
		c := redis.NewClient(&redis.Options{Addr: server.Addr, Password: password, MaxRetries: -1})
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	if err := connect("").Ping(t.Context()).Err(); err == nil || !strings.HasPrefix(err.Error(), "NOAUTH") {
		t.Errorf("without a password: %v", err)
	}
	if err := connect("wrong").Ping(t.Context()).Err(); err == nil || errors.Is(err, redis.Nil) {
		t.Errorf("with a wrong password: %v", err)
	}
	c := connect(string(auth.Data["current"]))
	got := map[string]string{}
	for _, name := range []string{"maxmemory", "maxmemory-policy", "appendonly", "appendfsync", "save"} {
		values, err := c.ConfigGet(t.Context(), name).Result()
		if err != nil {
			t.Fatal(err)
		}
		got[name] = values[name]
	}
	want := map[string]string{"maxmemory": "161061240", "maxmemory-policy": "noeviction", "appendonly": "yes", "appendfsync": "everysec", "save": ""}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
}

func writeFile(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
