package status

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/imcluster/imcluster/controllers/naming"
)

// maxCause bounds what is quoted of others, in bytes.
const maxCause = 240

// unschedulable begins what is said of a pod that no node takes. A cluster that adds nodes heals that by itself.
const unschedulable = "no node takes the pod: "

// Cause says in a few words why a pod cannot work, or nothing if it works or may still come up by itself.
//
// It stays the same for as long as the reason does: a pod whose image cannot be pulled alternates between
// two states, one that crashes between three, and a scheduler counts nodes, none of which may make the
// status of an IMCluster change. So it holds no names of pods and no numbers of nodes or restarts.
func Cause(pod *corev1.Pod) string {
	if pod.DeletionTimestamp != nil {
		return "" // stopping is what it is to do
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
			return unschedulable + shorten(schedulerReasons(c.Message))
		}
	}
	for _, c := range pod.Status.ContainerStatuses {
		if text := containerCause(c); text != "" {
			return text
		}
	}
	return ""
}

func containerCause(c corev1.ContainerStatus) string {
	if c.Ready {
		return ""
	}
	if waiting := c.State.Waiting; waiting != nil {
		switch waiting.Reason {
		case "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable":
			return fmt.Sprintf("the image %q cannot be pulled", c.Image)
		case "InvalidImageName":
			return fmt.Sprintf("the image name %q is not valid", c.Image)
		case "CreateContainerConfigError":
			return "the container cannot be created: " + shorten(waiting.Message)
		case "CreateContainerError", "RunContainerError":
			return "the container cannot be started (" + waiting.Reason + ")" // messages hold container IDs
		}
	}
	ended := c.State.Terminated
	if ended == nil {
		ended = c.LastTerminationState.Terminated
	}
	if ended == nil {
		return ""
	}
	if ended.Reason == "OOMKilled" {
		return "the container ran out of memory and was killed"
	}
	text := fmt.Sprintf("the container ended with exit code %d", ended.ExitCode)
	if line := lastWords(ended.Message); line != "" {
		text += ": " + shorten(line)
	}
	return text
}

// redisStamp is what Redis puts before each line of its log.
var redisStamp = regexp.MustCompile(`^\d+:[A-Z] \d+ \w+ \d+ [\d:.]+ . `)

// lastWords returns the last line of a termination message, unless it is a log line, which has a time.
func lastWords(message string) string {
	lines := strings.Split(strings.TrimSpace(message), "\n")
	line := redisStamp.ReplaceAllString(strings.TrimSpace(lines[len(lines)-1]), "")
	if strings.HasPrefix(line, "{") {
		return ""
	}
	return line
}

// nodeCount is the number of nodes that a scheduler's reason goes for.
var nodeCount = regexp.MustCompile(`^\d+ `)

// schedulerReasons turns "0/3 nodes are available: 1 Too many pods, 2 Insufficient cpu. preemption: …" into
// "Insufficient cpu, Too many pods".
func schedulerReasons(message string) string {
	if _, rest, ok := strings.Cut(message, "nodes are available: "); ok {
		message = rest
	}
	message, _, _ = strings.Cut(message, ". ")
	reasons := strings.Split(strings.TrimSuffix(message, "."), ", ")
	for i, reason := range reasons {
		reasons[i] = nodeCount.ReplaceAllString(reason, "")
	}
	slices.Sort(reasons)
	return strings.Join(slices.Compact(reasons), ", ")
}

// shorten cuts a text between two characters.
func shorten(text string) string {
	if len(text) <= maxCause {
		return text
	}
	end := maxCause
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}

// cause is why a component is not complete.
type cause struct {
	text string
	// passing is true for what happens on the way, too: a volume is made, or a node added.
	passing bool
}

// causeOf says why a component is not complete, if its pods, its volume or its Deployment tell. Of several
// reasons it takes always the same one.
func causeOf(in Input, component naming.Component, d *appsv1.Deployment) cause {
	var causes []string
	for i := range in.Pods {
		if in.Pods[i].Labels[naming.LabelComponent] != string(component) {
			continue
		}
		if text := Cause(&in.Pods[i]); text != "" {
			causes = append(causes, text)
		}
	}
	slices.Sort(causes)
	unbound := component == naming.Redis && in.Claim != nil && in.Claim.Status.Phase == corev1.ClaimPending
	switch {
	case unbound && (len(causes) == 0 || strings.Contains(causes[0], "PersistentVolumeClaim")):
		return cause{fmt.Sprintf("the PersistentVolumeClaim %s has no volume yet; %s", in.Claim.Name, storageClass(in.Claim)), true}
	case len(causes) > 0:
		return cause{causes[0], strings.HasPrefix(causes[0], unschedulable)}
	default:
		return cause{text: creationFailure(d)}
	}
}

func storageClass(claim *corev1.PersistentVolumeClaim) string {
	if name := claim.Spec.StorageClassName; name != nil && *name != "" {
		return fmt.Sprintf("it waits for the StorageClass %q, which must exist and have a provisioner", *name)
	}
	return "it has no StorageClass, because the cluster has no default one; set spec.redis.managed.storage.className"
}

// creationFailure says why no pods can be created at all, as by a quota.
func creationFailure(d *appsv1.Deployment) string {
	if d == nil {
		return ""
	}
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue {
			_, why, ok := strings.Cut(c.Message, " is forbidden: ") // before that is a pod's name
			if !ok {
				why = c.Reason
			}
			return "pods cannot be created: " + shorten(why)
		}
	}
	return ""
}
