package wire

import "time"

// Code is the result that a frame reports. The hundreds say what to do: 2xx ok; 3xx log in differently or not at all;
// 4xx the client has a bug and must not repeat the frame as it is; 5xx try again after delayMs; 6xx a limit was
// exceeded, slow down.
//
// A connection that the server closes because of a code is closed with WebSocket close code 4000 + code. The standard
// close codes that are used are 1000 (after LOGOUT) and 1001 (the gateway stopped; connect again at once).
type Code uint16

// Result codes.
const (
	CodeOK       Code = 200 // done; of a message: stored
	CodeAccepted Code = 201 // accepted, not stored: delivered to whoever is connected now

	CodeLoginRequired Code = 300 // the first frame must be a login, within the login timeout
	CodeInvalidToken  Code = 301 // the token was refused; get another one
	CodeTokenExpired  Code = 302 // the token was good once; get a fresh one
	CodeWrongSender   Code = 303 // fromId is not the user who logged in
	CodeReplaced      Code = 304 // the device logged in elsewhere; do not reconnect
	CodeRevoked       Code = 305 // the session or its token was revoked; reconnect with a new token only
	CodeForbidden     Code = 306 // this user may not do that

	CodeMalformed   Code = 400 // not one JSON object in UTF-8, or not a protobuf message
	CodeBadField    Code = 402 // a field is missing, or its type or value is wrong; the message names it
	CodeUnknownType Code = 404 // the type is not known here; a newer server may know it
	CodeNotAllowed  Code = 405 // the type is known, but clients do not send it, or not now
	CodeBadMessage  Code = 406 // a binary message where JSON was agreed on, or a text message where protobuf was
	CodeIdle        Code = 408 // nothing was received for the idle timeout
	CodeConflict    Code = 409 // what is to be created exists
	CodeNotFound    Code = 410 // there is no such group

	CodeUnavailable Code = 500 // the store cannot be asked now; try again after delayMs
	CodeStoreFull   Code = 501 // the store's memory is nearly full, and takes no messages; try again after delayMs
	CodeDraining    Code = 502 // this gateway is going away; connect again after delayMs
	CodeInternal    Code = 503 // a fault of the server; try again after delayMs

	CodeFrameTooLarge Code = 600 // the frame exceeds the size limit
	CodeTooManyFrames Code = 601 // the client sends faster than its limit
	CodeTooManyConns  Code = 602 // the gateway is full; connect again after delayMs
	CodeSlowConsumer  Code = 603 // the client reads slower than it is sent to; reconnect
	CodeMailboxFull   Code = 604 // the recipient's mailbox is full, to a large part of this sender's messages
	CodeUserLimit     Code = 605 // the user has too many connections, or sends too fast over all of them
	CodeAddressLimit  Code = 606 // the address has too many connections, or sends too fast over all of them
	CodeTooMuch       Code = 607 // more users, or bytes times users, than one request may have
)

// CloseCode returns the WebSocket close code of a connection that is closed because of c.
func (c Code) CloseCode() int { return closeBase + int(c) }

const closeBase = 4000

// Retryable tells whether the same frame may succeed later.
func (c Code) Retryable() bool { return c >= 500 && c < 700 }

// OK tells whether c reports success.
func (c Code) OK() bool { return c >= 200 && c < 300 }

// PingInterval is how often clients are asked to ping when the server's idle timeout is idle: a third of it, so that
// two lost pings are survived; 10 s for the default of 30 s.
func PingInterval(idle time.Duration) time.Duration { return max(idle/3, time.Second) }
