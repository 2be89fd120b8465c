package gateway

import (
	"errors"
	"io"
	"sync"

	"github.com/gorilla/websocket"
)

const (
	// maxReceived is how many frames may wait to be handled; then the client has to wait.
	maxReceived = 64
	// framesPerReader is how many frames one goroutine reads before a fresh one takes over.
	framesPerReader = 64
	// maxLoginBytes is the size of the first frame if it has to be a login, as much as the headers of a handshake may
	// have. Whoever connects can make the gateway keep so much until the login timeout.
	maxLoginBytes = 8 << 10
	// keptBuffer is the capacity up to which a read buffer is used again.
	keptBuffer = 8 << 10
)

// inbound is a received frame.
type inbound struct {
	data   *[]byte // of the pool
	binary bool
	ping   bool // a WebSocket ping; data is what it carries
	limit  int  // if not zero, the frame is larger than that, and data is what was read of it
}

var readBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 512); return &b }}

func releaseBuffer(b *[]byte) {
	if cap(*b) <= keptBuffer {
		*b = (*b)[:0]
		readBuffers.Put(b)
	}
}

// readLoop reads frames until the connection ends, or another goroutine takes over. Its stack must stay at 2 KB, so it
// calls nothing deep, and has next to nothing on its own frame: it waits in the library 1,048 bytes deep, and from 1,120 on
// Go starts all goroutines with 4 KB (the average of the stacks in use and a guard of 928 bytes, rounded up to a power of
// 2).
func (c *conn) readLoop() {
	for c.readFrom(c.ws.NextReader()) {
	}
}

// readFrom reads a frame and queues it. It returns false if the connection ended, or another goroutine reads on: a stack
// that has grown stays so for the life of its goroutine, and now and then an allocation of the library grows it, because it
// has to sweep for the garbage collector. So the first frame and each 64 later ones have a goroutine of their own.
//
// After the server closed it reads on, without handling anything, until the client closes too.
func (c *conn) readFrom(kind int, r io.Reader, err error) bool {
	if err != nil {
		c.readFailed(err)
		return false
	}
	c.hear()
	buf := readBuffers.Get().(*[]byte)
	large, err := c.readFrame(r, buf)
	if err != nil {
		releaseBuffer(buf)
		c.readFailed(err)
		return false
	}
	in := inbound{data: buf, binary: kind == websocket.BinaryMessage}
	if large {
		in.limit = c.maxFrame
	}
	c.received(in)
	c.maxFrame = c.g.cfg.MaxFrameBytes
	if c.reads++; c.reads%framesPerReader != 1 {
		return true
	}
	go c.readLoop() // joined by g.readers
	return false
}

// readFrame appends a frame to *buf, up to one byte more than is allowed. large tells that there is more.
func (c *conn) readFrame(r io.Reader, buf *[]byte) (large bool, err error) {
	b, limit := *buf, c.maxFrame
	for {
		if len(b) == cap(b) {
			if len(b) > limit {
				*buf = b
				return true, nil
			}
			b = append(b, 0)[:len(b)]
		}
		n, err := r.Read(b[len(b):min(cap(b), limit+1)])
		b = b[:len(b)+n]
		if err == io.EOF {
			*buf = b
			return len(b) > limit, nil
		}
		if err != nil {
			*buf = b
			return false, err
		}
		if len(b) > limit {
			*buf = b
			return true, nil
		}
		c.hear() // a large frame over a slow line is a sign of life
	}
}

// received queues a frame for a worker, and waits while too much is queued already.
func (c *conn) received(in inbound) {
	c.mu.Lock()
	for c.closing == reasonNone && (len(c.in) >= maxReceived || c.inBytes > 2*c.g.cfg.MaxFrameBytes) {
		c.readable.Wait()
	}
	if c.closing != reasonNone {
		c.mu.Unlock()
		releaseBuffer(in.data)
		return
	}
	c.in = append(c.in, in)
	c.inBytes += len(*in.data)
	start := !c.working
	c.working = true
	c.mu.Unlock()
	if start {
		c.g.workers.run(task{conn: c})
	}
}

// readFailed ends a connection that cannot be read any more, or whose client closed it.
func (c *conn) readFailed(err error) {
	reason, code := reasonLost, websocket.CloseNormalClosure
	var closed *websocket.CloseError
	if errors.As(err, &closed) {
		switch closed.Code {
		case websocket.CloseNormalClosure:
			reason = reasonClosedByClient
		case websocket.CloseNoStatusReceived, websocket.CloseAbnormalClosure:
		default:
			code = closed.Code // the answer repeats it, RFC 6455 §5.5.1
		}
	}
	c.closeWith(reason, code)
	c.mu.Lock()
	c.sawEnd = true
	if closed == nil || c.broken {
		c.broken = true
		c.sock.Close()
	}
	c.mu.Unlock()
	c.g.ended(c)
}

// hear records that something was received. It is not done where the socket is read, which would cost a stack frame.
func (c *conn) hear() { c.heard.Store(int64(c.g.wheel.Now())) }

// gotPing queues a WebSocket ping, so that pings are limited as frames are. It runs on the reading goroutine.
func (c *conn) gotPing(data string) error {
	c.hear()
	buf := readBuffers.Get().(*[]byte)
	*buf = append(*buf, data...)
	c.received(inbound{data: buf, ping: true})
	return nil
}

// gotPong runs on the reading goroutine.
func (c *conn) gotPong(string) error {
	c.hear()
	return nil
}

// ignoreClose keeps the library from answering a close frame: readFailed does.
func ignoreClose(int, string) error { return nil }
