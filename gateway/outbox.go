package gateway

import (
	"cmp"
	"errors"
	"math"
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
	// maxQuick is how much may be queued for a writer to write it. A larger frame goes by a vectored write, which may wait.
	maxQuick = writeBufferSize
	// writesPerTurn is how often a writer writes to one client while others wait.
	writesPerTurn = 4
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
		c.g.writers.add(c)
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
	for {
		batch, _ := c.nextBatch(math.MaxInt)
		if batch == nil {
			return
		}
		last, err := c.cork(*batch)
		c.uncork(batch, last, err)
	}
}

// flushQuick is flush for a writer, who must not wait. What the socket does not take at once is left to a worker, as is what
// is large. A client to whom more and more is queued waits for its next turn.
func (c *conn) flushQuick() {
	for range writesPerTurn {
		batch, large := c.nextBatch(maxQuick)
		if large {
			c.g.workers.run(task{conn: c, write: true})
			return
		}
		if batch == nil {
			return
		}
		last, err := c.cork(*batch)
		done, failed := c.sock.TryUncork()
		if !done && failed == nil && err == nil {
			c.g.workers.run(task{conn: c, write: true, corked: batch, last: last})
			return
		}
		c.written(batch, last, cmp.Or(err, failed))
	}
	c.g.writers.add(c)
}

// uncork writes what is corked, a batch; err is why some of it is not.
func (c *conn) uncork(batch *[]outbound, last bool, err error) {
	failed := c.sock.Uncork(writeTimeout)
	c.written(batch, last, cmp.Or(err, failed))
}

// nextBatch takes what is queued, nil if that is nothing: then the caller is the writer no more. If it is large, which means
// more than so many bytes, it stays.
func (c *conn) nextBatch(most int) (batch *[]outbound, large bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken {
		c.dropQueueLocked()
	} else if c.watching != nil {
		c.tellDueLocked()
	}
	if c.out != nil && c.outBytes-outOverhead*len(*c.out) > most {
		return nil, true
	}
	batch, c.out = c.out, nil
	c.writing = batch != nil
	return batch, false
}

// written gives back a batch that was written, or failed to be. last tells that it held the close frame.
func (c *conn) written(batch *[]outbound, last bool, err error) {
	if err != nil {
		c.writeFailed(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.releaseLocked(batch)
	if last || err != nil {
		c.broken = true
		c.endWritingLocked(err)
	}
}

// cork encodes a batch into the cork. last tells that it held the close frame.
func (c *conn) cork(batch []outbound) (last bool, err error) {
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
		if errors.Is(err, websocket.ErrCloseSent) {
			return true, nil // the library closed because of a protocol error
		}
		if err != nil {
			break
		}
	}
	return last, err
}

// writeFrame writes a frame. One that is larger than the library's buffer goes by a vectored write, which is not
// corked.
func (c *conn) writeFrame(data []byte) error {
	if len(data) > writeBufferSize {
		if err := c.sock.Flush(writeTimeout); err != nil {
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
