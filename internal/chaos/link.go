package chaos

import (
	"net"
	"sync"
)

// link is a TCP connection that can be held in either direction, as by a network that drops all packets: both ends
// believe that it is open, and what was held passes later.
type link struct {
	*net.TCPConn

	mu      sync.Mutex
	changed *sync.Cond
	in, out bool // held; guarded by mu
	closed  bool // guarded by mu
}

func newLink(c *net.TCPConn) *link {
	l := &link{TCPConn: c}
	l.changed = sync.NewCond(&l.mu)
	return l
}

// hold stops or releases what is read and what is written.
func (l *link) hold(in, out bool) {
	l.mu.Lock()
	l.in, l.out = in, out
	l.mu.Unlock()
	l.changed.Broadcast()
}

func (l *link) await(held *bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for *held && !l.closed {
		l.changed.Wait()
	}
	if l.closed {
		return net.ErrClosed
	}
	return nil
}

// Read returns what was read before the hold only when it is over: nobody has seen it yet.
func (l *link) Read(p []byte) (int, error) {
	n, err := l.TCPConn.Read(p)
	if held := l.await(&l.in); held != nil {
		return 0, held
	}
	return n, err
}

func (l *link) Write(p []byte) (int, error) {
	if err := l.await(&l.out); err != nil {
		return 0, err
	}
	return l.TCPConn.Write(p)
}

// Close resets the connection: what is under way in either direction is lost.
func (l *link) Close() error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.changed.Broadcast()
	_ = l.SetLinger(0)
	return l.TCPConn.Close()
}
