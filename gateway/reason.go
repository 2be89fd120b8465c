package gateway

import (
	"github.com/gorilla/websocket"

	"github.com/imcluster/imcluster/api/wire"
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
}{
	reasonNone:           {"none", 0},
	reasonLogout:         {"logout", websocket.CloseNormalClosure},
	reasonClosedByClient: {"closed_by_client", websocket.CloseNormalClosure},
	reasonLost:           {"lost", websocket.CloseNormalClosure},
	reasonReplaced:       {"replaced", wire.CodeReplaced.CloseCode()},
	reasonMoved:          {"moved", wire.CodeDraining.CloseCode()},
	reasonStayed:         {"stayed", wire.CodeDraining.CloseCode()},
	reasonIdle:           {"idle", wire.CodeIdle.CloseCode()},
	reasonLoginTimeout:   {"login_timeout", wire.CodeLoginRequired.CloseCode()},
	reasonNoLogin:        {"no_login", wire.CodeLoginRequired.CloseCode()},
	reasonLoginRefused:   {"login_refused", wire.CodeInvalidToken.CloseCode()},
	reasonTokenExpired:   {"token_expired", wire.CodeTokenExpired.CloseCode()},
	reasonFrameTooLarge:  {"frame_too_large", wire.CodeFrameTooLarge.CloseCode()},
	reasonFlood:          {"flood", wire.CodeTooManyFrames.CloseCode()},
	reasonSlowConsumer:   {"slow_consumer", wire.CodeSlowConsumer.CloseCode()},
	reasonFull:           {"full", wire.CodeTooManyConns.CloseCode()},
	reasonAddressLimit:   {"address_limit", wire.CodeAddressLimit.CloseCode()},
	reasonOrigin:         {"origin", 0},
	reasonRevoked:        {"revoked", wire.CodeRevoked.CloseCode()},
	reasonDraining:       {"draining", wire.CodeDraining.CloseCode()},
	reasonStopped:        {"stopped", websocket.CloseGoingAway},
	reasonPanic:          {"panic", wire.CodeInternal.CloseCode()},
}

func (r closeReason) String() string { return reasons[r].label }
