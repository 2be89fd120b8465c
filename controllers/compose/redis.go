package compose

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/imcluster/imcluster/api/v1alpha1"
	"github.com/imcluster/imcluster/controllers/naming"
)

const (
	redisConfigKey = "redis.conf"
	redisConfigDir = secretRoot + "redis"
	redisDataDir   = "/data"
	// redisUserID is what the images of Redis and Valkey run as; they start as root if nobody says so.
	redisUserID = 999
	// redisEvictionSeconds is after how long the Redis pod leaves a lost node: well below the default of
	// 300 s, because no user can log in meanwhile.
	redisEvictionSeconds = 20
)

func redisObjects(im *v1alpha1.IMCluster, images Images, auth types.UID) ([]Object, error) {
	memory, err := redisMemory(im)
	if err != nil {
		return nil, err
	}
	config := redisConfig(im, memory)
	objects := []Object{
		serviceAccount(im, naming.Redis),
		redisConfigMap(im, config),
		redisService(im),
	}
	if storage := im.Spec.Redis.Managed.Storage; storage != nil {
		claim, err := redisClaim(im, storage)
		if err != nil {
			return nil, err
		}
		objects = append(objects, claim)
	}
	if auth == "" {
		return objects, nil // without its users it could not start anyway
	}
	return append(objects, redisDeployment(im, images, memory, config, auth)), nil
}

func redisMemory(im *v1alpha1.IMCluster) (resource.Quantity, error) {
	value := im.Spec.Redis.Managed.Memory
	if value == "" {
		value = defaultRedisMemory
	}
	return quantity("spec.redis.managed.memory", value)
}

func quantity(field string, value v1alpha1.Quantity) (resource.Quantity, error) {
	q, err := resource.ParseQuantity(string(value))
	if err != nil {
		return q, &SpecError{Field: field, Problem: fmt.Sprintf("%q is not a quantity such as 512Mi", value)}
	}
	return q, nil
}

// redisConfig returns the configuration file. It has only directives that Redis 7.0 and Valkey know.
//
// Messages and leases live here, so nothing may be evicted: a full Redis refuses writes instead. The rest
// of the container's memory is for client buffers, fragmentation, and with an append-only file for the
// pages that are copied while a forked child rewrites it.
func redisConfig(im *v1alpha1.IMCluster, memory resource.Quantity) string {
	percent, appendOnly := int64(75), "no"
	if im.Spec.Redis.Managed.Storage != nil {
		percent, appendOnly = 60, "yes"
	}
	return strings.Join([]string{
		"# Written by the IMCluster operator.",
		fmt.Sprintf("port %d", naming.PortRedis),
		"bind * -::*",
		"dir " + redisDataDir,
		"aclfile " + redisAuth(im).dir() + "/" + naming.KeyUsersACL,
		fmt.Sprintf("maxmemory %d", memory.Value()/100*percent),
		"maxmemory-policy noeviction",
		`save ""`,
		"appendonly " + appendOnly,
		"appendfsync everysec",
		"tcp-keepalive 60",
		"timeout 0",
		"lazyfree-lazy-expire yes",
		"lazyfree-lazy-server-del yes",
		"lazyfree-lazy-user-del yes",
		"lazyfree-lazy-user-flush yes",
		"",
	}, "\n")
}

// redisAuth is the Secret with the ACL file, as the Redis pod sees it.
func redisAuth(im *v1alpha1.IMCluster) secretMount {
	return secretMount{volume: "redis-auth", secret: naming.RedisAuthSecret(im.Name), keys: []string{naming.KeyUsersACL}}
}

func redisConfigMap(im *v1alpha1.IMCluster, config string) Object {
	return corev1ac.ConfigMap(naming.Object(im.Name, naming.Redis), im.Namespace).
		WithLabels(naming.Labels(im.Name, naming.Redis)).
		WithOwnerReferences(ownerReference(im)).
		WithData(map[string]string{redisConfigKey: config})
}

// redisService has a stable address, so that clients never hold on to that of a pod that is gone.
func redisService(im *v1alpha1.IMCluster) Object {
	return corev1ac.Service(naming.Object(im.Name, naming.Redis), im.Namespace).
		WithLabels(naming.Labels(im.Name, naming.Redis)).
		WithOwnerReferences(ownerReference(im)).
		WithSpec(corev1ac.ServiceSpec().
			WithType(corev1.ServiceTypeClusterIP).
			WithSelector(naming.Selector(im.Name, naming.Redis)).
			WithPorts(servicePort("redis", naming.PortRedis)))
}

