package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/imcluster/imcluster/internal/dev"
)

// chatter is who chats on a terminal that tests type on.
type chatter struct {
	keys *io.PipeWriter
	out  buffer
	code chan int
}

func startChat(args ...string) *chatter {
	keyboard, keys := io.Pipe()
	c := &chatter{keys: keys, code: make(chan int, 1)}
	go func() {
		c.code <- run(context.Background(), append([]string{"chat"}, args...), streams{keyboard, &c.out, &c.out})
	}()
	return c
}

func TestChatEndsAtOnceWhenTheDeviceLogsInElsewhere(t *testing.T) {
	startPlatform(t)
	first := startChat("--token=alice")
	first.out.waitFor(t, "Logged in as alice")
	second := startChat("--token=alice")
	if code := <-first.code; code != 1 || !strings.Contains(first.out.String(), `device "imctl" of alice is in use there`) {
		t.Errorf("exit code %d\n%s", code, first.out.String())
	}
	_ = second.keys.Close()
	if code := <-second.code; code != 0 {
		t.Errorf("exit code %d\n%s", code, second.out.String())
	}
}

// What is typed while there is no gateway is sent when there is one again.
func TestChatOutlivesItsGateway(t *testing.T) {
	p := startPlatform(t)
	carol := startChat("--token=carol", "--gateway-url="+p.GatewayURLs[0])
	carol.out.waitFor(t, "Logged in as carol")
	p.Close()
	carol.out.waitFor(t, "Disconnected: the gateway is ")
	fmt.Fprintln(carol.keys, "carol;;note to self")
	address := strings.TrimSuffix(strings.TrimPrefix(p.GatewayURLs[0], "ws://"), "/ws")
	again, err := dev.Start(t.Context(), dev.Config{GatewayListen: []string{address}})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	carol.out.waitFor(t, "carol: note to self")
	fmt.Fprintln(carol.keys, ":q")
	if code := <-carol.code; code != 0 {
		t.Errorf("exit code %d\n%s", code, carol.out.String())
	}
}

func TestChatThatCannotConnectAgainCanBeLeft(t *testing.T) {
	p := startPlatform(t)
	carol := startChat("--token=carol", "--gateway-url="+p.GatewayURLs[0])
	carol.out.waitFor(t, "Logged in as carol")
	p.Close()
	carol.out.waitFor(t, "Connecting again")
	fmt.Fprintln(carol.keys, "bob;;lost")
	fmt.Fprintln(carol.keys, ":q")
	if code := <-carol.code; code != 1 || !strings.Contains(carol.out.String(), "not sent: bob;;lost") {
		t.Errorf("exit code %d\n%s", code, carol.out.String())
	}
}

// Messages that came while the chat was closed are there when it is opened again.
func TestChatShowsWhatItMissed(t *testing.T) {
	startPlatform(t)
	bob := startChat("--token=bob")
	bob.out.waitFor(t, "Logged in as bob")
	fmt.Fprintln(bob.keys, ":q")
	<-bob.code
	if code, _, errs := imctl(t, "send", "--token=alice", "--to=bob", "--client-msg-id=1", "wake up"); code != 0 {
		t.Fatal(errs)
	}
	if code, _, errs := imctl(t, "send", "--token=alice", "--to=bob", "--client-msg-id=1", "--protobuf", "wake up"); code != 0 {
		t.Fatal(errs)
	}
	bob = startChat("--token=bob", "--protobuf")
	bob.out.waitFor(t, "alice: wake up")
	fmt.Fprintln(bob.keys, ":q")
	if code := <-bob.code; code != 0 || strings.Count(bob.out.String(), "wake up") != 1 {
		t.Errorf("exit code %d\n%s", code, bob.out.String())
	}
}
