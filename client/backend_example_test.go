package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/imcluster/imcluster/client"
	"github.com/imcluster/imcluster/internal/dev"
)

// A back end makes a group and sends a message to it, again until it is stored for every member.
func ExamplePresence_Send() {
	ctx := context.Background()
	platform, err := dev.Start(ctx, dev.Config{})
	if err != nil {
		panic(err)
	}
	defer platform.Close()
	received := make(chan client.Message, 1)
	bob, err := client.Dial(ctx, client.Config{URLs: platform.GatewayURLs, Token: client.StaticToken("bob"),
		OnMessage: func(_ context.Context, m client.Message) error {
			received <- m
			return nil
		}})
	if err != nil {
		panic(err)
	}
	defer bob.Close()

	backend := client.Presence{URL: platform.PresenceURL, Key: platform.APIKey}
	group, err := backend.CreateGroup(ctx, client.NewGroup{ID: "team", Members: []string{"alice", "bob"}, Key: "create-team"})
	if err != nil {
		panic(err)
	}
	fmt.Println(group.ID, "has", group.Members, "members")

	message := client.BackendMessage{ID: "lunch-1", From: "kitchen", Group: "team", Content: json.RawMessage(`"Lunch!"`)}
	for {
		_, err := backend.Send(ctx, message)
		var refused *client.APIError
		if errors.As(err, &refused) && refused.RetryAfter > 0 {
			<-time.After(refused.RetryAfter)
			continue // with the same ID: who has it does not get it twice
		}
		if err != nil {
			panic(err)
		}
		break
	}
	m := <-received
	fmt.Println(m.From, "to", m.Group+":", string(m.Content))
	// Output:
	// team has 2 members
	// kitchen to team: "Lunch!"
}

// A back end ends the sessions of a user whose password was changed.
func ExamplePresence_Disconnect() {
	ctx := context.Background()
	platform, err := dev.Start(ctx, dev.Config{})
	if err != nil {
		panic(err)
	}
	defer platform.Close()
	mallory, err := client.Dial(ctx, client.Config{URLs: platform.GatewayURLs, Token: client.StaticToken("mallory")})
	if err != nil {
		panic(err)
	}
	defer mallory.Close()

	backend := client.Presence{URL: platform.PresenceURL, Key: platform.APIKey}
	if err := backend.Disconnect(ctx, "mallory", client.Disconnection{Reason: "the password was changed"}); err != nil {
		panic(err)
	}
	<-mallory.Done()
	fmt.Println(mallory.Err())
	// Output: refused with code 305: the password was changed
}
