// Package tools builds the programs that a cluster consists of, from pinned sources, and keeps them outside the
// checkout under a key of all that went into them: the same key is built once, whatever is checked out meanwhile.
package tools

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/imcluster/imcluster/test/cluster/internal/progress"
	"github.com/imcluster/imcluster/test/cluster/internal/workspace"
)

// Shelf is where built tools are kept.
type Shelf struct {
	dir    string // each tool in its own directory <tool>-<key>
	source string // test/cluster of the checkout
	log    *progress.Log
}

// NewShelf returns the shelf in the workspace's cache.
func NewShelf(w workspace.Workspace, log *progress.Log) *Shelf {
	return &Shelf{dir: filepath.Join(w.Cache, "tools"), source: w.Tool(), log: log}
}

// Path returns the path of a program, which it builds if need be.
func (s *Shelf) Path(ctx context.Context, program string) (string, error) {
	tool, ok := Of(program)
	if !ok {
		return "", fmt.Errorf("no tool has a program %q", program)
	}
	dir, err := s.Dir(ctx, tool)
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, program), nil
}

// Dir returns the directory with the tool's programs, which it builds if need be. It is safe to call from several
// processes at once; one builds, the others wait.
func (s *Shelf) Dir(ctx context.Context, tool Tool) (string, error) {
	r := recipes[tool]
	key, err := s.key(ctx, r)
	if err != nil {
		return "", fmt.Errorf("key of %s: %w", tool, err)
	}
	dir := filepath.Join(s.dir, string(tool)+"-"+key)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	unlock, err := workspace.Lock(filepath.Join(s.dir, "."+string(tool)+".lock"), func() {
		s.log.Step("another process is building %s; waiting for it", tool)
	})
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	return dir, s.build(ctx, tool, r, dir)
}

// build makes the tool in a temporary directory and moves it to dir when it is whole. The tool's lock is held.
func (s *Shelf) build(ctx context.Context, tool Tool, r recipe, dir string) error {
	s.log.Step("building %s, once (about %.0f s with empty Go caches on two cores)", tool, r.cold.Seconds())
	defer s.log.Patience("building "+string(tool), 15*time.Second, r.cold)()

	prefix := ".building-" + string(tool) + "-"
	abandoned, err := filepath.Glob(filepath.Join(s.dir, prefix+"*"))
	if err != nil {
		return err
	}
	for _, path := range abandoned { // by builds that were killed
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("clear an unfinished build: %w", err)
		}
	}
	part, err := os.MkdirTemp(s.dir, prefix)
	if err != nil {
		return err
	}
	defer os.RemoveAll(part)

	if output, err := s.command(ctx, r, part).CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", tool, err, withoutDownloads(output))
	}
	for _, name := range slices.Sorted(maps.Keys(r.programs)) {
		if err := os.Symlink(r.programs[name], filepath.Join(part, name)); err != nil {
			return err
		}
	}
	if err := os.Chmod(part, 0o755); err != nil {
		return err
	}
	return os.Rename(part, dir)
}

// command is the Go command that puts the programs into dir. Published packages go by "go install", which cannot be
// told where to but by GOBIN.
func (s *Shelf) command(ctx context.Context, r recipe, dir string) *exec.Cmd {
	args := []string{"build", "-ldflags", "-s -w " + r.ldflags, "-o", dir + "/"}
	if r.module == "" {
		args = []string{"install", "-ldflags", "-s -w " + r.ldflags}
	}
	cmd := exec.CommandContext(ctx, "go", append(args, r.packages...)...)
	cmd.Dir = filepath.Join(s.source, r.module)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-buildvcs=false", "GOBIN="+dir)
	// Leave the Go command time to end its children.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// key is a digest of everything that decides what a build gives.
func (s *Shelf) key(ctx context.Context, r recipe) (string, error) {
	compiler, err := exec.CommandContext(ctx, "go", "env", "GOVERSION", "GOOS", "GOARCH").Output()
	if err != nil {
		return "", fmt.Errorf("ask the Go command for its version: %w", err)
	}
	sum := sha256.New()
	fmt.Fprintf(sum, "%s\n%q\n%q\n%v\n", compiler, r.packages, r.ldflags, r.programs)
	for _, input := range r.inputs {
		if err := addTree(sum, s.source, input); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%x", sum.Sum(nil))[:12], nil
}

// addTree adds the names and contents of the Go and module files at or below root/path.
func addTree(sum hash.Hash, root, path string) error {
	return filepath.WalkDir(filepath.Join(root, path), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !slices.Contains([]string{".go", ".mod", ".sum"}, filepath.Ext(path)) {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		fmt.Fprintf(sum, "file %s\n", name)
		_, err = io.Copy(sum, f)
		return err
	})
}

// withoutDownloads drops the Go command's progress, which would bury the error.
func withoutDownloads(output []byte) string {
	var kept []string
	for line := range strings.Lines(string(output)) {
		if !strings.HasPrefix(line, "go: downloading ") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}
