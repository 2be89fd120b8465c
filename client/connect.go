package client

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/imcluster/imcluster/api/wire"
)

// lingerTimeout is how long a connection that was given up for another one may still answer. The server closes it when it
// sees the new one.
const lingerTimeout = 2 * time.Second

// run keeps the client logged in. It returns why it ended.
func (c *Client) run(n *conn) error {
	pauses := &backoff{low: c.cfg.MinBackoff, high: c.cfg.MaxBackoff}
	if n == nil {
		var err error
		if n, err = c.reconnect(nil, nil, pauses); err != nil {
			return err
		}
		c.online(n)
	}
	for {
		var reason error
		old := n
		select {
		case <-n.ended:
			reason, old = n.err, nil
		case move := <-n.move:
			reason = move
		case <-c.ctx.Done():
			n.close()
			return ErrClosed
		}
		if time.Since(n.since) >= stableAfter {
			pauses.reset()
		}
		c.nextURL++ // whatever ended the connection is not the first to be tried
		next, err := c.reconnect(old, reason, pauses)
		if err != nil {
			n.close()
			return err
		}
		if old == nil {
			n.loops.Wait()
		} else {
			c.tasks.Go(func() { c.linger(old) })
		}
		n = next
		c.online(n)
	}
}

// linger gives a connection that was replaced the time for its last answers.
func (c *Client) linger(n *conn) {
	select {
	case <-n.ended:
	case <-time.After(lingerTimeout):
	case <-c.ctx.Done():
	}
	n.close()
}

// online puts a connection to use.
func (c *Client) online(n *conn) {
	c.mu.Lock()
	c.conn, c.login = n, n.login
	c.mu.Unlock()
	c.out.attach(n) // before start: a connection that ends is detached
	n.start()
	c.setState(StateChange{State: StateOnline, URL: n.url})
	c.tasks.Go(func() { c.renew(n) })
	c.tasks.Go(func() { c.contacts.restore(n) })
}

// reconnect logs in again because of reason, with pauses, until it succeeds or that is of no use. If old is not nil it is
// still in use meanwhile: the server lets a device log in elsewhere before it leaves.
func (c *Client) reconnect(old *conn, reason error, pauses *backoff) (*conn, error) {
	ctx, cancel := context.WithCancelCause(c.ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel(nil)
	if old != nil {
		watching.Go(func() { c.watchOld(ctx, cancel, old) })
	}
	for first := true; ; first = false {
		if finalEnd(reason) {
			return nil, reason
		}
		wait := c.pause(reason, first, pauses)
		c.setState(c.waitingState(old, reason, wait))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		n, err := c.attempt(ctx, true)
		if err == nil {
			return n, nil
		}
		if ended := context.Cause(ctx); ended != nil {
			return nil, ended
		}
		if finalLogin(err) {
			return nil, err
		}
		reason = err
	}
}

// watchOld looks after a connection that is in use while another one is sought. If it ends because the device logged in
// elsewhere, the client must not.
func (c *Client) watchOld(ctx context.Context, cancel context.CancelCauseFunc, old *conn) {
	select {
	case <-old.ended:
		if finalEnd(old.err) {
			cancel(old.err)
			return
		}
		if ctx.Err() == nil {
			c.setState(StateChange{State: StateOffline, URL: old.url, Err: old.err})
		}
	case <-ctx.Done():
	}
}

// waitingState is the state until the next attempt.
func (c *Client) waitingState(old *conn, reason error, wait time.Duration) StateChange {
	s := StateChange{State: StateOffline, URL: c.State().URL, Err: reason, RetryIn: wait}
	switch {
	case reason == nil:
		s.State = StateConnecting
	case old != nil:
		select {
		case <-old.ended:
		default:
			s.State = StateMoving
		}
	}
	return s
}

// pause returns how long to wait before the next attempt.
func (c *Client) pause(reason error, first bool, pauses *backoff) time.Duration {
	var move *MoveError
	switch {
	case reason == nil:
		return 0
	case first && errors.As(reason, &move):
		return move.Delay // the server spreads its clients itself
	case first && codeOf(reason) == wire.CodeTokenExpired:
		c.stale = true
		return 0
	}
	return max(pauses.next(), delayOf(reason))
}

// attempt tries every URL once. With patient set it waits for a store that is not available, as long as the server keeps
// the connection.
func (c *Client) attempt(ctx context.Context, patient bool) (*conn, error) {
	var last error
	for range c.cfg.URLs {
		n, err := c.attemptURL(ctx, c.cfg.URLs[c.nextURL%len(c.cfg.URLs)], patient)
		if err == nil {
			return n, nil
		}
		if ctx.Err() != nil || finalLogin(err) {
			return nil, err
		}
		last = err
		c.nextURL++
	}
	return nil, last
}

// attemptURL logs in, and once more with a fresh token if the server does not like the one that there is.
func (c *Client) attemptURL(ctx context.Context, url string, patient bool) (*conn, error) {
	var refused string
	var refusal error
	for {
		token, err := c.token(ctx, c.stale)
		if err != nil {
			return nil, err
		}
		if refusal != nil && token == refused {
			return nil, refusal // the source has no other
		}
		n, err := c.dial(ctx, url, token, patient)
		if err == nil {
			c.stale = false
			return n, nil
		}
		if !badToken(err) || c.stale {
			return nil, err
		}
		c.stale, refused, refusal = true, token, err
	}
}
