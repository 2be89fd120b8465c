package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/gorilla/websocket"

	"github.com/imcluster/imcluster/api/wire"
)

// Config says where to connect and as whom, and what to call. URLs and Token are required.
type Config struct {
	// URLs are the addresses of gateways, or of what stands in front of them: ws://host/ws or wss://host/ws. Without a
	// path, /ws is added. The first one that answers is taken; after a lost connection the search goes on from the next
	// one.
	URLs []string
	// Token says who the user is, at every login.
	Token TokenSource
	// TokenInHandshake sends the token as a bearer token of the HTTP handshake instead of in a login frame, which saves
	// a round trip and lets proxies check it.
	TokenInHandshake bool
	// DeviceID tells the user's devices apart; a second login of the same device replaces the first. Empty means
	// "default". At most 64 bytes.
	DeviceID string
	// Platform of the device, such as "ios", at most 16 characters of a–z, 0–9 and '-'. Optional.
	Platform string
	// Status and StatusText are what others see of the user from the first login on. They persist on the server, so that later
	// logins of this client leave them as they are by then. Empty means: as they are already.
	Status     Status
	StatusText string
	// Protobuf has frames encoded in Protocol Buffers instead of JSON, which is smaller and faster. Messages are the same.
	Protobuf bool

	// OnMessage is called for every message, one after the other. The message is acknowledged when it returns nil;
	// otherwise the server sends it again after 5, 10, 20, 40 and 80 s, and then at the next login. ctx ends with the
	// client. It may take its time: nothing else waits for it but later messages. nil means that this client only sends;
	// messages for its device wait on the server.
	OnMessage func(ctx context.Context, m Message) error
	// ManualAck leaves acknowledging to [Client.Ack], for handlers that hand messages on; OnMessage's error has no effect
	// but to be reported. A message that is neither acknowledged nor given back with [Client.Nack] is not handed over
	// again by this client.
	ManualAck bool
	// Dedupe remembers which messages were handled. nil means the last 4,096 in memory. A store that outlives the
	// process makes that hold across restarts.
	Dedupe Dedupe
	// OnPresence is called with the users to whom the client is subscribed and who have changed, by how they are now, in the
	// order of their ids; several steps of one user between two calls are one. Optional.
	OnPresence func(changes []Contact)
	// OnState is called when the connection changes; see [StateChange]. It must not block for long. Optional.
	OnState func(StateChange)
	// OnError is called with what goes wrong and that no method call returns: errors of OnMessage ([*MessageError]), of
	// Dedupe and of Token, [ErrOverrun], and complaints of the server ([*Error]). Optional.
	OnError func(error)

	// RetryRefused sends messages that were refused for now, because the store is not available, a limit of rate is
	// exceeded, or the recipient's mailbox is full, again after the delay that the server names, until the context ends.
	// Otherwise Send returns the refusal.
	RetryRefused bool
	// MaxQueued bounds the calls that wait for an answer, connected or not; more fail with [ErrQueueFull]. Zero means
	// 10,000. Their contents may have 64 MiB together.
	MaxQueued int
	// MinBackoff and MaxBackoff bound the pauses between attempts to connect, which double and are jittered by a half.
	// Zero means 500 ms and 30 s. Servers that name a longer delay are obeyed.
	MinBackoff, MaxBackoff time.Duration

	// Dialer; nil means websocket.DefaultDialer.
	Dialer *websocket.Dialer
	// Header is added to the HTTP handshake.
	Header http.Header

	// wall is the clock on the wall, for tests; only jumps of it are of interest.
	wall func() time.Time
}

// TokenSource returns the token to log in with. It is called for every login, at times by two goroutines, and may take
// 30 s. It may return the same token until it expires, unless fresh is set: the last one was refused, or is about to expire. An error
// means that there is no token now, and the client tries again later; [ErrSignedOut] that there will be none.
//
// The server says when a token expires. The client asks for a fresh one when a fifth of that time is left, and renews the
// session on the open connection.
type TokenSource func(ctx context.Context, fresh bool) (string, error)

// StaticToken is the source of a token that never changes.
func StaticToken(token string) TokenSource {
	return func(context.Context, bool) (string, error) { return token, nil }
}

const (
	defaultMaxQueued  = 10_000
	defaultMinBackoff = 500 * time.Millisecond
	defaultMaxBackoff = 30 * time.Second
)

// withDefaults returns the configuration with zero values filled in, or what is wrong with it.
func (c Config) withDefaults() (Config, error) {
	c.MaxQueued = cmp.Or(c.MaxQueued, defaultMaxQueued)
	c.MinBackoff = cmp.Or(c.MinBackoff, defaultMinBackoff)
	c.MaxBackoff = max(cmp.Or(c.MaxBackoff, defaultMaxBackoff), c.MinBackoff)
	if c.Dedupe == nil {
		c.Dedupe = NewMemoryDedupe(defaultRemembered)
	}
	if c.Dialer == nil {
		c.Dialer = websocket.DefaultDialer
	}
	if c.wall == nil {
		c.wall = func() time.Time { return time.Now().Round(0) } // without the monotonic reading
	}
	switch {
	case len(c.URLs) == 0:
		return c, errors.New("no URL to connect to")
	case c.Token == nil:
		return c, errors.New("no source of tokens")
	case c.MaxQueued < 0 || c.MinBackoff < 0 || c.MaxBackoff < 0:
		return c, errors.New("limits must not be negative")
	}
	urls := make([]string, len(c.URLs))
	for i, u := range c.URLs {
		target, err := url.Parse(u)
		if err != nil {
			return c, err
		}
		if target.Scheme != "ws" && target.Scheme != "wss" {
			return c, fmt.Errorf("%q does not begin with ws:// or wss://", u)
		}
		if target.Path == "" || target.Path == "/" {
			target.Path = "/ws"
		}
		urls[i] = target.String()
	}
	c.URLs = urls
	if c.DeviceID != "" {
		if err := wire.CheckDeviceID(c.DeviceID); err != nil {
			return c, err
		}
	}
	if c.StatusText != "" {
		c.Status = cmp.Or(c.Status, StatusOnline)
	}
	if c.Status != "" {
		if err := wire.CheckStatus(string(c.Status)); err != nil {
			return c, err
		}
	}
	return c, wire.CheckPlatform(c.Platform)
}

func (c *Config) codec() wire.Codec {
	if c.Protobuf {
		return wire.Protobuf
	}
	return wire.JSON
}
