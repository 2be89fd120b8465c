package compose

import (
	"fmt"
	"strings"

	"k8s.io/utils/ptr"

	"github.com/imcluster/imcluster/api/v1alpha1"
	"github.com/imcluster/imcluster/controllers/naming"
)

// commonFlags returns the flags and Secrets that gateway and presence have in common: where Redis is, the
// key among the pods of this IMCluster, how long a lost user still counts as online, and how messages are kept.
func commonFlags(im *v1alpha1.IMCluster) (args []string, mounts []secretMount) {
	args, mounts = redisFlags(im)
	peerKey := secretMount{volume: "peer-key", secret: naming.PeerKeySecret(im.Name)}
	mounts = append(mounts, peerKey)
	args = append(args,
		flag("cluster-uid", identity(im)),
		flag("peer-key-dir", peerKey.dir()),
		flag("grace", seconds(ptr.Deref(im.Spec.Presence.GraceSeconds, defaultGraceSeconds))),
	)
	if o := im.Spec.Observability; o != nil && o.OTLPEndpoint != "" {
		args = append(args, flag("otlp-endpoint", o.OTLPEndpoint))
	}
	return append(args, messageFlags(im)...), mounts
}

// identity returns what the data plane knows its IMCluster by: gateways ask each other for it, and Redis
// remembers whose keys it holds. On a Redis that others may use it is the UID, which nobody else can have. On
// a managed Redis it is the name, for an IMCluster that is made again must find what it left on its volume.
func identity(im *v1alpha1.IMCluster) string {
	if im.Spec.Redis.Managed != nil {
		return im.Namespace + "/" + im.Name
	}
	return string(im.UID)
}

// redisFlags returns the flags and Secrets for the Redis of an IMCluster.
func redisFlags(im *v1alpha1.IMCluster) (args []string, mounts []secretMount) {
	external := im.Spec.Redis.External
	if external == nil {
		auth := secretMount{volume: "redis-auth", secret: naming.RedisAuthSecret(im.Name)}
		// The short name is found by the first entry of a pod's DNS search list.
		address := fmt.Sprintf("%s:%d", naming.Object(im.Name, naming.Redis), naming.PortRedis)
		return []string{
			flag("redis-mode", "standalone"), flag("redis-addresses", address), flag("redis-password-dir", auth.dir()),
		}, []secretMount{auth}
	}
	args = []string{
		flag("redis-mode", strings.ToLower(string(external.Mode))),
		flag("redis-addresses", strings.Join(external.Addresses, ",")),
	}
	if external.MasterName != "" {
		args = append(args, flag("redis-master-name", external.MasterName))
	}
	if external.KeyPrefix != "" {
		args = append(args, flag("redis-key-prefix", external.KeyPrefix))
	}
	if external.SecretRef != nil {
		auth := secretMount{volume: "redis-auth", secret: external.SecretRef.Name}
		mounts = append(mounts, auth)
		args = append(args, flag("redis-password-dir", auth.dir()))
	}
	if external.TLS != nil {
		args = append(args, "--redis-tls")
		if ref := external.TLS.CASecretRef; ref != nil {
			ca := secretMount{volume: "redis-ca", secret: ref.Name, keys: []string{naming.KeyCA}}
			mounts = append(mounts, ca)
			args = append(args, flag("redis-ca-file", ca.dir()+"/"+naming.KeyCA))
		}
	}
	return args, mounts
}

func seconds(n int32) string { return fmt.Sprintf("%ds", n) }
