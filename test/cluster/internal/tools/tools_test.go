package tools

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/imcluster/imcluster/test/cluster/internal/progress"
	"github.com/imcluster/imcluster/test/cluster/internal/workspace"
)

// hello is a tool that builds in a moment, with a second name for its program.
var hello = recipe{
	module:   ".",
	inputs:   []string{"cmd/hello"},
	packages: []string{"./cmd/hello"},
	programs: map[string]string{"bonjour": "hello"},
}

func helloShelf(t *testing.T) (*Shelf, string) {
	t.Helper()
	w := workspace.Workspace{Root: t.TempDir(), Cache: t.TempDir()}
	source := filepath.Join(w.Tool(), "cmd", "hello", "main.go")
	write(t, filepath.Join(w.Tool(), "go.mod"), "module example.org/hello\n\ngo 1.26.0\n")
	write(t, source, "package main\n\nfunc main() { print(\"hello\") }\n")
	s := NewShelf(w, progress.New(t.Output()))
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return s, source
}

func write(t *testing.T, path, body string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestBuildGivesProgramsAndClearsWhatAKilledBuildLeft(t *testing.T) {
	s, _ := helloShelf(t)
	abandoned := filepath.Join(s.dir, ".building-hello-123")
	write(t, filepath.Join(abandoned, "half"), "")
	dir := filepath.Join(s.dir, "hello-key")
	if err := s.build(t.Context(), "hello", hello, dir); err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{"hello", "bonjour"} {
		output, err := exec.CommandContext(t.Context(), filepath.Join(dir, program)).CombinedOutput()
		if err != nil || string(output) != "hello" {
			t.Errorf("%s: %q, %v", program, output, err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(s.dir, ".building-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

func TestFailedBuildLeavesNothingAndSaysWhy(t *testing.T) {
	s, source := helloShelf(t)
	write(t, source, "package main\n\nfunc main() { nonsense() }\n")
	dir := filepath.Join(s.dir, "hello-key")
	if err := s.build(t.Context(), "hello", hello, dir); err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("build: %v, want the compiler's complaint", err)
	}
	if left, err := os.ReadDir(s.dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestKeyFollowsWhatGoesIn(t *testing.T) {
	s, source := helloShelf(t)
	key := func(r recipe) string {
		t.Helper()
		key, err := s.key(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	first := key(hello)
	if again := key(hello); again != first {
		t.Errorf("the key changed from %s to %s by itself", first, again)
	}
	write(t, filepath.Join(filepath.Dir(source), "notes.txt"), "not compiled")
	if again := key(hello); again != first {
		t.Error("a file that is not compiled changed the key")
	}
	flagged := hello
	flagged.ldflags = "-X main.version=2"
	if key(flagged) == first {
		t.Error("other flags have the same key")
	}
	write(t, source, "package main\n\nfunc main() {}\n")
	if key(hello) == first {
		t.Error("other sources have the same key")
	}
}

func TestConcurrentCallersShareOneBuild(t *testing.T) {
	w, err := workspace.Find()
	if err != nil {
		t.Fatal(err)
	}
	w.Cache = t.TempDir()
	var out strings.Builder
	s := NewShelf(w, progress.New(&out)) // which serialises its writes
	var callers sync.WaitGroup
	for range 3 {
		callers.Go(func() {
			if path, err := s.Path(t.Context(), "pause"); err != nil {
				t.Error(err)
			} else if _, err := os.Stat(path); err != nil {
				t.Error(err)
			}
		})
	}
	callers.Wait()
	if builds := strings.Count(out.String(), "building pause, once"); builds != 1 {
		t.Errorf("%d builds, want 1:\n%s", builds, out.String())
	}
}

func TestOf(t *testing.T) {
	for program, want := range map[string]Tool{
		"kubectl": Kube, "kube": Kube, "ctr": Containerd, "helm": Helm, "coredns": CoreDNS, "volume-provisioner": Kube,
	} {
		if got, ok := Of(program); !ok || got != want {
			t.Errorf("Of(%s) = %s, %v; want %s", program, got, ok, want)
		}
	}
	if got, ok := Of("emacs"); ok {
		t.Errorf("Of(emacs) = %s", got)
	}
}
