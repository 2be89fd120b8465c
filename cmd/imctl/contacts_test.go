package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/imcluster/imcluster/client"
)

func TestChatWatchesFriendsAndSetsAStatus(t *testing.T) {
	startPlatform(t)
	alice, bob := startChat("--token=alice"), startChat("--token=bob", "--protobuf")
	alice.out.waitFor(t, "Logged in as alice")
	bob.out.waitFor(t, "Logged in as bob")
	fmt.Fprintln(alice.keys, ":watch")
	alice.out.waitFor(t, "nobody is watched")
	fmt.Fprintln(alice.keys, ":watch bob nobody")
	alice.out.waitFor(t, "bob is online (imctl)")
	alice.out.waitFor(t, "nobody was never seen")
	fmt.Fprintln(bob.keys, ":status away out for lunch")
	bob.out.waitFor(t, "Others see you as away: out for lunch.")
	alice.out.waitFor(t, "bob is away: out for lunch (imctl)")
	fmt.Fprintln(bob.keys, ":status asleep")
	bob.out.waitFor(t, `field "status" must be one of`)
	fmt.Fprintln(bob.keys, ":status invisible")
	bob.out.waitFor(t, "Others see you as offline.")
	alice.out.waitFor(t, "bob is offline since ")
	fmt.Fprintln(alice.keys, ":unwatch bob")
	fmt.Fprintln(alice.keys, ":status")
	alice.out.waitFor(t, "Others see you as online.")
	fmt.Fprintln(alice.keys, ":unwatch")
	fmt.Fprintln(alice.keys, ":q")
	fmt.Fprintln(bob.keys, ":q")
	for _, c := range []*chatter{alice, bob} {
		if code := <-c.code; code != 0 {
			t.Errorf("exit code %d\n%s", code, c.out.String())
		}
	}
}

func TestHowUsersAreDescribed(t *testing.T) {
	now := time.Date(2026, 5, 6, 12, 0, 0, 0, time.Local)
	for want, c := range map[string]client.Contact{
		"is online":                     {State: client.Online, Status: client.StatusOnline},
		"is busy: \uFFFD[2J (ios, web)": {State: client.Online, Status: client.StatusBusy, Text: "\x1b[2J", Platforms: []string{"ios", "web"}},
		"is offline since 11:00:00":     {State: client.Offline, LastSeen: now.Add(-time.Hour)},
		"is offline":                    {State: client.Offline},
		"was never seen":                {State: client.Unknown, Reason: client.NeverSeen},
		"may be online or not: it cannot be found out now": {State: client.Unknown, Reason: client.Unavailable},
	} {
		if got := describe(&c, now); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
