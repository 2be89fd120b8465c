package client

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

const (
	// tokenTimeout is how long a source of tokens may take.
	tokenTimeout = 30 * time.Second
	// minRenewal is the shortest time between two renewals of a session.
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
// fifth of the lifetime of the old one is left. Servers that do not know that say so, and end the session.
func (c *Client) renew(n *conn) {
	left, ok := lifetime(n.token, n.login.Time)
	for expires := n.since.Add(left); ok; {
		const part = 4.0 / 5
		wait := max(time.Duration(float64(time.Until(expires))*part), minRenewal)
		select {
		case <-time.After(wait - wait/10 + jitter(wait/10)):
		case <-n.ended:
			return
		}
		left, err := c.renewOnce(n)
		switch {
		case err != nil:
			c.report(err) // and try again, in what is left
		case left == 0:
			return
		default:
			expires = time.Now().Add(left)
		}
	}
}

// renewOnce logs in with a fresh token. It returns how long that one lives, or 0 if the session is not renewed.
func (c *Client) renewOnce(n *conn) (left time.Duration, err error) {
	token, err := c.token(c.ctx, true)
	if err != nil {
		return 0, err
	}
	select {
	case n.direct <- c.loginFrame(token):
	case <-n.ended:
		return 0, nil
	}
	select {
	case answer := <-n.renewed:
		if left, ok := lifetime(token, answer.Time); ok && answer.Code.OK() {
			return max(left, 1), nil
		}
	case <-n.ended:
	}
	return 0, nil
}

// lifetime returns how long a JSON Web Token lives from a time of the server's clock on, in Unix milliseconds; ok is
// false if the token does not say so. Whether it is genuine is not the client's business.
func lifetime(token string, serverTime int64) (left time.Duration, ok bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return 0, false
	}
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return 0, false
	}
	var body struct {
		Expires float64 `json:"exp"`
	}
	if json.Unmarshal(claims, &body) != nil || body.Expires <= 0 {
		return 0, false
	}
	now := time.Now()
	if serverTime > 0 {
		now = time.UnixMilli(serverTime)
	}
	const second = 1000 // milliseconds
	return time.UnixMilli(int64(body.Expires * second)).Sub(now), true
}
