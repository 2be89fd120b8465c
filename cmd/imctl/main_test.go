package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imcluster/imcluster/client"
	"github.com/imcluster/imcluster/gateway/auth"
	"github.com/imcluster/imcluster/internal/dev"
	"github.com/imcluster/imcluster/internal/secretdir"
)

// buffer is an output that is read while it is written.
type buffer struct {
	mu   sync.Mutex
	data bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.String()
}

// waitFor waits until the output holds text.
func (b *buffer) waitFor(t *testing.T, text string) {
	t.Helper()
	eventually(t, func() error {
		if !strings.Contains(b.String(), text) {
			return fmt.Errorf("%q did not appear in:\n%s", text, b.String())
		}
		return nil
	})
}

// imctl runs the program and returns its exit code and outputs.
func imctl(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var stdout, stderr buffer
	code = run(t.Context(), args, streams{strings.NewReader(""), &stdout, &stderr})
	return code, stdout.String(), stderr.String()
}

func startPlatform(t *testing.T) *dev.Platform {
	t.Helper()
	p, err := dev.Start(t.Context(), dev.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	t.Setenv("IMC_GATEWAY_URL", strings.Join(p.GatewayURLs, ","))
	t.Setenv("IMC_PRESENCE_URL", p.PresenceURL)
	t.Setenv("IMC_API_KEY", p.APIKey)
	return p
}

func TestVersion(t *testing.T) {
	code, out, _ := imctl(t, "version")
	if code != 0 || !strings.HasPrefix(out, "imctl dev ") {
		t.Errorf("%d %s", code, out)
	}
	code, out, _ = imctl(t, "--json", "version")
	if code != 0 || !json.Valid([]byte(out)) {
		t.Errorf("%d %s", code, out)
	}
}

func TestHelp(t *testing.T) {
	for _, args := range []string{"", "help", "--help", "help chat", "--version"} {
		code, out, _ := imctl(t, strings.Fields(args)...)
		says := map[string]string{"help chat": "--group", "--version": "imctl dev "}[args]
		if code != 0 || !strings.Contains(out, cmp.Or(says, "Show that a platform works")) {
			t.Errorf("imctl %s: exit code %d\n%s", args, code, out)
		}
	}
}

func TestServerThatIsNotPresence(t *testing.T) {
	p := startPlatform(t)
	code, _, errs := imctl(t, "online", "--presence-url="+strings.TrimSuffix(strings.Replace(p.GatewayURLs[0], "ws:", "http:", 1), "/ws"))
	if code != 1 || !strings.Contains(errs, "there is no presence service at this address") {
		t.Errorf("%d %s", code, errs)
	}
}

func TestMistakes(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, tc := range []struct {
		args string
		code int
		says string
	}{
		{"onlin", 2, "the commands are chat, send, online, presence, hooks, watch, why, demo, soak, dev, version"},
		{"presence", 2, "<user>"},
		{"online --presence-url=localhost:80", 2, "--presence-url"},
		{"online --api-key-file=/nonexistent", 2, "--api-key-file"},
		{"chat", 2, "--token"},
		{"send --token=a hello", 2, "--to"},
		{"send --token=a --to=b", 2, "say what to send"},
		{"send --token=a --to=b --group=c hello", 2, "can't be used together"},
		{"chat --token-file=/nonexistent", 2, "--token-file"},
		{"chat --token=", 2, "--token is empty"},
		{"chat --token=a --gateway-url=http://x", 2, "--gateway-url"},
		{"demo --jwt-secret-dir=/nonexistent", 2, "--jwt-secret-dir"},
		{"dev --grpc-listen=127.0.0.1:0 --presence-listen=" + taken.Addr().String(), 2, taken.Addr().String() + " is in use by another program: stop it, or choose another address with --presence-listen"},
		{"dev --gateway-listen=" + taken.Addr().String() + " --presence-listen=127.0.0.1:0 --grpc-listen=127.0.0.1:0", 2, "with --gateway-listen"},
		{"online --presence-url=http://127.0.0.1:1", 1, `refused: is "make dev" running? Set --presence-url`},
		{"send --token=a --to=b --gateway-url=ws://127.0.0.1:1 c", 1, `refused: is "make dev" running? Set --gateway-url`},
	} {
		code, _, errs := imctl(t, strings.Fields(tc.args)...)
		if code != tc.code || !strings.Contains(errs, tc.says) {
			t.Errorf("imctl %s: exit code %d, %s", tc.args, code, errs)
		}
	}
}

// TestChatOnTwoTerminals has alice and bob talk, and looks at them with the other commands meanwhile.
func TestChatOnTwoTerminals(t *testing.T) {
	p := startPlatform(t)
	type person struct {
		keys *io.PipeWriter
		out  buffer
		code chan int
	}
	start := func(args ...string) *person {
		keyboard, keys := io.Pipe()
		who := &person{keys: keys, code: make(chan int, 1)}
		go func() { who.code <- run(context.Background(), args, streams{keyboard, &who.out, &who.out}) }()
		return who
	}
	alice := start("chat", "--token=alice", "--gateway-url="+p.GatewayURLs[0])
	bob := start("--json", "chat", "--token=bob", "--gateway-url="+p.GatewayURLs[1], "--to=alice")
	alice.out.waitFor(t, "Logged in as alice")
	waitOnline(t, p, "alice", "bob")

	fmt.Fprintln(alice.keys, "bob;;你好 \x1b[31mbob")
	bob.out.waitFor(t, `"fromId":"alice"`)
	fmt.Fprintln(bob.keys, "hi \x1b[31malice")
	alice.out.waitFor(t, "bob: hi \ufffd[31malice")
	bob.out.waitFor(t, `"event":"receipt"`)
	fmt.Fprintln(alice.keys, "to everybody")
	bob.out.waitFor(t, `"body":"to everybody"`)
	fmt.Fprintln(alice.keys, ":olu")
	alice.out.waitFor(t, "2 online: alice bob")
	fmt.Fprintln(alice.keys, ":g create team bob")
	alice.out.waitFor(t, "Group team: create done; 2 members.")
	fmt.Fprintln(alice.keys, ":g use team")
	fmt.Fprintln(alice.keys, "to the team")
	bob.out.waitFor(t, `"groupId":"team"`)
	fmt.Fprintln(bob.keys, ":g members team")
	bob.out.waitFor(t, `"owner":"alice","users":["alice","bob"]`)
	fmt.Fprintln(bob.keys, ":g delete team")
	bob.out.waitFor(t, `refused with code 306`)
	fmt.Fprintln(alice.keys, ":g nonsense")
	alice.out.waitFor(t, "usage: :g create")
	fmt.Fprintln(alice.keys, ":to")
	alice.out.waitFor(t, "Lines go to everybody.")
	fmt.Fprintln(alice.keys, ":history 2")
	alice.out.waitFor(t, "you to group team: to the team")
	fmt.Fprintln(alice.keys, ";;text")
	alice.out.waitFor(t, "Not sent: no user before ;;")
	fmt.Fprintln(alice.keys, "bob;;")
	alice.out.waitFor(t, "Not sent: no text for bob after ;;")
	fmt.Fprintln(alice.keys, ":what")
	alice.out.waitFor(t, "there is no command :what")
	fmt.Fprintln(alice.keys, strings.Repeat("u", 200)+";;x")
	alice.out.waitFor(t, "Not sent: ")

	code, out, _ := imctl(t, "presence", "alice", "carol")
	if code != 0 || !strings.Contains(out, "alice   online    imctl (imctl)   gateway-1   logged in just now") ||
		!strings.Contains(out, "carol   unknown") {
		t.Errorf("%d\n%s", code, out)
	}
	code, out, _ = imctl(t, "online")
	if code != 0 || !strings.Contains(out, "2 users online with 2 devices on 2 gateways.") || !strings.Contains(out, "bob     online") {
		t.Errorf("%d\n%s", code, out)
	}
	eventually(t, func() error { // counts may be a second old
		var list struct {
			Counts client.Counts
			Users  []client.UserPresence
		}
		code, out, _ := imctl(t, "--json", "online", "--limit=1")
		if code != 0 || json.Unmarshal([]byte(out), &list) != nil || len(list.Users) != 1 || list.Counts.Users != 2 {
			return fmt.Errorf("%d\n%s", code, out)
		}
		return nil
	})
	if code, out, errs := imctl(t, "send", "--token=carol", "--to=alice", "one", "of", "many"); code != 0 ||
		!strings.HasPrefix(out, "Stored for alice at ") {
		t.Errorf("%d %s %s", code, out, errs)
	}
	alice.out.waitFor(t, "carol: one of many")

	fmt.Fprintln(alice.keys, ":q")
	_ = bob.keys.Close() // as Ctrl-D does
	if a, b := <-alice.code, <-bob.code; a != 0 || b != 0 {
		t.Errorf("exit codes %d and %d\n%s\n%s", a, b, alice.out.String(), bob.out.String())
	}
	eventually(t, func() error { // until the new Redis is believed to be complete, alice is unknown
		code, out, _ := imctl(t, "presence", "alice")
		if code != 0 || !strings.Contains(out, "alice   offline   -        -         last seen ") {
			return fmt.Errorf("%d\n%s", code, out)
		}
		return nil
	})
}

// eventually waits until check returns no error.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func waitOnline(t *testing.T, p *dev.Platform, users ...string) {
	t.Helper()
	pc := p.Presence()
	eventually(t, func() error {
		answer, _, err := pc.BatchGet(t.Context(), users)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(answer, func(u client.UserPresence) bool { return u.State != client.Online }) {
			return fmt.Errorf("not all online: %+v", answer)
		}
		return nil
	})
}

