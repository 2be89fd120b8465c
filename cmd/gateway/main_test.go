package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"

	"github.com/imcluster/imcluster/gateway"
	"github.com/imcluster/imcluster/gateway/auth"
	"github.com/imcluster/imcluster/internal/cli"
	"github.com/imcluster/imcluster/presence/store"
)

// configure parses flags and returns the configuration they stand for.
func configure(t *testing.T, args ...string) (gateway.Config, error) {
	t.Helper()
	var cmd command
	parser, err := kong.New(&cmd, cli.Options("gateway", "")...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(args); err != nil {
		return gateway.Config{}, &cli.ConfigError{Err: err}
	}
	cfg, err := cmd.config()
	if err != nil {
		return cfg, err
	}
	cfg.Auth, err = cmd.authenticator(slog.New(slog.DiscardHandler), nil)
	return cfg, err
}

func secret(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "current"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// required are flags that every gateway needs, with others.
func required(t *testing.T, more ...string) []string {
	t.Helper()
	return append([]string{"--redis-addresses=redis:6379", "--peer-key-dir=" + secret(t)}, more...)
}

func TestDefaultsLimitOnlyWhatOneClientMayDo(t *testing.T) {
	cfg, err := configure(t, required(t, "--auth-mode=insecure")...)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.MaxConnections != 20000 || cfg.MaxFramesPerSecond != 100 || cfg.MaxBytesPerSecond != 256<<10 || cfg.MaxFrameBytes != 64<<10 ||
		cfg.MaxHandshakes != 1024 || cfg.Store.MaxDevices != 16 || cfg.Store.OpTimeout != 5*time.Second {
		t.Errorf("got %+v", cfg)
	}
	if n := cfg.MaxFramesPerSecondPerUser + cfg.MaxBytesPerSecondPerUser + cfg.MaxConnectionsPerAddress +
		cfg.MaxFramesPerSecondPerAddress + cfg.MaxBytesPerSecondPerAddress; n != 0 || cfg.TrustedProxies != nil || cfg.AllowedOrigins != nil {
		t.Errorf("there are limits for users or addresses: %+v", cfg)
	}
	if cfg.AllowBroadcast || cfg.AllowOnlineList || cfg.DenyClientGroups {
		t.Errorf("clients may do something else than manage groups: %+v", cfg)
	}
	want := store.MailboxConfig{MaxMessages: 500, MaxBytes: 256 << 10, Retention: 7 * 24 * time.Hour}
	if cfg.Store.Mailbox != want || cfg.Store.Durability != store.DurabilityDefault {
		t.Errorf("messages: %+v, %q", cfg.Store.Mailbox, cfg.Store.Durability)
	}
	if _, ok := cfg.Auth.(auth.Insecure); !ok {
		t.Errorf("tokens are judged by %T", cfg.Auth)
	}
}

func TestFlagsBecomeConfiguration(t *testing.T) {
	t.Setenv("IMC_MAX_CONNECTIONS_PER_ADDRESS", "7")
	t.Setenv("IMC_ALLOW_CLIENT_GROUPS", "false")
	cfg, err := configure(t, required(t, "--auth-mode=webhook", "--webhook-url=http://login/check", "--webhook-secret-dir="+secret(t),
		"--max-connections-per-user=3", "--max-frames-per-second-per-user=20", "--max-bytes-per-second-per-address=100000",
		"--trusted-proxies=10.0.0.0/8,fd00::/8", "--allowed-origins=https://a.example.com,https://*.example.org", "--allow-broadcast",
		"--mailbox-max-messages=10", "--mailbox-retention=24h", "--durability=replicated", "--store-timeout=1s")...)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Store.MaxDevices != 3 || cfg.MaxFramesPerSecondPerUser != 20 || cfg.MaxBytesPerSecondPerAddress != 100000 || cfg.MaxConnectionsPerAddress != 7 {
		t.Errorf("limits: %+v", cfg)
	}
	if want := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}; !slices.Equal(cfg.TrustedProxies, want) {
		t.Errorf("proxies: %v", cfg.TrustedProxies)
	}
	if diff := cmp.Diff([]string{"https://a.example.com", "https://*.example.org"}, cfg.AllowedOrigins); diff != "" {
		t.Error(diff)
	}
	if !cfg.AllowBroadcast || cfg.AllowOnlineList || !cfg.DenyClientGroups {
		t.Errorf("clients: %+v", cfg)
	}
	if st := cfg.Store; st.Mailbox.MaxMessages != 10 || st.Mailbox.Retention != 24*time.Hour || st.Durability != store.DurabilityReplicated || st.OpTimeout != time.Second {
		t.Errorf("store: %+v", st)
	}
	if _, ok := cfg.Auth.(*auth.Webhook); !ok {
		t.Errorf("tokens are judged by %T", cfg.Auth)
	}
}

func TestMistakesInFlagsAreNamed(t *testing.T) {
	dir := secret(t)
	for _, tc := range []struct{ flags, says string }{
		{"", "--auth-mode"},
		{"--auth-mode=none", "--auth-mode must be one of"},
		{"--auth-mode=jwt", "neither --jwt-secret-dir nor --jwt-jwks-url is set"},
		{"--auth-mode=jwt --jwt-secret-dir=" + dir + " --jwt-jwks-url=https://a/b", "exclude each other"},
		{"--auth-mode=jwt --jwt-jwks-url=a/b", "--jwt-jwks-url: the URL of the key set: it must start with https://"},
		{"--auth-mode=jwt --jwt-secret-dir=/nonexistent", "--jwt-secret-dir: read secret"},
		{"--auth-mode=jwt --jwt-secret-dir=" + dir + " --webhook-url=https://a", "--webhook-url and --webhook-secret-dir have no effect with --auth-mode=jwt"},
		{"--auth-mode=insecure --jwt-audience=im", "have no effect with --auth-mode=insecure"},
		{"--auth-mode=webhook", "--webhook-url is not set"},
		{"--auth-mode=webhook --webhook-url=file:///x", "--webhook-url, --webhook-timeout or --webhook-cache: the URL of the webhook"},
		{"--auth-mode=webhook --webhook-url=https://a --webhook-timeout=10s", "--webhook-timeout must be less than --login-timeout"},
		{"--auth-mode=webhook --webhook-url=https://a --webhook-cache=-1s", "must not be negative"},
		{"--auth-mode=insecure --auth-ca-file=" + dir, "--auth-ca-file has no effect without"},
		{"--auth-mode=webhook --webhook-url=https://a --auth-ca-file=" + dir + "/none", "--auth-ca-file: open"},
		{"--auth-mode=jwt --jwt-jwks-url=https://a --auth-ca-file=" + dir + "/current", "current holds no PEM certificate"},
		{"--auth-mode=insecure --trusted-proxies=10.0.0.1", "--trusted-proxies"},
		{"--auth-mode=insecure --mailbox-max-messages=0", "--mailbox-max-messages must be positive"},
		{"--auth-mode=insecure --mailbox-max-bytes=10", "--mailbox-max-bytes must be"},
		{"--auth-mode=insecure --mailbox-retention=-1h", "--mailbox-retention must be positive"},
		{"--auth-mode=insecure --durability=always", "--durability must be one of"},
	} {
		_, err := configure(t, required(t, strings.Fields(tc.flags)...)...)
		var mistake *cli.ConfigError
		if !errors.As(err, &mistake) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: got %v, want %q", tc.flags, err, tc.says)
		}
	}
}

