package client

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/gorilla/websocket"

	"github.com/imcluster/imcluster/api/wire"
)

// Reasons for the end of a connection; see [Conn.Err].
var (
	// ErrClosed says that this program closed the connection.
	ErrClosed = errors.New("the connection is closed")
	// ErrKicked says that the device logged in elsewhere. Do not connect again by yourself: the two would kick each
	// other for ever.
	ErrKicked = errors.New("the device logged in elsewhere")
	// ErrIdle says that the server heard nothing from this client for too long.
	ErrIdle = errors.New("the server heard nothing for too long")
	// ErrOverrun says that OnMessage was slower than messages came.
	ErrOverrun = errors.New("too many messages wait for OnMessage")
)

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
func (e *Error) Retryable() bool { return e.Code.Retryable() }

// ReconnectError says that the server is going away and asked the client to connect again after Delay. It does not come
// to the same gateway again.
type ReconnectError struct{ Delay time.Duration }

func (e *ReconnectError) Error() string {
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
		return fmt.Errorf("the server is silent: %w", err)
	}
	return err
}
