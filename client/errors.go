package client

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/gorilla/websocket"

	"github.com/imcluster/imcluster/api/wire"
)

// Reasons for the end of a client or of a connection; see [Client.Err] and [StateChange].
var (
	// ErrClosed says that this program closed the client.
	ErrClosed = errors.New("the client is closed")
	// ErrKicked says that the device logged in elsewhere. It ends the client: the two would kick each other for ever.
	ErrKicked = errors.New("the device logged in elsewhere")
	// ErrSignedOut is for a [TokenSource] to return: there are no tokens for this user any more. It ends the client.
	ErrSignedOut = errors.New("signed out")
	// ErrIdle says that the server heard nothing from this client for too long.
	ErrIdle = errors.New("the server heard nothing for too long")
	// ErrSilent says that nothing came from the server for too long.
	ErrSilent = errors.New("the server is silent")
)

// What became of a message or another request that was not answered. They are wrapped together with the reason.
var (
	// ErrNotSent says that it never left this program.
	ErrNotSent = errors.New("not sent")
	// ErrUnknownOutcome says that it was sent and not answered: it may have been done, or be done yet.
	ErrUnknownOutcome = errors.New("not answered")
	// ErrQueueFull says that too much waits to be sent already, so it was not taken.
	ErrQueueFull = errors.New("too much waits to be sent")
)

// ErrOverrun says that messages were not taken because 10,000 wait for OnMessage. The server sends them again.
var ErrOverrun = errors.New("too many messages wait for OnMessage")

// Error is a refusal by the server.
type Error struct {
	Code    wire.Code
	Message string
	// Delay is how long to wait before trying again, if the server said so.
	Delay time.Duration
}

func (e *Error) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("refused with code %d", e.Code)
	}
	return fmt.Sprintf("refused with code %d: %s", e.Code, e.Message)
}

// Retryable tells whether the same may succeed later.
func (e *Error) Retryable() bool {
	return e.Code.Retryable() && e.Code != wire.CodeFrameTooLarge && e.Code != wire.CodeTooMuch
}

// MessageError is an error that OnMessage returned, or Dedupe.
type MessageError struct {
	Message Message
	Err     error
}

func (e *MessageError) Error() string {
	return fmt.Sprintf("handle message %s: %v", e.Message.ID, e.Err)
}

func (e *MessageError) Unwrap() error { return e.Err }

// MoveError says that the server is going away and asked the client to connect again after Delay.
type MoveError struct{ Delay time.Duration }

func (e *MoveError) Error() string {
	return fmt.Sprintf("the server is going away; connect again in %s", e.Delay)
}

// closeReason turns the error of a read into the reason that the server gave, if it gave one.
func closeReason(err error) error {
	var closed *websocket.CloseError
	var network net.Error
	switch {
	case errors.As(err, &closed) && closed.Code == wire.CodeReplaced.CloseCode():
		return ErrKicked
	case errors.As(err, &closed) && closed.Code == wire.CodeIdle.CloseCode():
		return ErrIdle
	case errors.As(err, &closed) && closed.Code > wire.Code(0).CloseCode():
		return &Error{Code: wire.Code(closed.Code - wire.Code(0).CloseCode()), Message: closed.Text}
	case errors.As(err, &network) && network.Timeout():
		return ErrSilent
	}
	return err
}

// codeOf returns the code of a refusal, or 0.
func codeOf(err error) wire.Code {
	if refused, ok := errors.AsType[*Error](err); ok {
		return refused.Code
	}
	return 0
}

// delayOf returns how long the server asked to wait.
func delayOf(err error) time.Duration {
	var refused *Error
	var move *MoveError
	switch {
	case errors.As(err, &refused):
		return refused.Delay
	case errors.As(err, &move):
		return move.Delay
	}
	return 0
}

// badToken tells whether the server refused the token, and another one may be good.
func badToken(err error) bool {
	code := codeOf(err)
	return code == wire.CodeInvalidToken || code == wire.CodeTokenExpired
}

// finalEnd tells whether the reason for the end of a connection makes it useless, or harmful, to connect again.
func finalEnd(err error) bool {
	code := codeOf(err)
	return errors.Is(err, ErrKicked) || errors.Is(err, errLoggedOut) || code >= 300 && code < 400 && code != wire.CodeTokenExpired
}

// finalLogin tells the same of a refused login: there the client's mistakes count too, as it would repeat them.
func finalLogin(err error) bool {
	code := codeOf(err)
	return errors.Is(err, ErrKicked) || errors.Is(err, ErrSignedOut) || code >= 300 && code < 500 && code != wire.CodeIdle
}
