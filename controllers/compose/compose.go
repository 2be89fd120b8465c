package compose

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"

	"github.com/imcluster/imcluster/api/v1alpha1"
	"github.com/imcluster/imcluster/controllers/naming"
)

// Object is an apply configuration of one Kubernetes object.
type Object interface {
	runtime.ApplyConfiguration
	GetAPIVersion() *string
	GetKind() *string
	GetNamespace() *string
	GetName() *string
}

// Images are what pods run if the spec names no image. Both are required.
type Images struct {
	// DataPlane holds the programs gateway and presence.
	DataPlane string
	// Redis holds the program redis-server.
	Redis string
}

// Objects returns everything that an IMCluster consists of but its Secrets, in the order in which it
// should be written. redisAuth is the UID of the Secret with the users of a managed Redis; as long as it is
// empty, the Deployment of Redis is left out. The error is a [*SpecError] if the spec cannot be understood.
func Objects(im *v1alpha1.IMCluster, images Images, redisAuth types.UID) ([]Object, error) {
	var objects []Object
	if im.Spec.Redis.Managed != nil {
		redis, err := redisObjects(im, images, redisAuth)
		if err != nil {
			return nil, err
		}
		objects = append(objects, redis...)
	}
	objects = append(objects, presenceObjects(im, images)...)
	return append(objects, gatewayObjects(im, images)...), nil
}

// SpecError is a fault in a spec that only a change of the spec heals. The API server refuses such
// specs, so it is seen only where validation was switched off.
type SpecError struct {
	// Field is the path of the field, such as spec.redis.managed.memory.
	Field string
	// Problem says what is wrong with it.
	Problem string
}

func (e *SpecError) Error() string { return e.Field + ": " + e.Problem }

// ownerReference makes an object go away with its IMCluster, and names who controls it.
func ownerReference(im *v1alpha1.IMCluster) *metav1ac.OwnerReferenceApplyConfiguration {
	return metav1ac.OwnerReference().
		WithAPIVersion(v1alpha1.SchemeGroupVersion.String()).
		WithKind(v1alpha1.Kind).
		WithName(im.Name).
		WithUID(im.UID).
		WithController(true).
		WithBlockOwnerDeletion(true)
}

// DataPlaneImage returns the image of gateway and presence pods.
func DataPlaneImage(im *v1alpha1.IMCluster, images Images) string {
	if im.Spec.Image != "" {
		return im.Spec.Image
	}
	return images.DataPlane
}

// WebSocketURL returns where clients connect: through the Ingress, or else inside the cluster.
func WebSocketURL(im *v1alpha1.IMCluster) string {
	ingress := im.Spec.Gateway.Ingress
	switch {
	case ingress == nil:
		return "ws://" + naming.Object(im.Name, naming.Gateway) + "." + im.Namespace + ".svc" + webSocketPath
	case ingress.TLSSecretName == "":
		return "ws://" + ingress.Host + webSocketPath
	default:
		return "wss://" + ingress.Host + webSocketPath
	}
}

// PresenceURL returns the base URL of the presence API inside the cluster.
func PresenceURL(im *v1alpha1.IMCluster) string {
	return "http://" + naming.Object(im.Name, naming.Presence) + "." + im.Namespace + ".svc"
}
