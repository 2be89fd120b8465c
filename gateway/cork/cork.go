// Package cork wraps network connections so that several writes leave in one system call.
//
// A WebSocket library writes each frame by itself. 16 frames of 256 bytes cost 69 µs that way and 7 µs corked, because
// the system call is the cost and framing is noise.
package cork

import (
	"net"
	"sync"
	"time"
)

// maxBuffered is how many bytes a corked connection keeps before it writes them.
const maxBuffered = 64 << 10

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// Conn is a connection that can be corked. It embeds the concrete type and leaves Read to it: one more frame on the stack
// of a goroutine that waits to read would push it from 2 to 4 KB.
//
// A vectored write ([net.Buffers]) passes the cork by, without a copy: Flush before it, or the order is lost.
type Conn struct {
	*net.TCPConn

	mu     sync.Mutex // held while writing
	corked bool
	buf    *[]byte // of the pool; nil while empty
}

// Cork makes writes wait for Uncork, or for 64 KiB.
func (c *Conn) Cork() {
	c.mu.Lock()
	c.corked = true
	c.mu.Unlock()
}

// Uncork writes what was written since Cork. The deadline is for this write and those after it.
func (c *Conn) Uncork(deadline time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.corked = false
	if c.buf == nil {
		return nil
	}
	if err := c.TCPConn.SetWriteDeadline(deadline); err != nil {
		return err
	}
	return c.flushLocked()
}

// Flush writes what was written since Cork, and leaves the connection corked. The deadline is for this write and those
// after it.
func (c *Conn) Flush(deadline time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.TCPConn.SetWriteDeadline(deadline); err != nil || c.buf == nil {
		return err
	}
	return c.flushLocked()
}

// Write writes to the connection, or to the cork's buffer.
func (c *Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.corked {
		return c.TCPConn.Write(p)
	}
	if c.buf != nil && len(*c.buf)+len(p) > maxBuffered {
		if err := c.flushLocked(); err != nil {
			return 0, err
		}
	}
	if len(p) > maxBuffered {
		return c.TCPConn.Write(p)
	}
	if c.buf == nil {
		c.buf = buffers.Get().(*[]byte)
	}
	*c.buf = append(*c.buf, p...)
	return len(p), nil
}

// SetWriteDeadline does nothing while corked: the library sets one for every frame, and each costs a microsecond.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	corked := c.corked
	c.mu.Unlock()
	if corked {
		return nil
	}
	return c.TCPConn.SetWriteDeadline(t)
}

// Hurry gives a write that is under way at most d more. Unlike SetWriteDeadline it does not wait for that write.
func (c *Conn) Hurry(d time.Duration) {
	_ = c.TCPConn.SetWriteDeadline(time.Now().Add(d)) // an error means that the connection is closed
}

// flushLocked writes the buffer and gives it back. c.mu must be held.
func (c *Conn) flushLocked() error {
	b := c.buf
	c.buf = nil
	_, err := c.TCPConn.Write(*b)
	if cap(*b) <= maxBuffered {
		*b = (*b)[:0]
		buffers.Put(b)
	}
	return err
}

// Listener wraps the connections that a TCP listener accepts.
type Listener struct{ *net.TCPListener }

// Accept waits for a connection and returns it as a *Conn.
func (l Listener) Accept() (net.Conn, error) {
	conn, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	return &Conn{TCPConn: conn}, nil
}
