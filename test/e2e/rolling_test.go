package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// soakReport is what "imctl soak" prints in the end.
type soakReport struct {
	Final                                                                      bool
	Users, Sent, Stored, Delivered, Repeated, Lost, Foreign, Ended, Reconnects int
	ReconnectsPerSecondP99                                                     float64
	PresenceLooks, PresenceOffline, PresenceUnknown                            int
	AckMillisP50, AckMillisP99                                                 float64
}

// TestRollingRestartLosesNothing replaces every gateway pod under 1,000 users who chat: nothing is lost, reconnects keep
// to the rate, and presence never shows anybody offline.
func TestRollingRestartLosesNothing(t *testing.T) {
	p := start(t, newIMCluster(namespace(t), "rolling"))
	before := uids(p.pods("gateway"))
	const users, rate = 1000, 200 // reconnects a second, the default
	job := p.soak(users, 60*time.Second)
	p.waitLogged(job, `"final":false`) // they chat

	imc := p.get()
	limit := int32(10_000)
	imc.Spec.Gateway.MaxConnectionsPerPod = &limit
	if err := cluster.Update(t.Context(), imc); err != nil {
		t.Fatal(err)
	}
	p.waitReady()
	for _, pod := range p.pods("gateway") {
		if before[pod.UID] {
			t.Errorf("pod %s was not replaced", pod.Name)
		}
	}
	report := p.soaked(job)
	if report.Users != users || report.Stored < users || report.PresenceLooks == 0 {
		t.Errorf("the rehearsal did little: %+v", report)
	}
	if report.Lost != 0 || report.Foreign != 0 || report.Ended != 0 {
		t.Errorf("promises were broken: %+v", report)
	}
	if report.PresenceOffline != 0 {
		t.Errorf("presence showed users offline who only moved: %+v", report)
	}
	if report.Reconnects < users {
		t.Errorf("%d reconnects of %d users: their pods are gone, so each must have moved", report.Reconnects, users)
	}
	if most := 1.5 * rate; report.ReconnectsPerSecondP99 > most {
		t.Errorf("%v reconnects in a second, want at most %v", report.ReconnectsPerSecondP99, most)
	}
}

// soak starts "imctl soak" in the cluster, against the Services as any client would.
func (p *platform) soak(users int, length time.Duration) *batchv1.Job {
	p.t.Helper()
	no, yes, user := false, true, int64(65532)
	zero, deadline := int32(0), int64(600)
	job := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.key.Namespace, Name: "soak"},
		Spec: batchv1.JobSpec{BackoffLimit: &zero, ActiveDeadlineSeconds: &deadline, Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever, AutomountServiceAccountToken: &no,
			SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: &yes, RunAsUser: &user,
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
			Containers: []corev1.Container{{
				Name: "imctl", Image: p.pods("gateway")[0].Spec.Containers[0].Image,
				Command: []string{"/usr/local/bin/imctl", "soak", "--json",
					"--gateway-url=ws://" + p.key.Name + "-gateway/ws", "--presence-url=http://" + p.key.Name + "-presence",
					"--api-key-file=/etc/imcluster/api-key/current", fmt.Sprintf("--users=%d", users), "--for=" + length.String(),
				},
				SecurityContext: &corev1.SecurityContext{AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
					Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}},
				VolumeMounts: []corev1.VolumeMount{{Name: "api-key", MountPath: "/etc/imcluster/api-key", ReadOnly: true}},
			}},
			Volumes: []corev1.Volume{{Name: "api-key", VolumeSource: corev1.VolumeSource{
				Secret: &corev1.SecretVolumeSource{SecretName: p.key.Name + "-api-key"}}}},
		}}},
	}
	if err := cluster.Create(p.t.Context(), job); err != nil {
		p.t.Fatal(err)
	}
	return job
}

// logs returns what the job has printed so far.
func (p *platform) logs(job *batchv1.Job) (string, error) {
	return kubectl(p.t.Context(), "-n", job.Namespace, "logs", "job/"+job.Name)
}

// waitLogged waits until the job has printed the text.
func (p *platform) waitLogged(job *batchv1.Job, text string) {
	p.t.Helper()
	eventually(p.t, 2*time.Minute, func() error {
		out, err := p.logs(job)
		if err == nil && !strings.Contains(out, text) {
			err = fmt.Errorf("the job printed %q", out)
		}
		return err
	})
}

// soaked waits for the end of the job and returns its report.
func (p *platform) soaked(job *batchv1.Job) (report soakReport) {
	p.t.Helper()
	eventually(p.t, 3*time.Minute, func() error {
		if err := cluster.Get(p.t.Context(), client.ObjectKeyFromObject(job), job); err != nil {
			return err
		}
		if job.Status.Succeeded+job.Status.Failed == 0 {
			return errors.New("the rehearsal still runs")
		}
		return nil
	})
	out, err := p.logs(job)
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(out) {
		if strings.Contains(line, `"final":true`) {
			p.t.Log(line)
			if err := json.Unmarshal([]byte(line), &report); err != nil {
				p.t.Fatal(err)
			}
		}
	}
	if !report.Final {
		p.t.Fatalf("the rehearsal printed no report:\n%s", out)
	}
	return report
}
