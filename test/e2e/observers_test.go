package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	imv1 "github.com/imcluster/imcluster/api/v1alpha1"
	imclient "github.com/imcluster/imcluster/client"
)

const (
	// lookInterval is how often presence is queried, and how soon an observer tries again.
	lookInterval = 100 * time.Millisecond
	// silence is after how long without a sign of life a watch is begun anew; there is one every 20 s.
	silence = 30 * time.Second
)

// query asks presence again and again.
func (tl *timeline) query(ctx context.Context) {
	defer tl.queries.shut()
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for ctx.Err() == nil {
		answers, err := tl.look(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			tl.mark("the query failed and goes on at another pod: %v", err)
			tl.queries.shut()
		}
		for _, user := range tl.users {
			if a, ok := answers[user]; ok && (user != witness || a.State == "online") {
				tl.see(byQuery, user, a.State)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

func (tl *timeline) look(ctx context.Context) (map[string]answer, error) {
	addr, err := tl.queries.open(ctx)
	if err != nil {
		return nil, err
	}
	return tl.p.askAt(ctx, addr, tl.users...)
}

// follow watches presence, and goes on at another pod where it was when a stream ends.
func (tl *timeline) follow(ctx context.Context) {
	defer tl.watches.shut()
	last := ""
	for ctx.Err() == nil {
		err := tl.stream(ctx, &last)
		if ctx.Err() != nil {
			return
		}
		tl.mark("the watch ended and goes on at another pod: %v", err)
		tl.watches.shut()
		select {
		case <-time.After(lookInterval):
		case <-ctx.Done():
		}
	}
}

// stream reads one stream of events, after the one with the id last.
func (tl *timeline) stream(ctx context.Context, last *string) error {
	addr, err := tl.watches.open(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	query := url.Values{"user": tl.users}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/v1/presence:watch?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+tl.p.apiKey)
	if *last != "" {
		req.Header.Set("Last-Event-ID", *last)
	}
	alive := time.AfterFunc(silence, cancel)
	defer alive.Stop()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("presence answered %s", resp.Status)
	}
	lines, kind := bufio.NewScanner(resp.Body), ""
	for lines.Scan() {
		alive.Reset(silence)
		name, value, _ := strings.Cut(lines.Text(), ":")
		switch value = strings.TrimPrefix(value, " "); name {
		case "event":
			if kind = value; kind == "relist" {
				tl.mark("the watch is told to begin anew")
			}
		case "id":
			*last = value
		case "data":
			if err := tl.told(value); err != nil {
				return fmt.Errorf("event %s: %w", kind, err)
			}
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return errors.New("the stream ended")
}

// told takes the data of an event of the watch.
func (tl *timeline) told(data string) error {
	var e struct {
		Users    []answer `json:"users"`
		Degraded bool     `json:"degraded"`
	}
	if err := json.Unmarshal([]byte(data), &e); err != nil {
		return err
	}
	for _, u := range e.Users {
		if u.User != witness || u.State == "online" {
			tl.see(byWatch, u.User, u.State)
		}
	}
	return nil
}

// receiver names the pod, the Service and the Secret of the receiver of the hooks.
const receiver = "hooks"

// receiverPort is where it listens.
const receiverPort = 8090

// startHooked is start, with a receiver of the hooks: a pod of the data-plane image that prints what it is told.
func startHooked(t *testing.T, imc *imv1.IMCluster) *platform {
	t.Helper()
	meta := metav1.ObjectMeta{Namespace: imc.Namespace, Name: receiver, Labels: map[string]string{"app": receiver}}
	imc.Spec.Presence.Hooks = &imv1.Hooks{
		URL:       imv1.URL(fmt.Sprintf("http://%s:%d/", receiver, receiverPort)),
		SecretRef: imv1.SecretReference{Name: receiver},
	}
	create := func(object client.Object) {
		t.Helper()
		if err := cluster.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	create(&corev1.Secret{ObjectMeta: meta, StringData: map[string]string{"current": "what the hooks of this test are signed with"}})
	create(&corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
		Selector: meta.Labels, Ports: []corev1.ServicePort{{Port: receiverPort}},
	}})
	p := start(t, imc)
	create(receiverPod(meta, p.get().Status.Gateway.Image))
	eventually(t, time.Minute, func() error {
		pod := &corev1.Pod{}
		if err := cluster.Get(t.Context(), client.ObjectKey{Namespace: meta.Namespace, Name: meta.Name}, pod); err != nil {
			return err
		}
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("the receiver of the hooks is not ready: %+v", pod.Status.ContainerStatuses)
	})
	return p
}

func receiverPod(meta metav1.ObjectMeta, image string) *corev1.Pod {
	const dir = "/etc/imcluster/hooks"
	return &corev1.Pod{ObjectMeta: meta, Spec: corev1.PodSpec{
		AutomountServiceAccountToken: new(false),
		SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: new(true), RunAsUser: new(int64(65532)),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
		Containers: []corev1.Container{{
			Name: receiver, Image: image, ImagePullPolicy: corev1.PullIfNotPresent,
			Command: []string{"/usr/local/bin/imctl", "--json", "hooks", fmt.Sprintf("--listen=:%d", receiverPort), "--secret-dir=" + dir},
			ReadinessProbe: &corev1.Probe{PeriodSeconds: 1,
				ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(receiverPort)}}},
			SecurityContext: &corev1.SecurityContext{AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
				Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}},
			VolumeMounts: []corev1.VolumeMount{{Name: receiver, MountPath: dir, ReadOnly: true}},
		}},
		Volumes: []corev1.Volume{{Name: receiver, VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: receiver}}}},
	}}
}

// receive reads the log of the receiver of the hooks.
func (tl *timeline) receive(ctx context.Context) {
	newest := map[string]int64{}
	for ctx.Err() == nil {
		err := tl.readLog(ctx, newest)
		if ctx.Err() != nil {
			return
		}
		tl.mark("the log of the receiver ended and is read again: %v", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

// readLog takes what the log says of users, as a receiver does: what has a smaller number than was seen is old.
func (tl *timeline) readLog(ctx context.Context, newest map[string]int64) error {
	pods, err := kubernetes.NewForConfig(cluster.config)
	if err != nil {
		return err
	}
	log, err := pods.CoreV1().Pods(tl.p.key.Namespace).GetLogs(receiver, &corev1.PodLogOptions{Follow: true}).Stream(ctx)
	if err != nil {
		return err
	}
	defer log.Close()
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		var e imclient.HookEvent
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.Seq <= newest[e.PeerID] {
			continue // what it says at its start, or old
		}
		newest[e.PeerID] = e.Seq
		if e.Hook == imclient.ClientOnline {
			tl.see(byHook, e.PeerID, "online")
		} else {
			tl.see(byHook, e.PeerID, "offline")
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return errors.New("the log ended")
}
