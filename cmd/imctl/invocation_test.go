package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestInvocation(t *testing.T) {
	module, installed := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(module, "cmd/imctl"), 0o700); err != nil {
		t.Fatal(err)
	}
	onPath := filepath.Join(installed, "imctl")
	if err := os.WriteFile(onPath, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", installed)
	for path, want := range map[string]string{
		"/tmp/go-build1/b001/exe/imctl":    "go run ./cmd/imctl",
		filepath.Join(module, "bin/imctl"): "bin/imctl",
		filepath.Join(module, "imctl"):     "./imctl",
		"/opt/imctl":                       "/opt/imctl",
		onPath:                             "imctl",
	} {
		if got := invocationOf(path, module); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}
