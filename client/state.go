package client

import (
	"context"
	"time"
)

// ConnState is how a client is connected.
type ConnState uint8

// States of a client.
//
//	connecting → online → moving → online
//	     ↖ offline ↙  ↖ ↙             all → ended
const (
	// StateConnecting: the first attempt to log in has not succeeded yet.
	StateConnecting ConnState = iota
	// StateOnline: logged in.
	StateOnline
	// StateMoving: logged in, on a gateway that is going away; the client looks for another one.
	StateMoving
	// StateOffline: not logged in; the client tries again after RetryIn.
	StateOffline
	// StateEnded: not logged in, for good.
	StateEnded
)

// String returns the name of the state.
func (s ConnState) String() string {
	return [...]string{"connecting", "online", "moving", "offline", "ended"}[s]
}

// StateChange is what [Config.OnState] is called with: for every new state, and in StateOffline for every attempt that
// failed.
type StateChange struct {
	State ConnState
	// URL is where the client is connected in StateOnline, or was before.
	URL string
	// Err is why the client is not online: in StateOffline the reason for which the connection ended or the last attempt
	// failed, in StateMoving a [*MoveError], in StateEnded what [Client.Err] returns.
	Err error
	// RetryIn is the time to the next attempt, in StateOffline and StateMoving.
	RetryIn time.Duration
}

// setState makes a state known.
func (c *Client) setState(s StateChange) {
	c.mu.Lock()
	if c.state.State == StateEnded {
		c.mu.Unlock()
		return
	}
	c.state = s
	close(c.changed)
	c.changed = make(chan struct{})
	c.mu.Unlock()
	if c.cfg.OnState != nil {
		c.notes.push(func() { c.cfg.OnState(s) })
	}
}

// State returns the present state.
func (c *Client) State() StateChange {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// WaitOnline returns when the client is logged in. The error is that of the context or, when the client has ended,
// [Client.Err].
func (c *Client) WaitOnline(ctx context.Context) error {
	_, err := c.awaitConn(ctx)
	return err
}

// awaitConn returns the connection, once there is one.
func (c *Client) awaitConn(ctx context.Context) (*conn, error) {
	for {
		c.mu.Lock()
		state, changed, n := c.state.State, c.changed, c.conn
		c.mu.Unlock()
		switch state {
		case StateEnded:
			return nil, c.Err()
		case StateOnline, StateMoving:
			return n, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// present returns the present connection, or the last one.
func (c *Client) present() *conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn
}

// awaitChange waits until the client is not on connection n any more.
func (c *Client) awaitChange(ctx context.Context, n *conn) error {
	for {
		c.mu.Lock()
		state, changed, present := c.state.State, c.changed, c.conn
		c.mu.Unlock()
		if state == StateEnded || state == StateOffline || present != n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
