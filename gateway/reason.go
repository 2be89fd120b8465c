package gateway

import (
	"github.com/gorilla/websocket"

	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/presence/feed"
)

// closeReason says why a connection ended. It is the label of a metric.
type closeReason uint8

const (
	reasonNone           closeReason = iota
	reasonLogout                     // LOGOUT
	reasonClosedByClient             // the client closed with 1000
	reasonLost                       // the connection broke, or the client closed with another code
	reasonReplaced                   // the device logged in elsewhere
	reasonMoved                      // replaced after it was asked to reconnect elsewhere
	reasonStayed                     // asked to reconnect elsewhere, and did not leave
	reasonIdle                       // nothing was received for the idle timeout
	reasonLoginTimeout               // no login within the login timeout
	reasonNoLogin                    // the first frame was not a login, or was bad
	reasonLoginRefused               // the login was refused for good
	reasonTokenExpired               // the token expired while connected
	reasonFrameTooLarge              // a frame was larger than allowed
	reasonFlood                      // the client went on to send above its rate
	reasonSlowConsumer               // the client read too slowly
	reasonFull                       // the gateway holds as many connections as it may
	reasonAddressLimit               // the address has as many connections as it may
	reasonOrigin                     // a page of an origin that may not connect
	reasonRevoked                    // the session was revoked
	reasonDraining                   // the gateway drains and takes no logins
	reasonStopped                    // the gateway stops
	reasonPanic                      // a fault of the server
	numReasons
)

var reasons = [numReasons]struct {
	label string
	// code is the WebSocket close code, 0 to close without a close frame.
	code int
	// cause is what the feed of presence says of a session that ended so.
	cause feed.Cause
}{
	reasonNone:           {"none", 0, feed.CauseError},
	reasonLogout:         {"logout", websocket.CloseNormalClosure, feed.CauseLogout},
	reasonClosedByClient: {"closed_by_client", websocket.CloseNormalClosure, feed.CauseLogout},
	reasonLost:           {"lost", websocket.CloseNormalClosure, feed.CauseClosed},
	reasonReplaced:       {"replaced", wire.CodeReplaced.CloseCode(), feed.CauseReplaced},
	reasonMoved:          {"moved", wire.CodeDraining.CloseCode(), feed.CauseReplaced},
	reasonStayed:         {"stayed", wire.CodeDraining.CloseCode(), feed.CauseDrained},
	reasonIdle:           {"idle", wire.CodeIdle.CloseCode(), feed.CauseIdle},
	reasonLoginTimeout:   {"login_timeout", wire.CodeLoginRequired.CloseCode(), feed.CauseKicked},
	reasonNoLogin:        {"no_login", wire.CodeLoginRequired.CloseCode(), feed.CauseKicked},
	reasonLoginRefused:   {"login_refused", wire.CodeInvalidToken.CloseCode(), feed.CauseKicked},
	reasonTokenExpired:   {"token_expired", wire.CodeTokenExpired.CloseCode(), feed.CauseRevoked},
	reasonFrameTooLarge:  {"frame_too_large", wire.CodeFrameTooLarge.CloseCode(), feed.CauseKicked},
	reasonFlood:          {"flood", wire.CodeTooManyFrames.CloseCode(), feed.CauseKicked},
	reasonSlowConsumer:   {"slow_consumer", wire.CodeSlowConsumer.CloseCode(), feed.CauseKicked},
	reasonFull:           {"full", wire.CodeTooManyConns.CloseCode(), feed.CauseKicked},
	reasonAddressLimit:   {"address_limit", wire.CodeAddressLimit.CloseCode(), feed.CauseKicked},
	reasonOrigin:         {"origin", 0, feed.CauseKicked},
	reasonRevoked:        {"revoked", wire.CodeRevoked.CloseCode(), feed.CauseRevoked},
	reasonDraining:       {"draining", wire.CodeDraining.CloseCode(), feed.CauseDrained},
	reasonStopped:        {"stopped", websocket.CloseGoingAway, feed.CauseDrained},
	reasonPanic:          {"panic", wire.CodeInternal.CloseCode(), feed.CauseError},
}

func (r closeReason) String() string { return reasons[r].label }
