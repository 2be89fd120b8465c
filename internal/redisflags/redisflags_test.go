package redisflags

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"

	"github.com/imcluster/imcluster/internal/cli"
	"github.com/imcluster/imcluster/presence/store"
)

type command struct {
	Redis Flags `embed:"" prefix:"redis-"`
}

func parse(t *testing.T, args ...string) (store.Config, error) {
	t.Helper()
	var cmd command
	parser, err := kong.New(&cmd, cli.Options("x", "")...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(args); err != nil {
		return store.Config{}, err
	}
	return cmd.Redis.Config()
}

func file(t *testing.T, dir, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFlagsAreAlsoEnvironmentVariables(t *testing.T) {
	t.Setenv("IMC_REDIS_MODE", "cluster")
	t.Setenv("IMC_REDIS_ADDRESSES", "a:1,b:2")
	t.Setenv("IMC_REDIS_KEY_PREFIX", "im:")
	cfg, err := parse(t)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Mode != store.Cluster || cfg.KeyPrefix != "im:" || !cmp.Equal(cfg.Addresses, []string{"a:1", "b:2"}) {
		t.Errorf("got %+v", cfg)
	}
}

func TestSecretsAreReadFromMountedDirectories(t *testing.T) {
	dir := t.TempDir()
	file(t, dir, "current", []byte("s3cret\n"))
	file(t, dir, "username", []byte("im\n"))
	cfg, err := parse(t, "--redis-addresses=r:6379", "--redis-password-dir="+dir)
	if err != nil {
		t.Fatal(err)
	}
	if password, err := cfg.Password(); err != nil || password != "s3cret" || cfg.Username != "im" {
		t.Errorf("password %q, %v, user %q", password, err, cfg.Username)
	}
}

func TestTLSTrustsTheGivenAuthority(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	ca := file(t, t.TempDir(), "ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	cfg, err := parse(t, "--redis-addresses=r:6379", "--redis-tls", "--redis-ca-file="+ca)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.TLS == nil || cfg.TLS.RootCAs == nil {
		t.Errorf("TLS is %+v", cfg.TLS)
	}
}

func TestMistakesAreNamed(t *testing.T) {
	broken := file(t, t.TempDir(), "ca.pem", []byte("no"))
	for _, tc := range []struct {
		args, want string
	}{
		{"", "--redis-addresses"},
		{"--redis-addresses=redis", "is not host:port"},
		{"--redis-addresses=a:1,b:2", "is --redis-mode missing"},
		{"--redis-addresses=a:1 --redis-mode=sentinel", "--redis-master-name is not set"},
		{"--redis-addresses=a:1 --redis-master-name=m", "sentinel only"},
		{"--redis-addresses=a:1 --redis-mode=quorum", "must be one of"},
		{"--redis-addresses=a:1 --redis-password-dir=/nonexistent", "--redis-password-dir: read secret"},
		{"--redis-addresses=a:1 --redis-username=u", "needs --redis-password-dir"},
		{"--redis-addresses=a:1 --redis-ca-file=" + broken, "without --redis-tls"},
		{"--redis-addresses=a:1 --redis-tls --redis-ca-file=" + broken, "no PEM certificate"},
	} {
		if _, err := parse(t, strings.Fields(tc.args)...); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", tc.args, err, tc.want)
		}
	}
}

func TestSettingsOfMessages(t *testing.T) {
	good := Messages{MailboxMaxMessages: 10, MailboxMaxBytes: 1000, MailboxRetention: time.Hour, Durability: "replicated"}
	var cfg store.Config
	if err := good.Apply(&cfg); err != nil {
		t.Fatal(err)
	}
	want := store.Config{Mailbox: store.MailboxConfig{MaxMessages: 10, MaxBytes: 1000, Retention: time.Hour}, Durability: store.DurabilityReplicated}
	if cfg.Mailbox != want.Mailbox || cfg.Durability != want.Durability {
		t.Errorf("got %+v", cfg)
	}
	for says, change := range map[string]func(*Messages){
		"--mailbox-max-messages must be positive": func(m *Messages) { m.MailboxMaxMessages = 0 },
		"--mailbox-max-bytes must be":             func(m *Messages) { m.MailboxMaxBytes = 9 },
		"--mailbox-retention must be positive":    func(m *Messages) { m.MailboxRetention = 0 },
	} {
		m := good
		change(&m)
		if err := m.Apply(&cfg); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want %q", err, says)
		}
	}
}
