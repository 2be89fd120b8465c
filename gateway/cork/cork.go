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

var buffers = sync.Pool{New: func() any { return newBuffer() }}

// buffer holds what is written while corked.
type buffer struct {
	b   []byte
	err error // of the last attempt
	// attempt writes what the socket takes at once. It is kept, since it would be allocated for every write.
	attempt func(fd uintptr) (done bool)
}

func newBuffer() *buffer {
	buf := &buffer{b: make([]byte, 0, 4<<10)}
	buf.attempt = func(fd uintptr) bool {
		var n int
		n, buf.err = writeNow(fd, buf.b)
		buf.b = buf.b[:copy(buf.b, buf.b[n:])]
		return true
	}
	return buf
}

// Conn is a connection that can be corked. It embeds the concrete type and leaves Read to it: one more frame on the stack
// of a goroutine that waits to read would push it from 2 to 4 KB.
//
// A vectored write ([net.Buffers]) passes the cork by, without a copy: Flush before it, or the order is lost.
type Conn struct {
	*net.TCPConn

	timed atomic.Bool // the socket has a deadline for writes

	mu     sync.Mutex // held while writing
	corked bool
	buf    *buffer // of the pool; nil while empty
}

// Cork makes writes wait for Uncork, or for 64 KiB.
func (c *Conn) Cork() {
	c.mu.Lock()
	c.corked = true
	c.mu.Unlock()
}

// Uncork writes what was written since Cork. What the socket does not take at once may take so long.
func (c *Conn) Uncork(timeout time.Duration) error {
	done, err := c.TryUncork()
	if done || err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.buf == nil {
		return nil
	}
	if err := c.limitLocked(timeout); err != nil {
		return err
	}
	return c.flushLocked()
}

// TryUncork writes of what was written since Cork what the socket takes at once, and never waits. done tells that nothing
// is left, which is then for Uncork.
//
// A deadline, which costs 0.3 µs, is not needed for that.
func (c *Conn) TryUncork() (done bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.corked = false
	if c.buf == nil {
		return true, nil
	}
	if c.timed.Swap(false) { // it may have passed
		if err := c.TCPConn.SetWriteDeadline(time.Time{}); err != nil {
			return false, err
		}
	}
	raw, err := c.SyscallConn()
	if err == nil {
		err = raw.Write(c.buf.attempt)
	}
	if err == nil {
		err = c.buf.err
	}
	if err == nil && len(c.buf.b) > 0 {
		return false, nil
	}
	c.releaseLocked()
	return err == nil, err
}

// Flush writes what was written since Cork, and leaves the connection corked. This write and those after it may take so
// long.
func (c *Conn) Flush(timeout time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.limitLocked(timeout); err != nil || c.buf == nil {
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
	if c.buf != nil && len(c.buf.b)+len(p) > maxBuffered {
		if err := c.flushLocked(); err != nil {
			return 0, err
		}
	}
	if len(p) > maxBuffered {
		return c.TCPConn.Write(p)
	}
	if c.buf == nil {
		c.buf = buffers.Get().(*buffer)
	}
	c.buf.b = append(c.buf.b, p...)
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
	c.timed.Store(!t.IsZero())
	return c.TCPConn.SetWriteDeadline(t)
}

// Hurry gives a write that is under way at most d more. Unlike SetWriteDeadline it does not wait for that write.
func (c *Conn) Hurry(d time.Duration) {
	c.timed.Store(true)
	_ = c.TCPConn.SetWriteDeadline(time.Now().Add(d)) // an error means that the connection is closed
}

// limitLocked gives the writes to come so long. c.mu must be held.
func (c *Conn) limitLocked(d time.Duration) error {
	c.timed.Store(true)
	return c.TCPConn.SetWriteDeadline(time.Now().Add(d))
}

// flushLocked writes the buffer and gives it back. c.mu must be held.
func (c *Conn) flushLocked() error {
	_, err := c.TCPConn.Write(c.buf.b)
	c.releaseLocked()
	return err
}

// releaseLocked gives the buffer back.
func (c *Conn) releaseLocked() {
	buf := c.buf
	c.buf = nil
	if cap(buf.b) <= maxBuffered {
		buf.b = buf.b[:0]
		buffers.Put(buf)
	}
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