// redisClaim has an owner only if the data may go with the IMCluster. Without one it stays, and an
// IMCluster of the same name finds it by its name and labels.
func redisClaim(im *v1alpha1.IMCluster, storage *v1alpha1.RedisStorage) (Object, error) {
	size, err := quantity("spec.redis.managed.storage.size", storage.Size)
	if err != nil {
		return nil, err
	}
	spec := corev1ac.PersistentVolumeClaimSpec().
		WithAccessModes(corev1.ReadWriteOnce).
		WithResources(corev1ac.VolumeResourceRequirements().
			WithRequests(corev1.ResourceList{corev1.ResourceStorage: size}))
	if storage.ClassName != "" {
		spec.WithStorageClassName(storage.ClassName)
	}
	claim := corev1ac.PersistentVolumeClaim(naming.Object(im.Name, naming.Redis), im.Namespace).
		WithLabels(naming.Labels(im.Name, naming.Redis)).
		WithSpec(spec)
	if storage.WhenDeleted == v1alpha1.DeletionPolicyDelete {
		claim.WithOwnerReferences(ownerReference(im))
	}
	return claim, nil
}

// redisDeployment is a Deployment and not a StatefulSet, because a pod of the latter is not replaced
// while its node is lost. Recreate keeps two processes from writing to one volume.
func redisDeployment(im *v1alpha1.IMCluster, images Images, memory resource.Quantity, config string, auth types.UID) *appsv1ac.DeploymentApplyConfiguration {
	image := im.Spec.Redis.Managed.Image
	if image == "" {
		image = images.Redis
	}
	connect := func() *corev1ac.ProbeApplyConfiguration {
		return corev1ac.Probe().WithTCPSocket(corev1ac.TCPSocketAction().WithPort(intstr.FromString("redis")))
	}
	container := corev1ac.Container().
		WithName(string(naming.Redis)).
		WithImage(image).
		WithCommand("redis-server", redisConfigDir+"/"+redisConfigKey).
		WithPorts(containerPort("redis", naming.PortRedis)).
		WithResources(corev1ac.ResourceRequirements().
			WithRequests(corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: memory}).
			WithLimits(corev1.ResourceList{corev1.ResourceMemory: memory})).
		WithReadinessProbe(connect().WithPeriodSeconds(2).WithTimeoutSeconds(2)).
		WithLivenessProbe(connect().WithPeriodSeconds(10).WithTimeoutSeconds(5).WithFailureThreshold(6)).
		WithVolumeMounts(
			corev1ac.VolumeMount().WithName("config").WithMountPath(redisConfigDir).WithReadOnly(true),
			corev1ac.VolumeMount().WithName("data").WithMountPath(redisDataDir))

	pod := podTemplate(im, naming.Redis, redisScheduling(im), container)
	// The process reads its configuration and its users only when it starts. A Secret that was made anew holds
	// another password, which clients use as soon as they see it.
	pod.WithAnnotations(map[string]string{naming.AnnotationConfigHash: hash(config), naming.AnnotationAuthUID: string(auth)})
	pod.Spec.SecurityContext.WithRunAsUser(redisUserID).WithRunAsGroup(redisUserID).WithFSGroup(redisUserID)
	data := corev1ac.Volume().WithName("data")
	if im.Spec.Redis.Managed.Storage != nil {
		data.WithPersistentVolumeClaim(corev1ac.PersistentVolumeClaimVolumeSource().
			WithClaimName(naming.Object(im.Name, naming.Redis)))
	} else {
		data.WithEmptyDir(corev1ac.EmptyDirVolumeSource())
	}
	pod.Spec.WithVolumes(data, corev1ac.Volume().WithName("config").
		WithConfigMap(corev1ac.ConfigMapVolumeSource().WithName(naming.Object(im.Name, naming.Redis))))
	mountSecrets(pod, []secretMount{redisAuth(im)})

	d := deployment(im, naming.Redis, 1, pod)
	d.Spec.WithStrategy(appsv1ac.DeploymentStrategy().WithType("Recreate"))
	return d
}

// redisScheduling makes the pod leave a lost node early, unless the user says something about it.
func redisScheduling(im *v1alpha1.IMCluster) v1alpha1.Scheduling {
	s := im.Spec.Redis.Managed.Scheduling
	if len(s.Tolerations) > 0 {
		return s
	}
	wait := int64(redisEvictionSeconds)
	for _, taint := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		s.Tolerations = append(s.Tolerations, corev1.Toleration{
			Key: taint, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &wait,
		})
	}
	return s
}

func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}
