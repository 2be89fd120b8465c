// Package client talks to an IMCluster from Go: chat over a WebSocket with [Dial], and presence over HTTP with [Presence].
//
// A [Conn] is one login of one device on one connection. It pings by itself, acknowledges messages once they are handled,
// and says with [Conn.Err] why it ended; connecting again is up to the caller. All methods may be called by many
// goroutines at once, and all that wait end with their context.
package client