func TestWrongKey(t *testing.T) {
	startPlatform(t)
	code, _, errs := imctl(t, "online", "--api-key=wrong")
	if code != 1 || !strings.Contains(errs, "the key is not accepted") {
		t.Errorf("%d %s", code, errs)
	}
}

func TestDevCheckRunsTheDemonstration(t *testing.T) {
	args := []string{"dev", "--check", "--gateway-listen=127.0.0.1:0,127.0.0.1:0", "--presence-listen=127.0.0.1:0", "--grpc-listen=127.0.0.1:0"}
	code, out, errs := imctl(t, args...)
	if code != 0 || strings.Count(out, "✓") != 10 || !strings.Contains(out, "Demonstration passed") {
		t.Errorf("%d\n%s%s", code, out, errs)
	}
}

func TestDevRunsUntilItIsStopped(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var out buffer
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"dev", "--gateway-listen=127.0.0.1:0", "--presence-listen=127.0.0.1:0", "--grpc-listen=127.0.0.1:0", "--embedded-redis"},
			streams{strings.NewReader(""), &out, &out})
	}()
	out.waitFor(t, "Ctrl-C stops it.")
	stop()
	if c := <-code; c != 0 {
		t.Errorf("exit code %d\n%s", c, out.String())
	}
}

func TestFailingDemonstrationSaysWhatToDo(t *testing.T) {
	p := startPlatform(t)
	code, out, errs := imctl(t, "demo", "--gateway-url="+p.GatewayURLs[0], "--step-timeout=500ms")
	if code != 1 || !strings.Contains(out, "✗ bob logs in on another gateway") || !strings.Contains(errs, "still on alice's gateway gateway-1") {
		t.Errorf("%d\n%s%s", code, out, errs)
	}
}

