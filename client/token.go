package client

import (
	"context"
	"fmt"
	"time"

	"github.com/imcluster/imcluster/api/wire"
)

const (
	// tokenTimeout is how long a source of tokens may take.
	tokenTimeout = 30 * time.Second
	// minRenewal is the shortest time between two attempts to renew a session.
	minRenewal = time.Second
)

// token asks the source for a token.
func (c *Client) token(ctx context.Context, fresh bool) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	token, err := c.cfg.Token(ctx, fresh)
	if err != nil {
		return "", fmt.Errorf("get a token: %w", err)
	}
	return token, nil
}

// renew keeps the session of a connection from ending with its token: it logs in again on it with a fresh token, when a
// fifth of the lifetime of the old one is left.
func (c *Client) renew(n *conn) {
	left := lifetime(&n.login)
	for expires := n.since.Add(left); left > 0; {
		const part = 4.0 / 5
		wait := max(time.Duration(float64(time.Until(expires))*part), minRenewal)
		select {
		case <-time.After(wait - wait/10 + jitter(wait/10)):
		case <-n.ended:
			return
		}
		answer, err := c.renewOnce(n)
		switch {
		case err != nil:
			c.report(err) // and try again, in what is left
		case answer.Code.OK():
			left = lifetime(&answer)
			expires = time.Now().Add(left)
		case answer.Code == 0 || answer.Code == wire.CodeNotAllowed:
			return // the connection has ended, or the token is somebody else's
		default:
			c.report(refusal(&answer))
		}
	}
}

// renewOnce logs in with a fresh token. It returns the server's answer, which has no code if the connection ended.
func (c *Client) renewOnce(n *conn) (answer wire.Frame, err error) {
	token, err := c.token(c.ctx, true)
	if err != nil {
		return answer, err
	}
	select {
	case n.direct <- c.loginFrame(token):
	case <-n.ended:
		return answer, nil
	}
	select {
	case answer = <-n.renewed:
	case <-n.ended:
	}
	return answer, nil
}

// lifetime returns how long the token of a login lives, by the server's clock and not that of this machine; zero if it
// does not end.
func lifetime(login *wire.Frame) time.Duration {
	if login.ExpiresAt == 0 {
		return 0
	}
	return max(time.UnixMilli(login.ExpiresAt).Sub(time.UnixMilli(login.Time)), 1)
}
