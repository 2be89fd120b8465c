package gateway

import (
	"cmp"
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"

	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/gateway/auth"
	"github.com/imcluster/imcluster/presence/store"
)

// tokenFacts are what is remembered of a token. They are not changed once a connection has them.
type tokenFacts struct {
	expires, issued time.Time // zero: not known
	id              string
}

// factsOf returns nil if the token says nothing, as in the mode insecure.
func factsOf(id auth.Identity) *tokenFacts {
	if id.Expires.IsZero() && id.Issued.IsZero() && id.TokenID == "" {
		return nil
	}
	return &tokenFacts{expires: id.Expires, issued: id.Issued, id: id.TokenID}
}

// end is when the session must end, zero if the token does not expire.
func (t *tokenFacts) end() time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.expires
}

// watchTokenLocked sees to it that the end of the token is noticed in time.
func (c *conn) watchTokenLocked() {
	end := c.token.end()
	if left := time.Until(end); !end.IsZero() && left < c.g.cfg.IdleTimeout/2 {
		c.g.wheel.Sooner(&c.timer, left, c) // than the timer looks anyway; something else may be due before
	}
}

// renewTimeout is how long the store may take to say that a fresh token was not revoked.
const renewTimeout = 5 * time.Second

// renew handles USER_LOGIN on a connection that is logged in: a fresh token takes the place of the one before, so that the
// session lives on. A token that is refused changes nothing, unless it was revoked.
func (c *conn) renew(fr *wire.Frame) {
	ctx, span := c.g.tracer.Start(c.g.ctx, "gateway.renew")
	defer span.End()
	err := c.tryRenew(ctx, fr)
	result := loginRenewed
	var refused *wire.Error
	switch {
	case err == nil:
		c.send(c.welcome())
	case errors.As(err, &refused) && refused.Code == wire.CodeRevoked:
		result = loginRefused
		c.close(reasonRevoked, loginAnswer(refused))
	case errors.As(err, &refused):
		result = loginRefused
		c.refuse(fr, err, stateOpen)
	default:
		result = loginUnavailable
		c.g.logRare.log(ctx, "renewal of a token not possible now", "error", err)
		c.refuse(fr, errNotNow, stateOpen)
	}
	c.g.metrics.logins[result].Add(1)
	span.SetAttributes(attribute.String("result", result.String()))
	if err != nil {
		span.SetStatus(codes.Error, result.String())
	}
}

var (
	errRevoked = wire.Errorf(wire.CodeRevoked, "the session was revoked; log in with another token")
	errNotNow  = wire.Errorf(wire.CodeUnavailable, "the token cannot be judged now; send it again after delayMs")
)

func (c *conn) tryRenew(ctx context.Context, fr *wire.Frame) error {
	identity, err := c.identify(ctx, fr)
	switch {
	case err != nil:
		return err
	case identity.User != c.user || fr.DeviceID != c.device:
		return wire.Errorf(wire.CodeNotAllowed, "this connection is logged in already, as another user or device; connect again for that")
	}
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	// First the fresh token counts, then the store is asked: a revocation in between is told to the gateway, and finds it.
	before, session := c.setToken(factsOf(identity))
	err = (*c.g.member.Load()).CheckRevoked(ctx, session) // it registered the session
	if errors.Is(err, store.ErrRevoked) {
		return errRevoked
	}
	if err != nil {
		c.setToken(before)
	}
	return err
}

// setToken exchanges what is remembered of the token.
func (c *conn) setToken(t *tokenFacts) (before *tokenFacts, session store.Session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, c.token = c.token, t
	if c.closing == reasonNone {
		c.watchTokenLocked()
	}
	return before, c.sessionLocked()
}

// revoke ends the session if the revocation covers it, also one in its grace.
func (c *conn) revoke(r store.Revocation) {
	c.mu.Lock()
	if c.state != stateOpen && c.state != stateLost || !r.Covers(c.sessionLocked()) {
		c.mu.Unlock()
		return
	}
	if c.state == stateLost {
		ended := c.unregisterLocked(c.lostAt, reasonRevoked)
		c.mu.Unlock()
		ended()
		return
	}
	c.mu.Unlock()
	c.close(reasonRevoked, wire.Frame{Type: wire.TypeKicked, Code: wire.CodeRevoked,
		Message: cmp.Or(r.Reason, errRevoked.Message)})
}
