package gateway

import (
	"cmp"
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"

	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/gateway/auth"
	"github.com/imcluster/imcluster/presence/store"
)

// maxLogins is how many logins may wait for the store at once. Each holds a goroutine; more would not be faster.
const maxLogins = 1024

// maxLoginDelay bounds how long a client is asked to wait when the store is not available for long.
const maxLoginDelay = 30 * time.Second

// loginResult is the label of a metric.
type loginResult uint8

const (
	loginOK loginResult = iota
	loginRefused
	loginUnavailable
	loginDraining
	loginRenewed
	numLoginResults
)

func (r loginResult) String() string {
	return [numLoginResults]string{"ok", "refused", "unavailable", "draining", "renewed"}[r]
}

// login handles USER_LOGIN. It is answered with 11. If that refuses for good the connection is closed; if it refuses
// for now the client may log in again on the same connection: a handshake for every attempt would only add to the load
// while the store comes back.
func (c *conn) login(fr *wire.Frame) {
	ctx, span := c.g.tracer.Start(c.g.ctx, "gateway.login")
	defer span.End()
	err := c.tryLogin(ctx, fr)
	result := loginOK
	var refusal *wire.Error
	switch {
	case err == nil:
	case errors.As(err, &refusal) && refusal.Code == wire.CodeDraining:
		result = loginDraining
		answer := loginAnswer(refusal)
		c.closeWith(reasonDraining, refusal.Code.CloseCode(), answer)
	case errors.As(err, &refusal):
		result = loginRefused
		c.closeWith(reasonLoginRefused, refusal.Code.CloseCode(), loginAnswer(refusal))
	default:
		result = loginUnavailable
		c.g.logRare.log(ctx, "login not possible now", "error", err)
		c.retryLogin()
	}
	c.g.metrics.logins[result].Add(1)
	span.SetAttributes(attribute.String("result", result.String()))
	if err != nil {
		span.SetStatus(codes.Error, result.String())
	}
}

func loginAnswer(e *wire.Error) wire.Frame {
	return refusal(wire.TypeLogin, nil, e)
}

// retryLogin refuses a login for now, and gives the client the time to try again.
func (c *conn) retryLogin() {
	wait := min(time.Second<<min(c.attempts, 10), maxLoginDelay)
	ms := between(wait, 2*wait)
	c.attempts = min(c.attempts+1, 10)
	c.mu.Lock()
	c.loginBy = c.g.wheel.Now() + time.Duration(ms)*time.Millisecond + c.g.cfg.LoginTimeout
	c.mu.Unlock()
	c.send(&wire.Frame{Type: wire.TypeLoginResp, Code: wire.CodeUnavailable, DelayMS: ms,
		Message: "the session cannot be registered now; log in again after delayMs, on this connection or another"})
}

// tryLogin does the login. An error that is not a *wire.Error means that the store was not available.
func (c *conn) tryLogin(ctx context.Context, fr *wire.Frame) error {
	if c.g.draining.Load() {
		return wire.Errorf(wire.CodeDraining, "this gateway is going away; connect again after delayMs")
	}
	identity, err := c.identify(ctx, fr)
	if err != nil {
		return err
	}
	member := c.g.member.Load()
	if member == nil {
		return errNotJoined
	}
	if c.g.loggingIn.Add(1) > maxLogins {
		c.g.loggingIn.Add(-1)
		return errTooManyLogins
	}
	defer c.g.loggingIn.Add(-1)
	return c.register(ctx, *member, identity, fr)
}

// identify finds out whom the token of a login stands for, and completes the frame.
func (c *conn) identify(ctx context.Context, fr *wire.Frame) (auth.Identity, error) {
	fr.DeviceID = cmp.Or(fr.DeviceID, wire.DefaultDevice)
	if err := errors.Join(wire.CheckDeviceID(fr.DeviceID), wire.CheckPlatform(fr.Platform)); err != nil {
		return auth.Identity{}, err
	}
	if err := c.takeLogin(); err != nil {
		return auth.Identity{}, err
	}
	ctx, span := c.g.tracer.Start(ctx, "gateway.authenticate")
	defer span.End()
	identity, err := c.g.cfg.Auth.Authenticate(ctx, auth.Credentials{
		Token: fr.Token, DeviceID: fr.DeviceID, Platform: fr.Platform, Address: c.address()})
	if err == nil && fr.FromID != "" && fr.FromID != identity.User {
		err = wire.Errorf(wire.CodeWrongSender, "fromId is not the user that the token stands for")
	}
	return identity, err
}