func TestTokensAreThoseThatGatewaysAccept(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "current"), []byte("0123456789abcdef0123456789abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := tokenFlags{JWTSecretDir: dir, JWTIssuer: "shop", JWTAudience: "im"}
	sign, err := f.signer()
	if err != nil {
		t.Fatal(err)
	}
	token, err := sign("alice")
	if err != nil {
		t.Fatal(err)
	}
	secret, err := secretdir.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	identity, err := auth.NewJWT(secret, "shop", "im").Authenticate(t.Context(), auth.Credentials{Token: token})
	if err != nil || identity.User != "alice" {
		t.Errorf("%+v, %v", identity, err)
	}
}

func TestColumnsAreMeasuredInCells(t *testing.T) {
	var out buffer
	(&printer{std: streams{out: &out}}).table([]string{"USER", "STATE"}, [][]string{{"你好吗", "online"}, {"bob", "offline"}})
	if want := "USER     STATE\n你好吗   online\nbob      offline\n"; out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

func TestAgo(t *testing.T) {
	now := time.Now()
	for d, want := range map[time.Duration]string{
		-time.Second: "just now", 4 * time.Second: "just now", 90 * time.Second: "90 s ago", 3 * time.Minute: "3 min ago",
		3 * time.Hour: "3 h ago", 72 * time.Hour: "3 days ago",
	} {
		if got := ago(now.Add(-d), now); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
	if got := ago(time.Time{}, now); got != "-" {
		t.Errorf("no time: %q", got)
	}
}
