package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func TestImageHoldsItsFilesAndSettings(t *testing.T) {
	program := filepath.Join(t.TempDir(), "tool")
	if err := os.WriteFile(program, []byte("#!"), 0o600); err != nil {
		t.Fatal(err)
	}
	spec := Programs("example.org/tool:v1", "A tool", "v1", program)
	spec.Files = append(spec.Files, File{Path: "/data/", Mode: 0o700, UID: 999, GID: 999})
	archive := filepath.Join(t.TempDir(), "out", "image.tar")
	if err := Write(archive, spec); err != nil {
		t.Fatal(err)
	}

	img, err := tarball.ImageFromPath(archive, nil)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.User != "65532:65532" || config.Config.Labels["org.opencontainers.image.version"] != "v1" || config.OS != "linux" {
		t.Errorf("config is %+v", config)
	}
	contents := mutate.Extract(img)
	defer contents.Close()
	want := []string{
		"data 700 999:999",
		"etc 755 0:0", "etc/passwd 644 0:0",
		"usr 755 0:0", "usr/local 755 0:0", "usr/local/bin 755 0:0", "usr/local/bin/tool 755 0:0",
	}
	if got := list(t, contents); !slices.Equal(got, want) {
		t.Errorf("files are\n%q, want\n%q", got, want)
	}
}

func list(t *testing.T, archive io.Reader) []string {
	t.Helper()
	var entries []string
	for r := tar.NewReader(archive); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return entries
		} else if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, fmt.Sprintf("%s %o %d:%d", h.Name, h.Mode, h.Uid, h.Gid))
	}
}

func TestEqualInputsGiveEqualBytes(t *testing.T) {
	spec := Spec{Ref: "example.org/a:1", Files: []File{
		{Path: "/b", Body: []byte("b"), Mode: 0o644},
		{Path: "/a/c", Body: []byte("c"), Mode: 0o644},
	}}
	var archives [2][]byte
	for i := range archives {
		path := filepath.Join(t.TempDir(), "image.tar")
		if err := Write(path, spec); err != nil {
			t.Fatal(err)
		}
		slices.Reverse(spec.Files)
		var err error
		if archives[i], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("two archives of the same files differ")
	}
}

func TestWriteRefuses(t *testing.T) {
	for name, spec := range map[string]Spec{
		"a reference without tag": {Ref: "example.org/a"},
		"a file twice":            {Ref: "example.org/a:1", Files: []File{{Path: "/a"}, {Path: "/a"}}},
		"a source that is not":    {Ref: "example.org/a:1", Files: []File{{Path: "/a", Source: "/nonexistent"}}},
	} {
		path := filepath.Join(t.TempDir(), "image.tar")
		if err := Write(path, spec); err == nil {
			t.Errorf("Write accepted %s", name)
		}
		if Exists(path) {
			t.Errorf("Write left an archive for %s", name)
		}
	}
}

func TestParseLibraries(t *testing.T) {
	got, err := parseLibraries("\tlinux-vdso.so.1 (0x00007ffd)\n" +
		"\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f8e)\n" +
		"\t/lib64/ld-linux-x86-64.so.2 (0x00007f8f)\n")
	want := []string{"/lib/x86_64-linux-gnu/libm.so.6", "/lib64/ld-linux-x86-64.so.2"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	if _, err := parseLibraries("\tlibx.so => not found\n"); err == nil {
		t.Error("a missing library is no error")
	}
}

func TestParseRedisVersion(t *testing.T) {
	got, err := parseRedisVersion("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=1\n")
	if err != nil || got != "7.0.15" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := parseRedisVersion("something else"); err == nil {
		t.Error("no version is no error")
	}
}