var (
	errNotJoined     = errors.New("the gateway has not joined the cluster yet")
	errTooManyLogins = errors.New("too many logins wait for the store")
)

// register registers the session, answers, and closes the connection that the device had before.
func (c *conn) register(ctx context.Context, member membership, identity auth.Identity, fr *wire.Frame) error {
	c.mu.Lock()
	// Clones: the originals are parts of the whole frame, token included, which would live as long as the session.
	c.user, c.device, c.platform = strings.Clone(identity.User), strings.Clone(fr.DeviceID), strings.Clone(fr.Platform)
	c.id = c.g.nextID.Add(1)
	c.token = factsOf(identity)
	c.status = nil
	if s := statusOf(fr); s != nil {
		c.status = &statusFacts{status: *s}
	}
	c.state = stateLogin
	c.shareUserLocked(c.user)
	session := c.sessionLocked()
	session.Addr = c.address()
	c.mu.Unlock()

	// Before it is registered: from then on chats for it may arrive.
	c.g.table.add(c, session.User, session.Conn)
	login, err := member.Register(ctx, session)
	if err != nil {
		c.notRegistered(session)
		return registerError(err)
	}
	if session.Status != nil {
		c.g.statusChanged(session.User, login.Status, store.StatusChange{Set: login.StatusSet, Gateways: login.Gateways})
	}
	c.opened(&login)
	if login.Previous != nil {
		c.g.kick(session.User, login.Previous)
	}
	return nil
}

// registerError is what a client is told of a session that the store does not take. Errors that a retry heals stay as
// they are.
func registerError(err error) error {
	switch {
	case errors.Is(err, store.ErrRevoked):
		return errRevoked
	case errors.Is(err, store.ErrTooManyDevices):
		return wire.Errorf(wire.CodeUserLimit, "the user is connected with as many devices as may be at once")
	}
	return err
}

// notRegistered takes a login back whose registration failed. The store undoes it if it happened all the same.
func (c *conn) notRegistered(session store.Session) {
	c.g.table.remove(session.User, session.Conn)
	c.mu.Lock()
	c.state = stateNew
	c.user, c.device, c.platform, c.mail, c.token, c.status = "", "", "", nil, nil, nil
	c.mu.Unlock()
}

// opened makes a registered session usable: it answers the login, and begins to read the messages that wait for the device.
// If the connection ended meanwhile, so does the session.
func (c *conn) opened(login *store.Login) {
	c.mu.Lock()
	if s := (statusFacts{login.Status, login.StatusSet}); !c.status.isLater(s.set) {
		c.status = s.unlessNone()
	}
	c.mu.Unlock()
	answer := c.g.encode(c.codec, c.welcome())
	c.mu.Lock()
	c.state = stateOpen
	c.since = login.Since
	if c.closing != reasonNone {
		ended := c.endSessionLocked(c.closing)
		c.mu.Unlock()
		if ended != nil {
			ended()
		}
		return
	}
	c.watchTokenLocked()
	c.pushLocked(outFrame, answer)
	c.openMailLocked(login)
	c.writeAndUnlock()
}

// welcome is the answer to a login.
func (c *conn) welcome() *wire.Frame {
	answer := &wire.Frame{
		Type: wire.TypeLoginResp, Code: wire.CodeOK, UserID: c.user, DeviceID: c.device,
		SessionID:        c.g.epoch() + "-" + strconv.FormatUint(c.id, 36),
		HeartbeatSeconds: int64(wire.PingInterval(c.g.cfg.IdleTimeout).Seconds()), Time: time.Now().UnixMilli(),
	}
	if end := c.token.end(); !end.IsZero() {
		answer.ExpiresAt = end.UnixMilli()
	}
	c.mu.Lock()
	if s := c.status; s != nil {
		answer.Status, answer.StatusText = s.status.Show, s.status.Text
	}
	c.mu.Unlock()
	return answer
}

// kick closes the connection that a device had before it logged in here.
func (g *Gateway) kick(user string, holder *store.Holder) {
	if g.isOwn(holder.Epoch) {
		g.kickLocal(user, holder.Conn)
		return
	}
	g.peers.Kick(string(holder.Epoch), user, holder.Conn)
}

// kickLocal closes a connection of this gateway because its device logged in elsewhere, if it is here.
func (g *Gateway) kickLocal(user string, id uint64) {
	if c := g.table.get(user, id); c != nil {
		c.kick(user, id)
	}
}
