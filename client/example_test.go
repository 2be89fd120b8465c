package client_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/imcluster/imcluster/client"
	"github.com/imcluster/imcluster/internal/dev"
)

// Two users chat, on two gateways.
func Example() {
	ctx := context.Background()
	platform, err := dev.Start(ctx, dev.Config{}) // yours runs on Kubernetes
	if err != nil {
		panic(err)
	}
	defer platform.Close()

	received := make(chan client.Message, 1)
	bob, err := client.Dial(ctx, client.Config{
		URL:       platform.GatewayURLs[1],
		Token:     "bob",
		OnMessage: func(m client.Message) { received <- m }, // acknowledged when this returns
	})
	if err != nil {
		panic(err)
	}
	defer bob.Close()
	alice, err := client.Dial(ctx, client.Config{URL: platform.GatewayURLs[0], Token: "alice"})
	if err != nil {
		panic(err)
	}
	defer alice.Close()

	if _, err := alice.SendText(ctx, "bob", "你好"); err != nil {
		panic(err)
	}
	m := <-received
	fmt.Printf("%s: %s\n", m.From, m.Text())
	// Output: alice: 你好
}

// Presence tells who is online, and where.
func ExamplePresence() {
	ctx := context.Background()
	platform, err := dev.Start(ctx, dev.Config{})
	if err != nil {
		panic(err)
	}
	defer platform.Close()
	alice, err := client.Dial(ctx, client.Config{URL: platform.GatewayURLs[0], Token: "alice", DeviceID: "phone"})
	if err != nil {
		panic(err)
	}
	defer alice.Close()

	presence := client.Presence{URL: platform.PresenceURL, Key: platform.APIKey}
	users, _, err := presence.BatchGet(ctx, []string{"alice", "carol"})
	if err != nil {
		panic(err)
	}
	for _, u := range users {
		switch u.State {
		case client.Online:
			fmt.Println(u.User, "is online with", u.Devices[0].ID, "on", u.Devices[0].Gateway)
		case client.Offline:
			fmt.Println(u.User, "was last seen at", u.LastSeen)
		case client.Unknown: // not offline: the reason says what is known
			fmt.Println(u.User, "is unknown")
		}
	}
	// Output:
	// alice is online with phone on gateway-1
	// carol is unknown
}

// A connection says why it ended.
func ExampleConn_Err() {
	ctx := context.Background()
	platform, err := dev.Start(ctx, dev.Config{})
	if err != nil {
		panic(err)
	}
	defer platform.Close()

	old, err := client.Dial(ctx, client.Config{URL: platform.GatewayURLs[0], Token: "alice"})
	if err != nil {
		panic(err)
	}
	replacement, err := client.Dial(ctx, client.Config{URL: platform.GatewayURLs[1], Token: "alice"})
	if err != nil {
		panic(err)
	}
	defer replacement.Close()

	<-old.Done()
	var moved *client.ReconnectError
	switch err := old.Err(); {
	case errors.Is(err, client.ErrKicked):
		fmt.Println("logged in elsewhere: stay away")
	case errors.As(err, &moved):
		fmt.Println("connect again in", moved.Delay)
	default:
		fmt.Println("connect again, with growing pauses:", err)
	}
	// Output: logged in elsewhere: stay away
}
