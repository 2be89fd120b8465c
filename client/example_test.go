package client_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

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
		URLs:  platform.GatewayURLs[1:],
		Token: client.StaticToken("bob"), // yours asks your back end for a token
		OnMessage: func(_ context.Context, m client.Message) error {
			received <- m
			return nil // the message is acknowledged
		},
	})
	if err != nil {
		panic(err)
	}
	defer bob.Close()
	alice, err := client.Dial(ctx, client.Config{URLs: platform.GatewayURLs[:1], Token: client.StaticToken("alice")})
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

// A message whose handler fails comes again, and one that was handled does not.
func ExampleConfig_onMessage() {
	ctx := context.Background()
	handle := func(ctx context.Context, m client.Message) error {
		if err := save(ctx, m); err != nil {
			return err // not acknowledged: the server sends it again
		}
		return nil
	}
	c, err := client.New(client.Config{ // connects in the background
		URLs:      []string{"wss://chat.example.com/ws"},
		Token:     fetchToken,
		OnMessage: handle,
		OnState: func(s client.StateChange) {
			if s.Err != nil {
				fmt.Fprintln(os.Stderr, s.State, s.Err, "next attempt in", s.RetryIn)
			}
		},
		OnError: func(err error) { fmt.Fprintln(os.Stderr, err) },
	})
	if err != nil {
		panic(err)
	}
	defer c.Close()
	fmt.Println(c.State().State)
	_ = ctx
	// Output: connecting
}

func save(context.Context, client.Message) error { return nil }

// fetchToken asks the application's own service, which takes its time.
func fetchToken(ctx context.Context, _ bool) (string, error) {
	<-ctx.Done()
	return "", ctx.Err()
}

// An error of Send says what became of the message.
func ExampleClient_Send() {
	ctx := context.Background()
	platform, err := dev.Start(ctx, dev.Config{})
	if err != nil {
		panic(err)
	}
	defer platform.Close()
	alice, err := client.Dial(ctx, client.Config{URLs: platform.GatewayURLs, Token: client.StaticToken("alice")})
	if err != nil {
		panic(err)
	}
	defer alice.Close()

	send := func(m client.Outgoing) {
		receipt, err := alice.Send(ctx, m)
		var refused *client.Error
		switch {
		case err == nil:
			fmt.Println("accepted:", receipt.MsgID)
		case errors.As(err, &refused):
			fmt.Println("refused:", refused.Code, "worth another try:", refused.Retryable())
		case errors.Is(err, client.ErrUnknownOutcome):
			fmt.Println("send it again with the ClientMsgID", receipt.ClientMsgID)
		default:
			fmt.Println("never left:", err)
		}
	}
	send(client.Outgoing{To: "bob", Content: client.Text("hello"), ClientMsgID: "order-17"})
	send(client.Outgoing{To: "bob", Content: client.Text("hello"), ClientMsgID: "order-17"}) // the same message
	send(client.Outgoing{To: "bob", Content: []byte("hello")})
	// Output:
	// accepted: 004629ac-b7c2-86f6-bc72-7172c4004715
	// accepted: 004629ac-b7c2-86f6-bc72-7172c4004715
	// never left: the content is not JSON in UTF-8
}

// Many messages are sent faster when nobody waits for each.
func ExampleClient_SendAsync() {
	ctx := context.Background()
	platform, err := dev.Start(ctx, dev.Config{})
	if err != nil {
		panic(err)
	}
	defer platform.Close()
	alice, err := client.Dial(ctx, client.Config{URLs: platform.GatewayURLs, Token: client.StaticToken("alice"), RetryRefused: true})
	if err != nil {
		panic(err)
	}
	defer alice.Close()

	var answered sync.WaitGroup
	accepted := 0
	for i := range 300 {
		answered.Add(1)
		alice.SendAsync(ctx, client.Outgoing{To: "bob", Content: client.Text(fmt.Sprint(i))}, func(_ client.Receipt, err error) {
			if err == nil {
				accepted++ // one call at a time
			}
			answered.Done()
		})
	}
	answered.Wait()
	fmt.Println(accepted)
	// Output: 300
}

// Presence tells who is online, and where.
func ExamplePresence() {
	ctx := context.Background()
	platform, err := dev.Start(ctx, dev.Config{})
	if err != nil {
		panic(err)
	}
	defer platform.Close()
	alice, err := client.Dial(ctx, client.Config{URLs: platform.GatewayURLs[:1], Token: client.StaticToken("alice"), DeviceID: "phone"})
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

// A client ends by itself only when it is of no use to connect again.
func ExampleClient_Err() {
	ctx := context.Background()
	platform, err := dev.Start(ctx, dev.Config{})
	if err != nil {
		panic(err)
	}
	defer platform.Close()

	old, err := client.Dial(ctx, client.Config{URLs: platform.GatewayURLs[:1], Token: client.StaticToken("alice")})
	if err != nil {
		panic(err)
	}
	replacement, err := client.Dial(ctx, client.Config{URLs: platform.GatewayURLs[1:], Token: client.StaticToken("alice")})
	if err != nil {
		panic(err)
	}
	defer replacement.Close()

	<-old.Done()
	var refused *client.Error
	switch err := old.Err(); {
	case errors.Is(err, client.ErrKicked):
		fmt.Println("logged in elsewhere: stay away")
	case errors.As(err, &refused):
		fmt.Println("sign in again:", refused)
	}
	// Output: logged in elsewhere: stay away
}
