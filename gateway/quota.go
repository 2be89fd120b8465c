package gateway

import (
	"net/netip"
	"sync"
	"time"

	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/gateway/wheel"
)

// quota is what a connection shares with others. It exists only if something has to be shared or the address of the client
// is not that of the TCP connection: most gateways have no such limits, and a connection must stay cheap.
type quota struct {
	address netip.Addr // of the client

	customer  netip.Addr // what limits for the address go by
	byAddress *share     // nil without such limits
	logins    *share     // nil without a limit of logins

	// Written by the worker that handles the received frames, with conn.mu held.
	user     string
	byUser   *share // nil without such limits, and before the login
	released bool
}

// share is what all connections of a user or an address have together.
type share struct {
	connections int // guarded by shares.mu

	mu     sync.Mutex
	limits limits
}

// shares are those of all users, or of all addresses.
type shares[K comparable] struct {
	wheel *wheel.Wheel
	// Rates for all connections of one key; zero means no limit.
	frames, bytes int

	mu   sync.Mutex
	byID map[K]*share
}

func newShares[K comparable](w *wheel.Wheel, frames, bytes int) *shares[K] {
	return &shares[K]{wheel: w, frames: frames, bytes: bytes, byID: map[K]*share{}}
}

// join counts a connection, and returns how many there are with it.
func (s *shares[K]) join(id K) (*share, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.byID[id]
	if sh == nil {
		sh = &share{limits: newLimits(s.wheel.Now(), rateOf(s.frames), rateOf(s.bytes))}
		s.byID[id] = sh
	}
	sh.connections++
	return sh, sh.connections
}

// leave counts a connection less. What the last one leaves behind is kept until it would be full again: whoever connects
// anew must not get a fresh one.
func (s *shares[K]) leave(id K) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.byID[id]
	if sh.connections--; sh.connections > 0 {
		return
	}
	s.wheel.AfterFunc(limitsRefill, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.byID[id] == sh && sh.connections == 0 {
			delete(s.byID, id)
		}
	})
}

// take judges a frame. Connections that share are never a flood together: one of them would be cut off for what the others
// do. Each has limits of its own against that.
func (s *shares[K]) take(sh *share, now time.Duration, size int) bool {
	if sh == nil {
		return true
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.limits.take(now, size, rateOf(s.frames), rateOf(s.bytes)) == allowed
}

// rateOf is a rate for [limits], which call no limit negative.
func rateOf(n int) int {
	if n == 0 {
		return -1
	}
	return n
}

// shareLimits sets up what connections share, if there is a limit.
func (g *Gateway) shareLimits() {
	cfg := &g.cfg
	if cfg.MaxFramesPerSecondPerUser > 0 || cfg.MaxBytesPerSecondPerUser > 0 {
		g.users = newShares[string](g.wheel, cfg.MaxFramesPerSecondPerUser, cfg.MaxBytesPerSecondPerUser)
	}
	if cfg.MaxConnectionsPerAddress > 0 || cfg.MaxFramesPerSecondPerAddress > 0 || cfg.MaxBytesPerSecondPerAddress > 0 {
		g.addresses = newShares[netip.Addr](g.wheel, cfg.MaxFramesPerSecondPerAddress, cfg.MaxBytesPerSecondPerAddress)
	}
	if cfg.MaxLoginsPerSecondPerAddress > 0 {
		g.logins = newShares[netip.Addr](g.wheel, cfg.MaxLoginsPerSecondPerAddress, 0)
	}
}

// newQuota returns the quota of a connection from the address, nil if it needs none, and how many connections the address has
// with it, if they are counted.
func (g *Gateway) newQuota(address netip.Addr) (q *quota, connections int) {
	if g.addresses == nil && g.users == nil && g.logins == nil && len(g.cfg.TrustedProxies) == 0 {
		return nil, 0
	}
	q = &quota{address: address, customer: customer(address)}
	if g.addresses != nil {
		q.byAddress, connections = g.addresses.join(q.customer)
	}
	if g.logins != nil {
		q.logins, _ = g.logins.join(q.customer)
	}
	return q, connections
}

// release gives back what a connection shared.
func (g *Gateway) release(q *quota) {
	if q == nil {
		return
	}
	q.released = true
	if q.byAddress != nil {
		g.addresses.leave(q.customer)
	}
	if q.logins != nil {
		g.logins.leave(q.customer)
	}
	if q.byUser != nil {
		g.users.leave(q.user)
	}
}

// shareUserLocked makes the connection share the limits of the user who logs in. A login that failed for now may be
// followed by one as somebody else.
func (c *conn) shareUserLocked(user string) {
	q := c.quota
	if q == nil || c.g.users == nil || q.released || q.byUser != nil && q.user == user {
		return
	}
	if q.byUser != nil {
		c.g.users.leave(q.user)
	}
	q.user = user
	q.byUser, _ = c.g.users.join(user)
}

// take judges a frame of the given size by the limits of the connection, of its user and of its address. The error is for
// the client if the frame is refused.
func (c *conn) take(size int) (verdict, error) {
	now := c.g.wheel.Now()
	if v := c.limits.take(now, size, c.g.cfg.MaxFramesPerSecond, c.g.cfg.MaxBytesPerSecond); v != allowed {
		return v, errTooFast
	}
	if c.quota == nil {
		return allowed, nil
	}
	if !c.g.users.take(c.quota.byUser, now, size) {
		return refused, errUserTooFast
	}
	if !c.g.addresses.take(c.quota.byAddress, now, size) {
		return refused, errAddressTooFast
	}
	return allowed, nil
}

// takeLogin judges a login by the limit of the address, before anybody is asked about its token.
func (c *conn) takeLogin() error {
	if c.quota != nil && !c.g.logins.take(c.quota.logins, c.g.wheel.Now(), 0) {
		return errAddressLogins
	}
	return nil
}

// refund gives back what a frame took that the server itself asked for, such as the acknowledgement of a message: how many
// of those come is bounded already. It is for the worker that handles the received frames.
func (c *conn) refund(size int) {
	c.limits.refund(size)
	if c.quota != nil {
		c.quota.byUser.refund(size)
		c.quota.byAddress.refund(size)
	}
}

func (sh *share) refund(size int) {
	if sh == nil {
		return
	}
	sh.mu.Lock()
	sh.limits.refund(size)
	sh.mu.Unlock()
}

var (
	errTooFast        = wire.Errorf(wire.CodeTooManyFrames, "too many frames or bytes a second; slow down")
	errUserTooFast    = wire.Errorf(wire.CodeUserLimit, "too many frames or bytes a second over all connections of the user; slow down")
	errAddressLogins  = wire.Errorf(wire.CodeAddressLimit, "too many logins a second from this address; connect again after delayMs")
	errAddressTooFast = wire.Errorf(wire.CodeAddressLimit, "too many frames or bytes a second from this address; slow down")
)
