package client

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/imcluster/imcluster/api/wire"
)

// Client is one device of one user, that stays logged in. Make it with [Dial] or [New].
type Client struct {
	// Fixed after construction.
	cfg    Config
	ctx    context.Context // ends with the client
	cancel context.CancelFunc
	out    *outbox
	in     *inbox
	notes  *notes

	contacts *contacts

	tasks sync.WaitGroup // all goroutines but those that call callbacks
	done  chan struct{}  // all goroutines have returned

	// Owned by the goroutine that connects.
	nextURL int
	stale   bool // a fresh token is needed

	mu      sync.Mutex
	state   StateChange
	changed chan struct{} // closed when the state changes
	conn    *conn         // the present or last one
	login   wire.Frame    // the answer to the last login, with the status as it is by now
	err     error         // why the client has ended
}

// Dial connects, logs in, and returns the client. If none of the URLs lets it in, it fails: with an [*Error] if the login
// was refused. The context is for that only.
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	c, err := newClient(cfg)
	if err != nil {
		return nil, err
	}
	n, err := c.attempt(ctx, false)
	if err != nil {
		c.cancel()
		return nil, err
	}
	c.start(n)
	return c, nil
}

// New returns a client that connects in the background, and goes on trying until [Client.Close]. What is sent meanwhile
// waits. The error says what is wrong with the configuration.
func New(cfg Config) (*Client, error) {
	c, err := newClient(cfg)
	if err != nil {
		return nil, err
	}
	c.start(nil)
	return c, nil
}

func newClient(cfg Config) (*Client, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	c := &Client{cfg: cfg, out: &outbox{maxQueued: cfg.MaxQueued}, notes: newNotes(), done: make(chan struct{}), changed: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.in, c.contacts = newInbox(c), newContacts(c)
	return c, nil
}

// start runs the client, on a connection if it has one.
func (c *Client) start(n *conn) {
	go c.in.run()
	var calls sync.WaitGroup
	calls.Go(c.notes.run)
	if n != nil {
		c.online(n)
	}
	c.tasks.Go(func() { c.finish(c.run(n)) })
	go func() {
		c.tasks.Wait()
		<-c.in.idle
		c.notes.close()
		calls.Wait()
		close(c.done)
	}()
}

// finish makes err the end of the client.
func (c *Client) finish(err error) {
	if errors.Is(err, errLoggedOut) || c.ctx.Err() != nil {
		err = ErrClosed
	}
	c.mu.Lock()
	c.err = err
	url := c.state.URL
	c.mu.Unlock()
	c.cancel()
	c.in.close()
	c.out.close(err)
	c.setState(StateChange{State: StateEnded, URL: url, Err: err})
}

// UserID is the id of the user who logged in, empty before the first login.
func (c *Client) UserID() string { return c.lastLogin().UserID }

// DeviceID is the id of the device that logged in, empty before the first login.
func (c *Client) DeviceID() string { return c.lastLogin().DeviceID }

// SessionID identifies the last login, for people who compare logs.
func (c *Client) SessionID() string { return c.lastLogin().SessionID }

func (c *Client) lastLogin() wire.Frame {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.login
}

// Done is closed when the client has ended and the last callback has returned.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err says why the client has ended: [ErrClosed] after Close, Shutdown and Logout, [ErrKicked], [ErrSignedOut], or an
// [*Error] with the code that the server refused the login or ended the session with: wire.CodeRevoked,
// wire.CodeInvalidToken, wire.CodeTokenExpired if a fresh token was refused too, or a mistake in the configuration. It is
// nil while the client lives.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the client at once. It does not log out: the server shows the user online for a grace period. Messages that
// wait to be sent fail, and those whose handler is running are not acknowledged. It may be called more than once; it does
// not wait for callbacks.
func (c *Client) Close() {
	c.cancel()
	c.tasks.Wait()
}

// Shutdown ends the client after what has begun: the handler that is running has returned and its message is
// acknowledged, and what waits to be sent is answered. When the context ends first, the client ends all the same, with an
// error. It must not be called from OnMessage.
func (c *Client) Shutdown(ctx context.Context) error {
	defer c.Close()
	return c.settle(ctx)
}

// Logout is Shutdown for users who leave: the device is offline at once. Without a connection it waits for one. Messages that
// come meanwhile wait for the device.
func (c *Client) Logout(ctx context.Context) error {
	return c.logout(ctx, "")
}

// Forget is Logout for a device that does not come back, or as a new one: no messages wait for it.
func (c *Client) Forget(ctx context.Context) error {
	return c.logout(ctx, wire.LogoutForget)
}

func (c *Client) logout(ctx context.Context, action string) error {
	defer c.Close()
	if err := c.settle(ctx); err != nil {
		return fmt.Errorf("log out: %w", err)
	}
	for {
		n, err := c.awaitConn(ctx)
		if err != nil {
			return fmt.Errorf("log out: %w", err)
		}
		n.leaving.Store(true)
		select {
		case n.direct <- wire.Frame{Type: wire.TypeLogout, Action: action}:
		case <-n.ended:
		case <-ctx.Done():
		}
		select {
		case <-n.ended:
			if errors.Is(n.err, errLoggedOut) {
				return nil
			}
			// The connection was lost before the answer: log out on the next one.
			if err := c.awaitChange(ctx, n); err != nil {
				return fmt.Errorf("log out: %w", err)
			}
		case <-ctx.Done():
			return fmt.Errorf("log out: %w", ctx.Err())
		}
	}
}

// settle hands over no more messages, and waits until the handler has returned and everything is answered.
func (c *Client) settle(ctx context.Context) error {
	c.in.close()
	select {
	case <-c.in.idle:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := c.Err(); err != nil {
		return err
	}
	return c.out.awaitIdle(ctx)
}

// report hands an error to OnError.
func (c *Client) report(err error) {
	if c.cfg.OnError != nil {
		c.notes.push(func() { c.cfg.OnError(err) })
	}
}
