// Package testenv gives tests a real kube-apiserver, with etcd behind it and the IMCluster resource
// definition installed, but without controllers and kubelets: what a test creates stays as it is.
//
// The binaries are found in the directory that the environment variable KUBEBUILDER_ASSETS names, as
// for controller-runtime's envtest. A test that finds none fails and says how to get them.
package testenv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/imcluster/imcluster/api/v1alpha1"
)

const howToGetBinaries = `this test needs kube-apiserver and etcd: set KUBEBUILDER_ASSETS to the directory that holds them.
"make test" does that; "go -C test/cluster run ./cmd/cluster tools" builds them`

// server is the one API server of a test binary, started by the first test that asks for it.
var server struct {
	sync.Mutex
	env    *envtest.Environment
	config *rest.Config
	err    error
}

// Main runs the tests and stops the API server if one was started. Call it as
//
//	func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }
func Main(m *testing.M) int {
	code := m.Run()
	server.Lock()
	defer server.Unlock()
	if server.env == nil {
		return code
	}
	if err := server.env.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stop the test API server:", err)
		return 1
	}
	return code
}

// Config returns how to reach the API server, and starts it first if need be (about 3 s). The caller
// may change the returned copy.
func Config(t testing.TB) *rest.Config {
	t.Helper()
	server.Lock()
	defer server.Unlock()
	if server.env == nil && server.err == nil {
		server.config, server.err = start()
	}
	if server.err != nil {
		t.Fatal(server.err)
	}
	return rest.CopyConfig(server.config)
}

func start() (*rest.Config, error) {
	assets := os.Getenv("KUBEBUILDER_ASSETS")
	for _, name := range []string{"kube-apiserver", "etcd"} {
		if _, err := os.Stat(filepath.Join(assets, name)); assets == "" || err != nil {
			return nil, fmt.Errorf("%s (KUBEBUILDER_ASSETS=%q)", howToGetBinaries, assets)
		}
	}
	env := &envtest.Environment{
		CRDDirectoryPaths:        []string{filepath.Join(Root(), "config", "crd")},
		ErrorIfCRDPathMissing:    true,
		BinaryAssetsDirectory:    assets,
		ControlPlaneStartTimeout: time.Minute,
	}
	config, err := env.Start()
	if err != nil {
		// It may be up and refuse the definition; do not leave it behind.
		return nil, fmt.Errorf("start the test API server: %w", errors.Join(err, env.Stop()))
	}
	server.env = env
	return config, nil
}

// Scheme returns a scheme with the Kubernetes types and those of IMCluster.
func Scheme(t testing.TB) *apiruntime.Scheme {
	t.Helper()
	scheme := apiruntime.NewScheme()
	for _, add := range []func(*apiruntime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return scheme
}

// Client returns an uncached client with the rights of an administrator. It ignores no unknown or
// duplicate fields: those are errors, as for kubectl.
func Client(t testing.TB) client.Client {
	t.Helper()
	c, err := client.New(Config(t), client.Options{Scheme: Scheme(t)})
	if err != nil {
		t.Fatal(err)
	}
	return client.WithFieldValidation(c, metav1.FieldValidationStrict)
}

// Namespace creates a namespace for one test. It stays, because there is no controller to empty it.
func Namespace(t testing.TB, c client.Client) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}
	if err := c.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	return ns.Name
}

// Root returns the root directory of the repository.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}