// The operator leaves out the flags of settings that are not used, so what "kubectl explain" calls the default of a
// setting must be that of its flag.
func TestCommentsOfTheResourceNameTheDefaultsOfFlags(t *testing.T) {
	page, err := os.ReadFile("../../config/crd/imcluster.dev_imclusters.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(string(page)), " ")
	for _, tc := range []struct {
		flag  string
		of    any
		field string
		says  string // with the default, as the flag has it, in place of %s
	}{
		{"connectionsPerUser", limitFlags{}, "MaxConnectionsPerUser", "to all gateway pods together. Default %s."},
		{"groupsPerUser", limitFlags{}, "MaxGroupsPerUser", "Back ends may give a user more. Default %s."},
		{"recipients", limitFlags{}, "MaxGroupRecipientsPerSecond", "Messages from back ends have no limit. Default %s."},
		{"frames", limitFlags{}, "MaxFramesPerSecond", "is what one connection may send. Default %s frames"},
		{"bytes", limitFlags{}, "MaxBytesPerSecond", "frames and %s bytes a second."},
		{"timeout", webhookFlags{}, "Timeout", "how long an answer may take, in seconds. Default %s."},
		{"cache", webhookFlags{}, "Cache", "in seconds; 0 is never. Default %s."},
	} {
		field, ok := reflect.TypeOf(tc.of).FieldByName(tc.field)
		if !ok {
			t.Fatalf("no field %s", tc.field)
		}
		value := strings.TrimSuffix(field.Tag.Get("default"), "s")
		if want := fmt.Sprintf(tc.says, value); !strings.Contains(text, want) {
			t.Errorf("%s: no comment says %q", tc.flag, want)
		}
	}
	for flag, want := range map[string]string{
		"--mailbox-max-messages": "are told how many they miss. Default 500.", "--mailbox-max-bytes": "for one user. Default 262144.",
		"--mailbox-retention": "rounded up to days. Default 604800 (7 days).",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s: no comment says %q", flag, want)
		}
	}
}
