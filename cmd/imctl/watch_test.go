package main

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/imcluster/imcluster/client"
)

// startImctl runs the program until the returned function is called, which returns the exit code.
func startImctl(t *testing.T, args ...string) (out, errs *buffer, stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, errs = &buffer{}, &buffer{}
	code := make(chan int, 1)
	go func() { code <- run(ctx, args, streams{strings.NewReader(""), out, errs}) }()
	return out, errs, func() int {
		cancel()
		return <-code
	}
}

func TestWatchShowsWhatChanges(t *testing.T) {
	p := startPlatform(t)
	out, errs, stop := startImctl(t, "watch", "alice", "bob")
	out.waitFor(t, "alice  unknown never seen")
	alice, err := client.Dial(t.Context(), client.Config{URLs: p.GatewayURLs, Token: client.StaticToken("alice"), DeviceID: "phone", Platform: "ios"})
	if err != nil {
		t.Fatal(err)
	}
	out.waitFor(t, "alice  online  phone (ios) on gateway-")
	pc := p.Presence()
	if err := pc.SetUserStatus(t.Context(), "alice", client.StatusAway, "\x1b[31mred"); err == nil {
		t.Error("a text with control characters was taken")
	}
	if err := pc.SetUserStatus(t.Context(), "alice", client.StatusAway, "Back at two"); err != nil {
		t.Fatal(err)
	}
	out.waitFor(t, `alice  online  away, "Back at two"; phone (ios) on gateway-`)
	alice.Close()
	out.waitFor(t, "alice  offline last seen ")
	if code := stop(); code != 0 || errs.String() != "" || strings.Count(out.String(), "bob") != 1 {
		t.Errorf("exit code %d\n%s%s", code, out.String(), errs.String())
	}
}

func TestWatchPrintsEventsForPrograms(t *testing.T) {
	startPlatform(t)
	out, _, stop := startImctl(t, "--json", "watch", "alice")
	out.waitFor(t, "\n")
	if code := stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	var event watchJSON
	if err := json.Unmarshal([]byte(out.String()), &event); err != nil || event.Event != "snapshot" || len(event.Users) != 1 || event.AsOf.IsZero() {
		t.Errorf("printed %s: %v", out.String(), err)
	}
}

func TestWhyShowsWhatIsBehindAnAnswer(t *testing.T) {
	p := startPlatform(t)
	alice, err := client.Dial(t.Context(), client.Config{URLs: p.GatewayURLs[:1], Token: client.StaticToken("alice"), DeviceID: "phone", Platform: "ios"})
	if err != nil {
		t.Fatal(err)
	}
	defer alice.Close()
	pc := p.Presence()
	if err := pc.SetUserStatus(t.Context(), "alice", client.StatusInvisible, "hush"); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		_, out, errs := imctl(t, "why", "alice")
		for _, line := range []string{
			`^alice is offline \(last seen just now\) to everybody else, answered from memory\.$`,
			`^Status      invisible, "hush", set just now$`,
			`^Partition   \d+, generation [0-9a-f]+, \d+ changes; complete$`,
			`^phone \(ios\)   gateway-1   \S{8}   \d+ +just now   \d+\.\d s ago +\d+\.\d s left$`,
			`status invisible "hush"`,
			`login +phone +\S{8} +-`,
		} {
			if !regexp.MustCompile("(?m)" + line).MatchString(out) {
				return fmt.Errorf("%q is not in:\n%s%s", line, out, errs)
			}
		}
		return nil
	})
	code, out, _ := imctl(t, "--json", "why", "nobody")
	var why client.Explanation
	if err := json.Unmarshal([]byte(out), &why); code != 0 || err != nil || why.Answer.Reason != client.NeverSeen || len(why.Sessions) != 0 {
		t.Errorf("exit code %d, %v: %s", code, err, out)
	}
}
