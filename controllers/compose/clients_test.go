package compose_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"

	"github.com/imcluster/imcluster/api/v1alpha1"
)

// settings returns the arguments of a component's pods that the plain IMCluster's do not have.
func settings(t *testing.T, im *v1alpha1.IMCluster, component string) []string {
	t.Helper()
	im.Name = "chat" // the same names of everything
	plain := container(t, imcluster(), component).Args
	var more []string
	for _, arg := range container(t, im, component).Args {
		if !slices.Contains(plain, arg) && !strings.HasPrefix(arg, "--redis-") {
			more = append(more, arg)
		}
	}
	return more
}

func TestSettingsOfClientsBecomeFlags(t *testing.T) {
	for file, want := range map[string][]string{
		"jwt-shared-key": {"--auth-mode=jwt", "--jwt-secret-dir=/etc/imcluster/jwt", "--jwt-issuer=https://id.example.com", "--jwt-audience=im"},
		"jwt-jwks":       {"--auth-mode=jwt", "--jwt-jwks-url=https://id.example.com/.well-known/jwks.json?v=1", "--auth-ca-file=/etc/imcluster/auth-ca/ca.crt", "--jwt-audience=im"},
		"webhook-least":  {"--auth-mode=webhook", "--webhook-url=http://login.default.svc:8080/check"},
		"webhook-whole": {"--auth-mode=webhook", "--webhook-url=https://[fd00::1]/check", "--auth-ca-file=/etc/imcluster/auth-ca/ca.crt", "--webhook-timeout=1s", "--webhook-cache=0s",
			"--webhook-secret-dir=/etc/imcluster/webhook"},
		"limits-and-clients": {
			"--max-connections-per-user=4", "--max-frames-per-second=20", "--max-bytes-per-second=65536",
			"--max-frames-per-second-per-user=40", "--max-groups-per-user=20", "--max-group-recipients-per-second=5000", "--max-subscriptions=500", "--max-connections-per-address=100", "--max-logins-per-second-per-address=50",
			"--max-frames-per-second-per-address=1000", "--max-bytes-per-second-per-address=1000000",
			"--trusted-proxies=10.0.0.0/8,fd00::/8",
			"--allowed-origins=https://chat.example.com,https://*.example.com:8443,http://localhost:3000,capacitor://localhost",
			"--allow-broadcast", "--allow-online-list", "--allow-presence=false", "--allow-client-groups=false",
		},
	} {
		t.Run(file, func(t *testing.T) {
			im := sample(t, filepath.Join("../../api/v1alpha1/testdata/accepted", file+".yaml"))
			if diff := cmp.Diff(want, settings(t, im, "gateway")); diff != "" {
				t.Errorf("flags of the gateway (-want +got):\n%s", diff)
			}
			if more := settings(t, im, "presence"); more != nil {
				t.Errorf("presence is rolled for %q", more)
			}
		})
	}
}

func TestSettingsOfMessagesGoToGatewayAndPresence(t *testing.T) {
	im := sample(t, "../../api/v1alpha1/testdata/accepted/messages-replicated.yaml")
	want := []string{"--mailbox-max-messages=1000", "--mailbox-max-bytes=1048576", "--mailbox-retention=86400s", "--durability=replicated"}
	im.Spec.Redis = imcluster().Spec.Redis // so that nothing else differs
	for _, component := range []string{"gateway", "presence"} {
		if diff := cmp.Diff(want, settings(t, im, component)); diff != "" {
			t.Errorf("flags of %s (-want +got):\n%s", component, diff)
		}
	}
}

func TestSecretsOfTheWebhookAreMounted(t *testing.T) {
	im := sample(t, "../../api/v1alpha1/testdata/accepted/webhook-whole.yaml")
	d := find[*appsv1ac.DeploymentApplyConfiguration](t, composed(t, im), im.Name+"-gateway")
	mounted := map[string]string{}
	for _, v := range d.Spec.Template.Spec.Volumes {
		if v.Secret != nil {
			mounted[*v.Name] = *v.Secret.SecretName
		}
	}
	if mounted["webhook"] != "hook" || mounted["auth-ca"] != "our-ca" {
		t.Errorf("the Secrets are mounted as %v", mounted)
	}
}

// What is set to what it is anyway, or not set, replaces no pods.
func TestUnusedSettingsLeavePodsAsTheyAre(t *testing.T) {
	im := imcluster(func(im *v1alpha1.IMCluster) {
		im.Spec.Gateway.Limits = &v1alpha1.GatewayLimits{PerUser: &v1alpha1.Rate{}, PerAddress: &v1alpha1.AddressLimits{}}
		im.Spec.Gateway.Clients = &v1alpha1.Clients{Groups: new(true), Presence: new(true)}
		im.Spec.Messages = &v1alpha1.Messages{Durability: v1alpha1.DurabilityDefault}
	})
	for _, component := range []string{"gateway", "presence"} {
		name := "chat-" + component
		want := find[*appsv1ac.DeploymentApplyConfiguration](t, composed(t, imcluster()), name)
		if diff := cmp.Diff(want, find[*appsv1ac.DeploymentApplyConfiguration](t, composed(t, im), name)); diff != "" {
			t.Errorf("%s differs:\n%s", name, diff)
		}
	}
}
