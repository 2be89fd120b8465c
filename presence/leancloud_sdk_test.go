package presence_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imcluster/imcluster/internal/secretdir"
	"github.com/imcluster/imcluster/internal/testredis"
	"github.com/imcluster/imcluster/presence"
)

// leanSDK is a process with LeanCloud's JavaScript SDK, as it comes from npm.
type leanSDK struct {
	questions io.Writer
	answers   *bufio.Scanner
}

// startLeanSDK starts the SDK, which is installed if it is not there yet.
func startLeanSDK(t *testing.T, url, appKey string) *leanSDK {
	t.Helper()
	const dir = "../test/leancloud"
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "leancloud-storage")); err != nil {
		install := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
		install.Dir = dir
		if out, err := install.CombinedOutput(); err != nil {
			t.Fatalf("npm ci in %s: %v\n%s", dir, err, out)
		}
	}
	cmd := exec.CommandContext(t.Context(), "node", "ask.js", url, "app", appKey)
	cmd.Dir, cmd.Stderr = dir, t.Output()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close() // ends it
		_ = cmd.Wait()
	})
	return &leanSDK{in, bufio.NewScanner(out)}
}

// ask calls getOnOffStatus by AV.Cloud.run or AV.Cloud.rpc.
func (s *leanSDK) ask(t *testing.T, by string, master bool, peers ...string) string {
	t.Helper()
	question, err := json.Marshal(map[string]any{"by": by, "master": master, "peerIds": peers})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(s.questions, "%s\n", question)
	if !s.answers.Scan() {
		t.Fatalf("the SDK ended: %v", s.answers.Err())
	}
	return s.answers.Text()
}

func startLeanService(t *testing.T, redis *testredis.Server) *service {
	t.Helper()
	return startService(t, redis.Addr, func(c *presence.Config) {
		c.LeanCloud = presence.LeanCloud{AppID: "app", AppKey: secretdir.Static([]byte("key"))}
	})
}

// Clients of LeanCloud go on as they are: only the server URL and the keys change.
func TestLeanCloudSDKAsksWhoIsOnline(t *testing.T) {
	redis := testredis.Start(t)
	s := startLeanService(t, redis)
	g := startGateway(t, redis.Addr, "gw-1", "alice", "bob", "用户 5")
	g.logOut("bob")
	s.become(t, []string{"online", "offline", "unknown/never_seen", "online"}, "alice", "bob", "nobody", "用户 5")
	sdk := startLeanSDK(t, s.URL, "key")
	for _, by := range []string{"run", "rpc"} {
		for _, master := range []bool{false, true} {
			if got, want := sdk.ask(t, by, master, "bob", "alice", "nobody", "用户 5", "alice"), `{"result":["0","1",null,"1","1"]}`; got != want {
				t.Errorf("%s, master key %v: answered %s, want %s", by, master, got, want)
			}
		}
	}
	many := slices.Repeat([]string{"alice", "bob"}, 2500)
	var answer struct{ Result []string }
	if err := json.Unmarshal([]byte(sdk.ask(t, "run", false, many...)), &answer); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(slices.Repeat([]string{"1", "0"}, 2500), answer.Result); diff != "" {
		t.Error(diff)
	}
	if got := sdk.ask(t, "run", false, append(many, "alice")...); !strings.HasPrefix(got, `{"error":{"code":140,`) {
		t.Errorf("5,001 users: answered %s", got)
	}
	if got := startLeanSDK(t, s.URL, "lock").ask(t, "run", false, "alice"); !strings.HasPrefix(got, `{"error":{"code":401,"message":"Unauthorized.`) {
		t.Errorf("another key: answered %s", got)
	}
}

// A Redis that does not answer is an error for the client, and never null, which it would take for offline.
func TestLeanCloudSDKIsToldWhenNothingIsKnown(t *testing.T) {
	redis := testredis.Start(t)
	s := startLeanService(t, redis)
	startGateway(t, redis.Addr, "gw-1", "alice")
	s.become(t, []string{"online", "unknown/never_seen"}, "alice", "nobody")
	sdk := startLeanSDK(t, s.URL, "key")
	redis.Pause()
	eventually(t, func() error { // what is in memory may be told for a second
		switch got := sdk.ask(t, "run", false, "alice", "nobody"); {
		case strings.HasPrefix(got, `{"error":{"code":503,"message":"It cannot be found out now who is online; try again.`):
			return nil
		case got == `{"result":["1",null]}`:
			return fmt.Errorf("still answered %s", got)
		default:
			t.Fatalf("answered %s", got)
			return nil
		}
	})
	redis.Resume()
	s.become(t, []string{"online", "unknown/never_seen"}, "alice", "nobody")
	if got, want := sdk.ask(t, "run", false, "alice", "nobody"), `{"result":["1",null]}`; got != want {
		t.Errorf("after the pause: answered %s, want %s", got, want)
	}
}
