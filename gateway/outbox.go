package gateway

import (
	"errors"
	"os"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/imcluster/imcluster/api/wire"
)

const (
	// writeTimeout is how long a client may take to accept what is written at once.
	writeTimeout = 10 * time.Second
	// closeTimeout is how long a client may take to answer a close frame, and a slow one to accept it.
	closeTimeout = 2 * time.Second
	// writeBufferSize is the size of the library's buffers, which are borrowed for the time of a write.
	writeBufferSize = 4096
	// outOverhead is what a queued frame takes besides its data.
	outOverhead = 32
)

type outKind uint8

const (
	outFrame outKind = iota
	outPing
	outPong
	outClose
)

// outbound is a frame to send. Its data is shared between connections and must not be changed.
type outbound struct {
	data []byte
	kind outKind
}

var outbounds = sync.Pool{New: func() any { s := make([]outbound, 0, 8); return &s }}

// send queues a frame.
func (c *conn) send(f *wire.Frame) { c.enqueue(outFrame, c.g.encode(c.codec, f)) }

// enqueue queues data, and disconnects the client if too much waits for it already. It never blocks.
func (c *conn) enqueue(kind outKind, data []byte) {
	c.mu.Lock()
	if c.closing != reasonNone {
		c.mu.Unlock()
		return
	}
	if c.outBytes+len(data)+outOverhead > c.g.cfg.MaxQueuedBytes {
		c.mu.Unlock()
		c.close(reasonSlowConsumer)
		return
	}
	c.pushLocked(kind, data)
	start := c.claimWriterLocked()
	c.mu.Unlock()
	if start {
		c.g.workers.run(task{conn: c, write: true})
	}
}

func (c *conn) pushLocked(kind outKind, data []byte) {
	if c.out == nil {
		c.out = outbounds.Get().(*[]outbound)
	}
	*c.out = append(*c.out, outbound{data, kind})
	c.outBytes += len(data) + outOverhead
	c.g.metrics.queuedBytes.Add(int64(len(data) + outOverhead))
}

// claimWriterLocked makes the caller the writer, who must flush. It returns false if there is one.
func (c *conn) claimWriterLocked() bool {
	if c.writing {
		return false
	}
	c.writing = true
	return true
}

// dropQueueLocked drops what is not being written yet.
func (c *conn) dropQueueLocked() {
	if c.out == nil {
		return
	}
	c.releaseLocked(c.out)
	c.out = nil
}

// releaseLocked gives a batch back to the pool.
func (c *conn) releaseLocked(batch *[]outbound) {
	n := 0
	for i := range *batch {
		n += len((*batch)[i].data) + outOverhead
	}
	c.outBytes -= n
	c.g.metrics.queuedBytes.Add(int64(-n))
	clear(*batch)
	if cap(*batch) <= 64 {
		*batch = (*batch)[:0]
		outbounds.Put(batch)
	}
}

// flush writes what is queued until the queue is empty. The caller is the writer. What others queue while it writes goes
// out with the next write, all in one system call.
func (c *conn) flush() {
	c.mu.Lock()
	for {
		if c.broken {
			c.dropQueueLocked()
		}
		batch := c.out
		if batch == nil {
			c.writing = false
			c.mu.Unlock()
			return
		}
		c.out = nil
		c.mu.Unlock()

		last, err := c.write(*batch)
		if err != nil {
			c.writeFailed(err)
		}
		c.mu.Lock()
		c.releaseLocked(batch)
		if last || err != nil {
			c.broken = true
			c.endWritingLocked(err)
		}
	}
}

// write writes a batch. last tells that it held the close frame.
func (c *conn) write(batch []outbound) (last bool, err error) {
	c.sock.Cork()
	for i := range batch {
		switch b := &batch[i]; b.kind {
		case outFrame:
			err = c.writeFrame(b.data)
		case outPing:
			err = c.ws.WritePreparedMessage(c.g.ping)
		case outPong:
			err = c.ws.WriteControl(websocket.PongMessage, b.data, time.Time{})
		case outClose:
			last = true
			err = c.ws.WriteControl(websocket.CloseMessage, b.data, time.Time{})
		}
		if err != nil {
			break
		}
	}
	if flushErr := c.sock.Uncork(time.Now().Add(writeTimeout)); err == nil {
		err = flushErr
	}
	if errors.Is(err, websocket.ErrCloseSent) {
		return true, nil // the library closed because of a protocol error
	}
	return last, err
}

// writeFrame writes a frame. One that is larger than the library's buffer goes by a vectored write, which is not
// corked.
func (c *conn) writeFrame(data []byte) error {
	if len(data) > writeBufferSize {
		if err := c.sock.Flush(time.Now().Add(writeTimeout)); err != nil {
			return err
		}
	}
	kind := websocket.TextMessage
	if c.codec.Binary() {
		kind = websocket.BinaryMessage
	}
	return c.ws.WriteMessage(kind, data)
}

// writeFailed ends a connection that cannot be written to.
func (c *conn) writeFailed(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.close(reasonSlowConsumer)
		return
	}
	c.close(reasonLost)
}

// endWritingLocked closes the socket, or gives the client the time to answer the close frame: closing at once with
// received data unread would reset the connection, and the client might never read why.
func (c *conn) endWritingLocked(err error) {
	if err != nil || c.sawEnd {
		c.sock.Close()
		return
	}
	_ = c.sock.SetReadDeadline(time.Now().Add(closeTimeout)) // an error means that it is closed
	_ = c.sock.CloseWrite()
}
