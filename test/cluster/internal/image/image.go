// Package image makes container images without a container engine: one layer of given files, written as the archive
// that "docker load", "ctr images import" and "kind load image-archive" read. Equal inputs give equal bytes.
package image

import (
	"archive/tar"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// File is a file or directory of an image.
type File struct {
	// Path is absolute. One that ends in "/" is a directory; directories above a file need no entry of their own.
	Path string
	// Source is the file on this machine whose contents to take, symbolic links followed; Body is used if it is "".
	Source string
	Body   []byte
	Mode   int64 // permission bits
	UID    int
	GID    int
}

// Spec describes an image for this machine's architecture.
type Spec struct {
	Ref        string // repository:tag
	Files      []File
	User       string // uid:gid
	Env        []string
	Entrypoint []string
	Cmd        []string
	WorkingDir string
	Labels     map[string]string
}

// Write makes the image and writes its archive to path in one step.
func Write(path string, spec Spec) error {
	tag, err := name.NewTag(spec.Ref, name.StrictValidation)
	if err != nil {
		return fmt.Errorf("image reference: %w", err)
	}
	img, err := build(spec)
	if err != nil {
		return fmt.Errorf("build %s: %w", spec.Ref, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	part := fmt.Sprintf("%s.%d.part", path, os.Getpid())
	defer os.Remove(part)
	if err := tarball.WriteToFile(part, tag, img); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(part, path)
}

func build(spec Spec) (v1.Image, error) {
	contents, err := archive(spec.Files)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(contents)), nil
	})
	if err != nil {
		return nil, err
	}
	img, err := mutate.Append(empty.Image, mutate.Addendum{Layer: layer, History: v1.History{CreatedBy: "cluster image"}})
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config.OS = "linux"
	config.Architecture = runtime.GOARCH
	config.Config = v1.Config{
		User:       spec.User,
		Env:        spec.Env,
		Entrypoint: spec.Entrypoint,
		Cmd:        spec.Cmd,
		WorkingDir: spec.WorkingDir,
		Labels:     spec.Labels,
	}
	return mutate.ConfigFile(img, config)
}

// archive writes the files as a tar stream in path order, with the directories above them and no times.
func archive(files []File) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	files = slices.SortedFunc(slices.Values(files), func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	written := map[string]bool{}
	for _, f := range files {
		if err := addParents(w, f.Path, written); err != nil {
			return nil, err
		}
		if err := add(w, f, written); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func addParents(w *tar.Writer, name string, written map[string]bool) error {
	parent := path.Dir(strings.TrimSuffix(name, "/"))
	if parent == "/" || written[parent] {
		return nil
	}
	if err := addParents(w, parent, written); err != nil {
		return err
	}
	return add(w, File{Path: parent + "/", Mode: 0o755}, written)
}

func add(w *tar.Writer, f File, written map[string]bool) error {
	key := path.Clean(f.Path)
	if written[key] {
		return fmt.Errorf("is there twice, or comes after a file below it")
	}
	written[key] = true
	header := tar.Header{
		Name:     strings.TrimPrefix(f.Path, "/"),
		Typeflag: tar.TypeReg,
		Mode:     f.Mode,
		Uid:      f.UID,
		Gid:      f.GID,
		ModTime:  time.Unix(0, 0),
		Format:   tar.FormatPAX,
	}
	body := f.Body
	switch {
	case strings.HasSuffix(f.Path, "/"):
		header.Typeflag = tar.TypeDir
	case f.Source != "":
		var err error
		if body, err = os.ReadFile(f.Source); err != nil {
			return err
		}
	}
	header.Size = int64(len(body))
	if err := w.WriteHeader(&header); err != nil {
		return err
	}
	_, err := w.Write(body)
	return err
}
