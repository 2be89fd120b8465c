package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imcluster/imcluster/client"
)

// received returns what commands wrote into a file, by lines.
func written(t *testing.T, path string) []string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Fields(string(data))
}

// sender returns a client of the platform.
func sender(t *testing.T, urls []string, user string) *client.Client {
	t.Helper()
	c, err := client.Dial(t.Context(), client.Config{URLs: urls, Token: client.StaticToken(user), RetryRefused: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestCommandGetsTheMessage(t *testing.T) {
	p := startPlatform(t)
	dir := t.TempDir()
	robot := startChat("--token=robot", "--on-message", `cat > `+dir+`/in.json; env > `+dir+`/env.tmp; mv `+dir+`/env.tmp `+dir+`/env`)
	robot.out.waitFor(t, "Logged in as robot")
	receipt, err := sender(t, p.GatewayURLs, "alice").SendText(t.Context(), "robot", "it's $HOME\n`id`")
	if err != nil {
		t.Fatal(err)
	}
	var env []byte
	eventually(t, func() (err error) { env, err = os.ReadFile(filepath.Join(dir, "env")); return err })
	for _, want := range []string{"IMC_MESSAGE_FROM=alice", "IMC_MESSAGE_TO=robot", "IMC_MESSAGE_ID=" + receipt.MsgID, "IMC_MESSAGE_TEXT=it's $HOME\n`id`"} {
		if !strings.Contains(string(env), want) {
			t.Errorf("%q is missing in\n%s", want, env)
		}
	}
	data, err := os.ReadFile(filepath.Join(dir, "in.json"))
	var m messageJSON
	if err != nil || json.Unmarshal(data, &m) != nil || m.MsgID != receipt.MsgID || m.From != "alice" || !strings.Contains(string(m.Content), "$HOME") {
		t.Errorf("standard input: %s, %v", data, err)
	}
	fmt.Fprintln(robot.keys, ":q")
	if code := <-robot.code; code != 0 {
		t.Errorf("exit code %d\n%s", code, robot.out.String())
	}
}

// A message whose command fails comes again; one that succeeded does not.
func TestFailedCommandGetsTheMessageAgain(t *testing.T) {
	p := startPlatform(t)
	log := filepath.Join(t.TempDir(), "log")
	robot := startChat("--token=robot", "--on-message", `echo $IMC_MESSAGE_TEXT-$IMC_MESSAGE_REDELIVERED >> `+log+`; test $IMC_MESSAGE_TEXT = good || test $IMC_MESSAGE_REDELIVERED = true`)
	robot.out.waitFor(t, "Logged in as robot")
	alice := sender(t, p.GatewayURLs, "alice")
	for _, text := range []string{"bad", "good"} {
		if _, err := alice.SendText(t.Context(), "robot", text); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, func() error {
		if n := len(written(t, log)); n < 3 {
			return fmt.Errorf("%d commands were run\n%s", n, robot.out.String())
		}
		return nil
	})
	if lines := written(t, log); !slices.Equal(lines, []string{"bad-false", "good-false", "bad-true"}) {
		t.Errorf("commands: %v", lines)
	}
	fmt.Fprintln(robot.keys, ":q")
	if code := <-robot.code; code != 0 || !strings.Contains(robot.out.String(), "failed: exit status 1") {
		t.Errorf("exit code %d\n%s", code, robot.out.String())
	}
}

// A robot whose standard input is empty goes on until it is stopped, and lets its command end then.
func TestCommandsGoOnWithoutInput(t *testing.T) {
	p := startPlatform(t)
	log := filepath.Join(t.TempDir(), "log")
	ctx, stop := context.WithCancel(t.Context())
	var out buffer
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"chat", "--token=robot", "--on-message", `echo begun >> ` + log + `; sleep 0.3; echo ended >> ` + log},
			streams{strings.NewReader(""), &out, &out})
	}()
	out.waitFor(t, "Logged in as robot")
	if _, err := sender(t, p.GatewayURLs, "alice").SendText(t.Context(), "robot", "x"); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if len(written(t, log)) == 0 {
			return fmt.Errorf("the command was not run\n%s", out.String())
		}
		return nil
	})
	stop()
	if c := <-code; c != 0 {
		t.Errorf("exit code %d\n%s", c, out.String())
	}
	if lines := written(t, log); len(lines) != 2 || lines[1] != "ended" {
		t.Errorf("the command did %v", lines)
	}
}

// fakeHook is a hook whose client has no connection, for what does not depend on it.
func fakeHook(t *testing.T, flags hookFlags) (*hook, *client.Client) {
	t.Helper()
	chat, err := client.New(client.Config{URLs: []string{"ws://127.0.0.1:1"}, Token: client.StaticToken("robot"), ManualAck: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { chat.Close(); <-chat.Done() })
	flags.Limit = max(flags.Limit, time.Second)
	h := newHook(flags, &printer{std: streams{out: io.Discard, err: io.Discard}})
	h.chat = chat
	return h, chat
}

func TestCommandsRunInOrderWithinAConversation(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	// Later messages of a conversation are quicker; nobody acknowledges, so nothing waits for the server.
	h, _ := fakeHook(t, hookFlags{Parallel: 4, OnMessage: `sleep 0.0$((9 - IMC_MESSAGE_MISSED)); echo $IMC_MESSAGE_FROM-$IMC_MESSAGE_MISSED >> ` + log})
	for i := range 5 {
		for _, user := range []string{"a", "b", "c"} {
			h.take(t.Context(), client.Message{ID: fmt.Sprint(user, i), From: user, Missed: i})
		}
	}
	eventually(t, func() error {
		if n := len(written(t, log)); n != 15 {
			return fmt.Errorf("%d commands were run", n)
		}
		return nil
	})
	h.stop(t.Context())
	next := map[string]int{}
	for _, line := range written(t, log) {
		user, n, _ := strings.Cut(line, "-")
		if n != fmt.Sprint(next[user]) {
			t.Fatalf("%s came before %s-%d: %v", line, user, next[user], written(t, log))
		}
		next[user]++
	}
}

func TestCommandThatTakesTooLongIsEnded(t *testing.T) {
	h, _ := fakeHook(t, hookFlags{OnMessage: "exec sleep 60"})
	if err := h.run(client.Message{ID: "m"}); err == nil || !strings.Contains(err.Error(), "longer than 1s") {
		t.Errorf("got %v", err)
	}
}

func TestStoppingEndsCommandsInTime(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	h, _ := fakeHook(t, hookFlags{OnMessage: "echo begun >> " + log + "; exec sleep 60", Limit: time.Hour})
	for i := range 2 * maxBacklog { // more than may wait
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		h.take(ctx, client.Message{ID: fmt.Sprint(i), From: fmt.Sprint(i % 3)})
		cancel()
		if len(h.room) == maxBacklog {
			break
		}
	}
	eventually(t, func() error {
		if len(written(t, log)) == 0 {
			return fmt.Errorf("nothing runs")
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	h.stop(ctx)
	if n := len(written(t, log)); n != 1 {
		t.Errorf("%d commands were run", n)
	}
	h.take(t.Context(), client.Message{ID: "late"}) // does not block
}
