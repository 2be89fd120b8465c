package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	imv1 "github.com/imcluster/imcluster/api/v1alpha1"
)

const (
	operatorNamespace = "imcluster-system"
	release           = "imcluster"

	// localRedisImage names the environment variable with the Redis image of a cluster that cannot pull any.
	localRedisImage = "IMC_LOCAL_REDIS_IMAGE"
)

// cluster is the Kubernetes cluster under test. It is set once, by TestMain.
var cluster struct {
	client.Client
	config *rest.Config
}

func TestMain(m *testing.M) {
	if err := connect(); err != nil {
		fmt.Fprintf(os.Stderr, "e2e: %v\nRun these tests with `make test-e2e`, which starts a cluster and loads the images.\n", err)
		os.Exit(1)
	}
	if err := installChart(context.Background()); err != nil {
		fmt.Fprintf(os.Stderr, "e2e: %v\n", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// connect opens the cluster of KUBECONFIG, never the user's default one.
func connect() error {
	path := os.Getenv("KUBECONFIG")
	if path == "" {
		return errors.New("KUBECONFIG is not set")
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 100, 200
	log.SetLogger(zap.New(zap.WriteTo(io.Discard)))
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(imv1.AddToScheme(scheme))
	cluster.config = config
	cluster.Client, err = client.New(config, client.Options{Scheme: scheme})
	return err
}

// installChart installs the operator, or upgrades it to this source tree.
func installChart(ctx context.Context) error {
	fmt.Println("e2e: installing the operator with Helm")
	args := []string{"upgrade", "--install", release, "../../charts/imcluster", "--namespace", operatorNamespace,
		"--create-namespace", "--wait", "--timeout", "3m"}
	if image := os.Getenv(localRedisImage); image != "" {
		args = append(args, "--set", "redis.image="+image)
	}
	_, err := helm(ctx, args...)
	return err
}

// helm runs Helm and returns what it printed.
func helm(ctx context.Context, args ...string) (string, error) {
	return run(ctx, envOr("IMC_HELM", "helm"), args...)
}

// kubectl runs kubectl and returns what it printed.
func kubectl(ctx context.Context, args ...string) (string, error) {
	return run(ctx, envOr("IMC_KUBECTL", "kubectl"), args...)
}

func run(ctx context.Context, name string, args ...string) (string, error) {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %v: %w\n%s", name, args, err, out.String())
	}
	return out.String(), nil
}

func envOr(name, fallback string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return fallback
}

// namespace creates a namespace under the restricted Pod Security Standard, and deletes it after the test.
func namespace(t *testing.T) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		GenerateName: "e2e-", Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}}}
	if err := cluster.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			describe(t, ns.Name)
		}
		if err := cluster.Delete(context.WithoutCancel(t.Context()), ns); err != nil {
			t.Error(err)
		}
	})
	return ns.Name
}

// describe logs what a person would look at first.
func describe(t *testing.T, ns string) {
	ctx := context.WithoutCancel(t.Context())
	for _, args := range [][]string{
		{"-n", ns, "get", "imc,pods,svc,deploy,pvc", "-o", "wide"},
		{"-n", ns, "get", "imc", "-o", "jsonpath={.items[*].status.conditions}"},
		{"-n", ns, "get", "events", "--sort-by=.lastTimestamp"},
		{"-n", ns, "logs", "--prefix", "--tail=40", "-l", "app.kubernetes.io/part-of=imcluster"},
		{"-n", operatorNamespace, "logs", "--tail=40", "-l", "app.kubernetes.io/name=imcluster"},
	} {
		out, _ := kubectl(ctx, args...)
		t.Logf("kubectl %v\n%s", args, out)
	}
}

// eventually polls until check returns nil, and fails the test with its last error after the timeout.
func eventually(t *testing.T, timeout time.Duration, check func() error) {
	t.Helper()
	deadline := time.Now().Add(timeout)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %v", timeout, err)
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}

// forward makes a port of a pod reachable on this machine, and returns its address. It ends with the test or the pod.
func forward(t *testing.T, pod *corev1.Pod, port int) string {
	t.Helper()
	addr, stop, err := tunnel(pod, port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Logf("forward %s:%d ended: %v", pod.Name, port, err)
		}
	})
	return addr
}

// tunnel leads from a port of this machine to one of a pod until stop is called, which says why it ended before.
func tunnel(pod *corev1.Pod, port int) (addr string, stop func() error, err error) {
	transport, upgrader, err := spdy.RoundTripperFor(cluster.config)
	if err != nil {
		return "", nil, err
	}
	host, err := url.Parse(cluster.config.Host)
	if err != nil {
		return "", nil, err
	}
	host.Path = fmt.Sprintf("/api/v1/namespaces/%s/pods/%s/portforward", pod.Namespace, pod.Name)
	dialer := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, host)
	ready, closed, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	fw, err := portforward.New(dialer, []string{fmt.Sprintf("0:%d", port)}, closed, ready, io.Discard, io.Discard)
	if err != nil {
		return "", nil, err
	}
	go func() { done <- fw.ForwardPorts() }()
	stop = func() error {
		close(closed)
		return <-done
	}
	select {
	case <-ready:
	case err := <-done:
		return "", nil, fmt.Errorf("forward %s:%d: %w", pod.Name, port, err)
	}
	ports, err := fw.GetPorts()
	if err != nil {
		return "", nil, errors.Join(err, stop())
	}
	return fmt.Sprintf("127.0.0.1:%d", ports[0].Local), stop, nil
}
