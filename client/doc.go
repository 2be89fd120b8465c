// Package client talks to an IMCluster from Go: chat over a WebSocket with a [Client], and presence over HTTP with
// [Presence].
//
// A Client is one device of one user. It stays logged in for as long as it lives: it connects again when the connection
// breaks, when the gateway goes away and when the token expires, moves to another gateway when it is asked to, and gives
// up only when that is of no use: when the device logged in elsewhere, the session was revoked, or the token is refused.
//
//	c, err := client.Dial(ctx, client.Config{
//		URLs:  []string{"wss://chat.example.com/ws"},
//		Token: func(ctx context.Context, fresh bool) (string, error) { return tokens.Get(ctx, fresh) },
//		OnMessage: func(ctx context.Context, m client.Message) error {
//			return store.Save(ctx, m) // acknowledged when this returns nil
//		},
//	})
//	receipt, err := c.SendText(ctx, "bob", "hello") // stored when this returns nil
//
// # Sending
//
// [Client.Send] waits for the server's answer: with a receipt, the message is stored and will reach every device that it
// is due to. While there is no connection, messages wait; those that were under way when it broke are sent again with the
// same ClientMsgID, by which the server knows them, so they arrive once. Messages of one client are sent in the order of
// the calls. An error says what became of the message: [*Error] is a refusal by the server; [ErrNotSent] means that the
// message never left this program; [ErrUnknownOutcome] that it did, and that no answer came before the context or the
// client ended. Sending it again with the same ClientMsgID is always safe.
//
// # Receiving
//
// OnMessage is called for one message after the other, in the order in which the server has them. A message is
// acknowledged when OnMessage returned nil, and comes again, after 5 s and more, when it returned an error. So a message is
// handled at least once; the client passes over those that it has handled before, as far as its [Dedupe] remembers.
//
// # Contacts
//
// [Client.Subscribe] has OnPresence told when other users come online, go, or set another status; [Client.Query] asks once.
// Subscriptions outlive connections: after a reconnect OnPresence is told what is different, and nothing else. A state that is
// [Unknown] is not offline. [Client.SetStatus] sets what others see of this user.
//
// All methods may be called by many goroutines at once, from callbacks too unless they say otherwise, and those that wait
// end with their context. No duration depends on the clock of this machine being right.
package client
