package presencechaos

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// balancer leads connections to the presence pods in turn, as a Service does, to the gRPC port.
type balancer struct {
	addr string

	listener net.Listener
	pods     []*pod
	next     atomic.Uint32
	tasks    sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{} // nil: closed; guarded by mu
}

// newBalancer starts one that ends with the test.
func newBalancer(tb testing.TB, pods []*pod) *balancer {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	b := &balancer{addr: l.Addr().String(), listener: l, pods: pods, conns: map[net.Conn]struct{}{}}
	b.tasks.Go(b.accept)
	tb.Cleanup(b.close)
	return b
}

func (b *balancer) close() {
	_ = b.listener.Close()
	b.mu.Lock()
	for c := range b.conns {
		_ = c.Close()
	}
	b.conns = nil
	b.mu.Unlock()
	b.tasks.Wait()
}

func (b *balancer) accept() {
	for {
		c, err := b.listener.Accept()
		if err != nil {
			return
		}
		b.tasks.Go(func() { b.lead(c) })
	}
}

// keep remembers a connection, to close it. It closes it at once if that is due.
func (b *balancer) keep(c net.Conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conns == nil {
		_ = c.Close()
		return false
	}
	b.conns[c] = struct{}{}
	return true
}

func (b *balancer) drop(c net.Conn) {
	_ = c.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.conns, c)
}

func (b *balancer) lead(c net.Conn) {
	if !b.keep(c) {
		return
	}
	defer b.drop(c)
	for range b.pods {
		p := b.pods[int(b.next.Add(1))%len(b.pods)]
		up, err := net.DialTimeout("tcp", p.grpc, time.Second)
		if err != nil {
			continue
		}
		if !b.keep(up) {
			return
		}
		defer b.drop(up)
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = io.Copy(up, c)
			_ = up.Close()
		}()
		_, _ = io.Copy(c, up)
		_ = c.Close()
		<-done
		return
	}
}
