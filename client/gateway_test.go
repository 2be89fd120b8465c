package client_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imcluster/imcluster/client"
	"github.com/imcluster/imcluster/gateway"
	"github.com/imcluster/imcluster/gateway/auth"
	"github.com/imcluster/imcluster/internal/secretdir"
	"github.com/imcluster/imcluster/internal/testredis"
	"github.com/imcluster/imcluster/presence/store"
)

// startGateway runs a gateway on a real Redis, and returns its address and what stops it, which moves its clients to
// other gateways first.
func startGateway(t *testing.T, redis *testredis.Server, pod string, change ...func(*gateway.Config)) (addr string, stop func()) {
	t.Helper()
	cfg := gateway.Config{
		PodName: pod, PodUID: pod, Cluster: "cluster", Auth: auth.Insecure{}, PeerKeys: secretdir.Static([]byte("peer key")),
		Store:  store.Config{Addresses: []string{redis.Addr}, Fresh: true},
		Listen: "127.0.0.1:0", PeerListen: "127.0.0.1:0", DrainWindow: 10 * time.Second, AllowBroadcast: true, AllowOnlineList: true,
	}
	for _, f := range change {
		f(&cfg)
	}
	g, err := gateway.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("gateway %s: %v", pod, err)
		}
	})
	t.Cleanup(stop)
	eventually(t, "gateway "+pod+" is ready", g.Ready)
	return g.Addr().String(), stop
}

// eventually waits until check is true.
func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !check(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func urlOf(addr string) string { return "ws://" + addr + "/ws" }

// person is a user who writes down what arrives.
type person struct {
	*client.Client
	mu     sync.Mutex
	got    []client.Message
	states []string
	errs   []error
}

func connect(t *testing.T, user string, cfg client.Config) *person {
	t.Helper()
	who := &person{}
	if cfg.Token == nil {
		cfg.Token = client.StaticToken(user)
	}
	handle := cfg.OnMessage
	cfg.OnMessage = func(ctx context.Context, m client.Message) error {
		if handle != nil {
			if err := handle(ctx, m); err != nil {
				return err
			}
		}
		who.mu.Lock()
		defer who.mu.Unlock()
		who.got = append(who.got, m)
		return nil
	}
	cfg.OnState = func(s client.StateChange) {
		who.mu.Lock()
		defer who.mu.Unlock()
		who.states = append(who.states, s.State.String())
	}
	cfg.OnError = func(err error) {
		who.mu.Lock()
		defer who.mu.Unlock()
		who.errs = append(who.errs, err)
	}
	var err error
	if who.Client, err = client.Dial(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { who.Close(); <-who.Done() })
	return who
}

// texts returns the texts that arrived, in their order.
func (p *person) texts() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	texts := make([]string, len(p.got))
	for i, m := range p.got {
		texts[i] = m.Text()
	}
	return texts
}

// path returns the states, without repetitions.
func (p *person) path() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(slices.Compact(slices.Clone(p.states)), " ")
}

// numbers are the texts "0" to "n-1".
func numbers(n int) []string {
	texts := make([]string, n)
	for i := range texts {
		texts[i] = fmt.Sprint(i)
	}
	return texts
}

// expectTexts waits until exactly these texts have arrived, in this order.
func (p *person) expectTexts(t *testing.T, want []string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d messages arrived", len(want)), func() bool { return len(p.texts()) >= len(want) })
	if got := p.texts(); !slices.Equal(got, want) {
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("%d messages instead of %d; the first difference is at %d: %q", len(got), len(want), i, got[i:min(i+5, len(got))])
			}
		}
		t.Fatalf("%d messages instead of %d, the last ones %q", len(got), len(want), got[len(want):])
	}
}

// proxy is a network that fails on demand.
type proxy struct {
	t        *testing.T
	listener net.Listener
	target   string
	loops    sync.WaitGroup

	mu    sync.Mutex
	hole  bool // nothing gets through any more, and nobody is told
	conns map[net.Conn]bool
	limit int // bytes towards the client until a connection is cut; 0: no limit
}

func startProxy(t *testing.T, target string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, listener: listener, target: target, conns: map[net.Conn]bool{}}
	p.loops.Go(p.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		p.cut()
		p.loops.Wait()
	})
	return p
}

func (p *proxy) url() string { return urlOf(p.listener.Addr().String()) }

func (p *proxy) accept() {
	for {
		down, err := p.listener.Accept()
		if err != nil {
			return
		}
		up, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = down.Close()
			continue
		}
		p.mu.Lock()
		p.conns[down], p.conns[up] = true, true
		limit := p.limit
		p.hole = false
		p.mu.Unlock()
		p.loops.Go(func() { p.copy(up, down, 0) })
		p.loops.Go(func() { p.copy(down, up, limit) })
	}
}

// copy passes on what src says, up to limit bytes, and then breaks both ends.
func (p *proxy) copy(dst, src net.Conn, limit int) {
	defer p.forget(dst, src)
	buffer := make([]byte, 1024)
	for total := 0; ; {
		n, err := src.Read(buffer)
		if err != nil {
			return
		}
		p.mu.Lock()
		hole := p.hole
		p.mu.Unlock()
		if hole {
			_, _ = io.Copy(io.Discard, src)
			return
		}
		if limit > 0 && total+n > limit {
			_, _ = dst.Write(buffer[:limit-total])
			return
		}
		total += n
		if _, err := dst.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func (p *proxy) forget(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
		delete(p.conns, c)
	}
}

// cut breaks all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	conns := make([]net.Conn, 0, len(p.conns))
	for c := range p.conns {
		conns = append(conns, c)
	}
	p.mu.Unlock()
	p.forget(conns...)
}

// swallow lets nothing through any more on the connections that there are.
func (p *proxy) swallow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hole = true
}

// cutAfter breaks connections to come after so many bytes towards the client.
func (p *proxy) cutAfter(bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limit = bytes
}
