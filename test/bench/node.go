package main

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// nodeFiles are the yardsticks that run on Node.js, a directory for each.
//
//go:embed socketio/package.json socketio/package-lock.json socketio/server.mjs
//go:embed mget/package.json mget/package-lock.json mget/server.mjs
var nodeFiles embed.FS

// startNode runs server.mjs of a directory, whose packages are installed once, beside the other tools.
func startNode(ctx context.Context, name, redis string) (*server, error) {
	dir, err := installNode(ctx, name)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "node", "server.mjs", redis)
	cmd.Dir = dir
	s, err := launch(cmd)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	if !s.out.Scan() {
		s.stop()
		return nil, fmt.Errorf("start %s: it ended: %w", name, s.out.Err())
	}
	var first sample
	if err := json.Unmarshal(s.out.Bytes(), &first); err != nil {
		s.stop()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	s.addr = first.Addr
	return s, nil
}

func installNode(ctx context.Context, name string) (string, error) {
	cache := os.Getenv("IMCLUSTER_CACHE")
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		cache = filepath.Join(user, "imcluster")
	}
	dir := filepath.Join(cache, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	changed := false
	for _, file := range []string{"package.json", "package-lock.json", "server.mjs"} {
		want, err := nodeFiles.ReadFile(name + "/" + file)
		if err != nil {
			return "", err
		}
		path := filepath.Join(dir, file)
		if have, err := os.ReadFile(path); err == nil && string(have) == string(want) {
			continue
		}
		changed = true
		if err := os.WriteFile(path, want, 0o600); err != nil {
			return "", err
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules")); err == nil && !changed {
		return dir, nil
	}
	cmd := exec.CommandContext(ctx, "npm", "ci", "--silent", "--no-audit", "--no-fund")
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("install the packages of %s with npm: %w", name, err)
	}
	return dir, nil
}
