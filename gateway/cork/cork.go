// Package cork wraps network connections so that several writes leave in one system call.
//
// A WebSocket library writes each frame by itself. 16 frames of 256 bytes cost 69 µs that way and 7 µs corked, because
// the system call is the cost and framing is noise.
package cork

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// maxBuffered is how many bytes a corked connection keeps before it writes them.
const maxBuffered = 64 << 10

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// Clock tells the time in a unit and with a zero of its own. It is asked at every read.
type Clock interface{ Now() time.Duration }

// Conn is a connection that can be corked, and that remembers when something was received.
type Conn struct {
	net.Conn
	clock    Clock
	received atomic.Int64 // time of clock

	mu     sync.Mutex // held while writing
	corked bool
	buf    *[]byte // of the pool; nil while empty
}

// Received is the clock's time at which bytes were last received, zero before that.
func (c *Conn) Received() time.Duration { return time.Duration(c.received.Load()) }

// Read reads from the connection.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.received.Store(int64(c.clock.Now()))
	}
	return n, err
}

// Cork makes writes wait for Uncork, or for 64 KiB.
func (c *Conn) Cork() {
	c.mu.Lock()
	c.corked = true
	c.mu.Unlock()
}

// Uncork writes what was written since Cork. The deadline, if not zero, is for this write and those after it.
func (c *Conn) Uncork(deadline time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.corked = false
	if c.buf == nil {
		return nil
	}
	if err := c.Conn.SetWriteDeadline(deadline); err != nil {
		return err
	}
	return c.flushLocked()
}

// Write writes to the connection, or to the cork's buffer.
func (c *Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.corked {
		return c.Conn.Write(p)
	}
	if c.buf != nil && len(*c.buf)+len(p) > maxBuffered {
		if err := c.flushLocked(); err != nil {
			return 0, err
		}
	}
	if len(p) > maxBuffered {
		return c.Conn.Write(p)
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
	return c.Conn.SetWriteDeadline(t)
}

// Hurry gives a write that is under way at most d more. Unlike SetWriteDeadline it does not wait for that write.
func (c *Conn) Hurry(d time.Duration) {
	_ = c.Conn.SetWriteDeadline(time.Now().Add(d)) // an error means that the connection is closed
}

// CloseWrite tells the peer that nothing more comes; what it sends can still be read. Connections that cannot do that
// are closed.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}

// flushLocked writes the buffer and gives it back. c.mu must be held.
func (c *Conn) flushLocked() error {
	b := c.buf
	c.buf = nil
	_, err := c.Conn.Write(*b)
	if cap(*b) <= maxBuffered {
		*b = (*b)[:0]
		buffers.Put(b)
	}
	return err
}

// Listener wraps the connections that it accepts.
type Listener struct {
	net.Listener
	Clock Clock
}

// Accept waits for a connection and returns it as a *Conn.
func (l *Listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &Conn{Conn: conn, clock: l.Clock}, nil
}
