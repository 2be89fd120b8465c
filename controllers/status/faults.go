package status

import (
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/imcluster/imcluster/controllers/compose"
)

// Reasons of the conditions Ready, Reconciling and Stalled.
const (
	ReasonReady              = "Ready"
	ReasonSuspended          = "Suspended"
	ReasonInvalidSpec        = "InvalidSpec"
	ReasonNameConflict       = "NameConflict"
	ReasonRejected           = "Rejected"
	ReasonSecretMissing      = "SecretMissing"
	ReasonSecretInvalid      = "SecretInvalid"
	ReasonWaitingForDeletion = "WaitingForDeletion"
	ReasonWriteFailed        = "WriteFailed"
)

// Fault is something that keeps a spec from being in effect.
type Fault struct {
	// Reason is the machine-readable kind of the fault.
	Reason string
	// Message says what is wrong and what to do.
	Message string
	// Stalls is true if only a change by the user of something that the operator does not look at again by
	// itself heals the fault.
	Stalls bool
	// Works is true while the operator or Kubernetes is still working on it.
	Works bool
}

// Suspended says that the user told the operator to stop.
func Suspended() Fault {
	return Fault{Reason: ReasonSuspended,
		Message: "spec.suspend is true: what runs stays as it is, and changes of the spec wait until it is false"}
}

// InvalidSpec says that the spec cannot be understood.
func InvalidSpec(err *compose.SpecError) Fault {
	return Fault{Reason: ReasonInvalidSpec, Stalls: true, Message: "Change " + err.Error()}
}

// NameConflict says that an object of somebody else has the name of one of ours.
func NameConflict(object string) Fault {
	return Fault{Reason: ReasonNameConflict, Stalls: true, Message: fmt.Sprintf(
		"%s exists and does not belong to this IMCluster, so it is left alone; delete or rename it, or use another name for the IMCluster", object)}
}

// Rejected says that the API server finds an object invalid that the spec leads to.
func Rejected(object string, err error) Fault {
	return Fault{Reason: ReasonRejected, Stalls: true, Message: fmt.Sprintf("%s was rejected: %s; change the spec", object, apiMessage(err))}
}

// WaitingForDeletion says that an object is being deleted, mostly because it belonged to a deleted
// IMCluster of the same name, and cannot be made anew before it is gone.
func WaitingForDeletion(object string) Fault {
	return Fault{Reason: ReasonWaitingForDeletion, Works: true, Message: fmt.Sprintf(
		"%s is being deleted, perhaps with an IMCluster that had this name before; waiting for Kubernetes to remove it", object)}
}

// WriteFailed says that an object could not be written this time. The operator tries again.
func WriteFailed(object string, err error) Fault {
	return Fault{Reason: ReasonWriteFailed, Works: true, Message: fmt.Sprintf("%s could not be written: %s; trying again", object, apiMessage(err))}
}

// SecretMissing says that a Secret that the spec names is not there. Pods that need it wait for it.
func SecretMissing(field, name, key string) Fault {
	return Fault{Reason: ReasonSecretMissing, Message: fmt.Sprintf(
		"Secret %s (%s) does not exist; create it with the key %q", name, field, key)}
}

// SecretInvalid says that a Secret lacks what is needed of it.
func SecretInvalid(field, name, key string) Fault {
	return Fault{Reason: ReasonSecretInvalid, Message: fmt.Sprintf(
		"Secret %s (%s) has no value under the key %q; add it", name, field, key)}
}

// SecretTooShort says that a key in a Secret can be guessed. Pods use it all the same.
func SecretTooShort(field, name, key string, minBytes int) Fault {
	return Fault{Reason: ReasonSecretInvalid, Message: fmt.Sprintf(
		"Secret %s (%s) has less than %d bytes under the key %q, so it can be guessed; replace it by random bytes", name, field, minBytes, key)}
}

// GeneratedSecretInvalid says that a Secret that the operator made has lost its value.
func GeneratedSecretInvalid(name, key string) Fault {
	return Fault{Reason: ReasonSecretInvalid, Message: fmt.Sprintf(
		"Secret %s has no value under the key %q any more; restore it, or delete the Secret to have a new one made", name, key)}
}

// apiMessage returns what the API server says about a request, or for errors that are not the API
// server's, which may hold addresses and ports that change, a fixed text.
func apiMessage(err error) string {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return "the API server could not be reached"
	}
	if apierrors.IsInvalid(err) || apierrors.IsForbidden(err) || apierrors.IsBadRequest(err) {
		return status.Status().Message
	}
	return string(status.Status().Reason)
}
