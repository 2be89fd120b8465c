package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/imcluster/imcluster/internal/cli"
	"github.com/imcluster/imcluster/presence"
)

// configure parses flags and returns the configuration they stand for.
func configure(t *testing.T, args ...string) (presence.Config, error) {
	t.Helper()
	var cmd command
	parser, err := kong.New(&cmd, cli.Options("presence", "")...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(args); err != nil {
		return presence.Config{}, &cli.ConfigError{Err: err}
	}
	return cmd.config()
}

func secret(t *testing.T, value string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "current"), []byte(value), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestFlagsBecomeConfiguration(t *testing.T) {
	t.Setenv("IMC_CLUSTER_UID", "uid")
	t.Setenv("IMC_LAST_SEEN_RETENTION", "24h")
	cfg, err := configure(t, "--api-key-dir="+secret(t, "api"), "--peer-key-dir="+secret(t, "peer"), "--redis-addresses=redis:6379", "--grace=3s",
		"--leancloud-app-id=app", "--leancloud-app-key-dir="+secret(t, "key"),
		"--hooks-url=http://backend/hooks", "--hooks-secret-dir="+secret(t, "signing"), "--hooks-timeout=3s")
	if err != nil {
		t.Fatal(err)
	}
	if string(cfg.APIKey.Current()) != "api" || string(cfg.PeerKey.Current()) != "peer" || cfg.Listen != ":8080" ||
		cfg.InternalListen != ":8082" || cfg.OpsListen != ":8081" || cfg.MaxQueryUsers != 5000 || cfg.ShutdownDelay != 5*time.Second {
		t.Errorf("got %+v", cfg)
	}
	if cfg.GRPCListen != ":9090" || cfg.OpenUserStatus || cfg.MaxWatchUsers != 1_000_000 || cfg.Store.ExternalLease != 24*time.Hour {
		t.Errorf("got %+v", cfg)
	}
	if cfg.LeanCloud.AppID != "app" || string(cfg.LeanCloud.AppKey.Current()) != "key" {
		t.Errorf("got %+v", cfg.LeanCloud)
	}
	if h := cfg.Hooks; h.URL != "http://backend/hooks" || string(h.Secret.Current()) != "signing" || h.Timeout != 3*time.Second {
		t.Errorf("got %+v", h)
	}
	if st := cfg.Store; cfg.Cluster != "uid" || st.Retention != 24*time.Hour || st.Grace != 3*time.Second || st.LeaseTTL != 15*time.Second || st.Addresses[0] != "redis:6379" {
		t.Errorf("got %+v", st)
	}
}

func TestMistakesInFlagsAreNamed(t *testing.T) {
	good := []string{"--api-key-dir=" + secret(t, "api"), "--peer-key-dir=" + secret(t, "peer"), "--redis-addresses=redis:6379"}
	for _, tc := range []struct{ flag, says string }{
		{"--listen=8080", `--listen: "8080" is not [host]:port`},
		{"--api-key-dir=/nonexistent", "--api-key-dir: read secret"},
		{"--peer-key-dir=" + secret(t, " "), "--peer-key-dir: read secret"},
		{"--leancloud-app-id=app", "--leancloud-app-id and --leancloud-app-key-dir go together"},
		{"--hooks-url=http://backend", "--hooks-url and --hooks-secret-dir go together"},
		{"--max-query-users=0", "--max-query-users must be at least 1"},
		{"--grpc-listen=9090", `--grpc-listen: "9090" is not [host]:port`},
		{"--max-watch-users=0", "--max-watch-users must be at least 1"},
		{"--user-status-lease=0s", "--user-status-lease must be more than zero"},
		{"--grace=-1s", "--grace must be more than zero"},
		{"--redis-mode=sentinel", "--redis-master-name is not set"},
		{"--log-level=loud", "--log-level must be one of"},
	} {
		var config *cli.ConfigError
		if _, err := configure(t, append(good, tc.flag)...); !errors.As(err, &config) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v", tc.flag, err)
		}
	}
}
