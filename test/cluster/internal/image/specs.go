package image

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// nonroot is the user of images that need none in particular.
const nonroot = "65532:65532"

// Programs is an image of static programs in /usr/local/bin, run by the unprivileged user 65532.
func Programs(ref, title, version string, binaries ...string) Spec {
	spec := Spec{
		Ref:    ref,
		User:   nonroot,
		Env:    []string{"PATH=/usr/local/bin"},
		Labels: labels(title, version),
		Files:  []File{passwd("nonroot", 65532)},
	}
	for _, binary := range binaries {
		spec.Files = append(spec.Files, File{Path: "/usr/local/bin/" + filepath.Base(binary), Source: binary, Mode: 0o755})
	}
	return spec
}

// Redis is an image of this machine's Redis server and client with the libraries that they are linked to, run by the
// user 999 as the images of Redis and Valkey do. It is named for what it is, docker.io/local/redis:<version>.
func Redis(ctx context.Context) (Spec, error) {
	server, err := findRedis()
	if err != nil {
		return Spec{}, err
	}
	version, err := redisVersion(ctx, server)
	if err != nil {
		return Spec{}, err
	}
	client, err := exec.LookPath("redis-cli")
	if err != nil {
		return Spec{}, fmt.Errorf("redis-cli is not in PATH: install redis-tools")
	}
	files := []File{
		passwd("redis", 999),
		{Path: "/data/", Mode: 0o755, UID: 999, GID: 999},
		{Path: "/usr/local/bin/redis-server", Source: server, Mode: 0o755},
		{Path: "/usr/local/bin/redis-cli", Source: client, Mode: 0o755},
	}
	libraries := map[string]bool{}
	for _, program := range []string{server, client} {
		found, err := linkedLibraries(ctx, program)
		if err != nil {
			return Spec{}, err
		}
		for _, library := range found {
			if !libraries[library] {
				libraries[library] = true
				files = append(files, File{Path: library, Source: library, Mode: 0o755})
			}
		}
	}
	return Spec{
		Ref:        "docker.io/local/redis:" + version,
		Files:      files,
		User:       "999:999",
		Env:        []string{"PATH=/usr/local/bin"},
		Entrypoint: []string{"redis-server"},
		WorkingDir: "/data",
		Labels:     labels("Redis of the local machine", version),
	}, nil
}

// findRedis returns the server's path. Debian's redis-tools holds the program under the name redis-check-rdb; only the
// redis-server package, which also starts a server on the machine, calls it redis-server.
func findRedis() (string, error) {
	for _, name := range []string{"redis-server", "redis-check-rdb"} {
		if path, err := exec.LookPath(name); err == nil {
			return filepath.EvalSymlinks(path)
		}
	}
	return "", fmt.Errorf("no Redis server on this machine: install redis-tools")
}

func redisVersion(ctx context.Context, server string) (string, error) {
	cmd := exec.CommandContext(ctx, server, "--version")
	cmd.Args[0] = "redis-server" // the program goes by the name it is called as
	output, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("redis-server --version: %w", err)
	}
	return parseRedisVersion(string(output))
}

var redisVersionPattern = regexp.MustCompile(`\bv=(\d+\.\d+\.\d+)\b`)

func parseRedisVersion(output string) (string, error) {
	found := redisVersionPattern.FindStringSubmatch(output)
	if found == nil {
		return "", fmt.Errorf("no version in %q", output)
	}
	return found[1], nil
}

func linkedLibraries(ctx context.Context, program string) ([]string, error) {
	output, err := exec.CommandContext(ctx, "ldd", program).Output()
	if err != nil {
		return nil, fmt.Errorf("ldd %s: %w", program, err)
	}
	return parseLibraries(string(output))
}

// parseLibraries reads lines such as "libm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x…)" and
// "/lib64/ld-linux-x86-64.so.2 (0x…)".
func parseLibraries(output string) ([]string, error) {
	var paths []string
	for line := range strings.Lines(output) {
		if strings.Contains(line, "not found") {
			return nil, fmt.Errorf("library missing: %s", strings.TrimSpace(line))
		}
		for field := range strings.FieldsSeq(line) {
			if strings.HasPrefix(field, "/") {
				paths = append(paths, field)
			}
		}
	}
	return paths, nil
}

func passwd(user string, id int) File {
	return File{
		Path: "/etc/passwd",
		Body: fmt.Appendf(nil, "root:x:0:0:root:/:/sbin/nologin\n%s:x:%d:%d:%[1]s:/:/sbin/nologin\n", user, id, id),
		Mode: 0o644,
	}
}

func labels(title, version string) map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":    title,
		"org.opencontainers.image.version":  version,
		"org.opencontainers.image.source":   "https://github.com/imcluster/imcluster",
		"org.opencontainers.image.licenses": "Apache-2.0",
	}
}

// Exists reports whether an archive is already at path.
func Exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
