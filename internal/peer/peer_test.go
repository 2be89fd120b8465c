package peer

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	peerv1 "github.com/imcluster/imcluster/api/peer/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testTimeout = 10 * time.Second

type keys []string

func (k keys) Values() (values [][]byte) {
	for _, v := range k {
		values = append(values, []byte(v))
	}
	return values
}

// network is the lease table of a test's nodes.
type network struct {
	mu    sync.Mutex
	nodes map[string]string // epoch → address
}

func (n *network) resolve(epoch string) (string, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, ok := n.nodes[epoch]
	return a, ok
}

func (n *network) set(epoch, address string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.nodes == nil {
		n.nodes = map[string]string{}
	}
	if n.nodes[epoch] = address; address == "" {
		delete(n.nodes, epoch)
	}
}

// member is a node and what was handed to it.
type member struct {
	*Node
	address string

	mu     sync.Mutex
	epoch  string
	pushes []*peerv1.Push
	kicks  []kickKey
	sweeps []string
}

func (m *member) Sweep(reason string) {
	m.mu.Lock()
	m.sweeps = append(m.sweeps, reason)
	m.mu.Unlock()
}

func (m *member) Broadcast(_ *peerv1.Broadcast, done func(int)) { done(7) }

func (m *member) Publish(p *peerv1.Publish, done func(*peerv1.Published)) {
	done(&peerv1.Published{Code: 200, MsgId: p.ClientMsgId})
}

func (m *member) Deliver(p *peerv1.Push) {
	m.mu.Lock()
	m.pushes = append(m.pushes, p)
	m.mu.Unlock()
}

func (m *member) StatusSet(*peerv1.StatusSet) {}

func (m *member) Kick(user string, connection uint64) {
	m.mu.Lock()
	m.kicks = append(m.kicks, kickKey{user, connection})
	m.mu.Unlock()
}

func (m *member) counts() (pushes, kicks int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.pushes), len(m.kicks)
}

func (m *member) setEpoch(e string) {
	m.mu.Lock()
	m.epoch = e
	m.mu.Unlock()
}

// start runs a node. It is in the lease table unless listed is false.
func start(t *testing.T, n *network, epoch string, listed bool, change ...func(*Config)) *member {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &member{epoch: epoch, address: l.Addr().String()}
	cfg := Config{Cluster: "cluster", Keys: keys{"key"}, Resolve: n.resolve, Handler: m,
		Epoch: func() string { m.mu.Lock(); defer m.mu.Unlock(); return m.epoch }}
	for _, c := range change {
		c(&cfg)
	}
	m.Node = New(cfg)
	done := make(chan struct{})
	go func() { defer close(done); _ = m.Serve(l) }()
	t.Cleanup(func() { m.Close(); <-done })
	if listed {
		n.set(epoch, m.address)
	}
	return m
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(testTimeout); !condition(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not true in time: %s", what)
		}
	}
}

func push(i int) *peerv1.Push {
	return &peerv1.Push{MessageId: []byte(fmt.Sprint(i)), Data: []byte("1"),
		Targets: []*peerv1.Target{{User: "u", Connections: []uint64{uint64(i)}}}}
}

func TestPushesArriveInOrder(t *testing.T) {
	n := &network{}
	a, b := start(t, n, "a", true), start(t, n, "b", true)
	const count = 3000
	for i := range count {
		a.Push("b", push(i))
	}
	eventually(t, "all have arrived", func() bool { p, _ := b.counts(); return p == count })
	for i, p := range b.pushes {
		if p.Targets[0].Connections[0] != uint64(i) {
			t.Fatalf("push %d is %v", i, p)
		}
	}
}

// TestPeerThatIsNotInTheTableYet: it has just joined, and the table is read once a second.
func TestPeerThatIsNotInTheTableYet(t *testing.T) {
	n := &network{}
	a, b := start(t, n, "a", true), start(t, n, "b", false)
	a.Push("b", push(1))
	time.AfterFunc(100*time.Millisecond, func() { n.set("b", b.address) })
	eventually(t, "it has arrived", func() bool { p, _ := b.counts(); return p == 1 })
}

func TestPushToADeadEpochIsDropped(t *testing.T) {
	n := &network{}
	a := start(t, n, "a", true)
	a.Push("dead", push(1))
	eventually(t, "the link is forgotten", func() bool { return a.Links() == 0 })
	if a.Dropped(DropGone) != 1 {
		t.Errorf("%d dropped", a.Dropped(DropGone))
	}
}

// TestLinkToADeadEpochEnds, also when the process behind it lives on and does not end the stream.
func TestLinkToADeadEpochEnds(t *testing.T) {
	n := &network{}
	a, b := start(t, n, "a", true), start(t, n, "b", true)
	a.Push("b", push(1))
	eventually(t, "it has arrived", func() bool { p, _ := b.counts(); return p == 1 })
	n.set("b", "")
	eventually(t, "the link is forgotten", func() bool { return a.Links() == 0 })
}

// TestAddressOfAnotherIncarnation: pod addresses are reused; the gateway there now gets nothing that was meant for the one
// before.
func TestAddressOfAnotherIncarnation(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"another epoch":   nil,
		"another cluster": func(c *Config) { c.Cluster = "another"; c.Epoch = func() string { return "b" } },
		"another key":     func(c *Config) { c.Keys = keys{"another"}; c.Epoch = func() string { return "b" } },
		"no epoch yet":    func(c *Config) { c.Epoch = func() string { return "" } },
	} {
		t.Run(name, func(t *testing.T) {
			n := &network{}
			a := start(t, n, "a", true)
			if change == nil {
				change = func(*Config) {}
			}
			other := start(t, n, "c", false, change)
			n.set("b", other.address)
			a.Push("b", push(1))
			a.Node.Kick("b", "u", 1)
			eventually(t, "the push waits", func() bool { return a.Links() == 1 })
			n.set("b", "")
			eventually(t, "the link is forgotten", func() bool { return a.Links() == 0 })
			if p, k := other.counts(); p+k != 0 {
				t.Errorf("%d pushes and %d kicks reached another gateway", p, k)
			}
			if a.Dropped(DropGone) != 1 {
				t.Errorf("%d dropped", a.Dropped(DropGone))
			}
		})
	}
}

func TestKeyRotation(t *testing.T) {
	for _, tc := range []struct {
		name             string
		sender, receiver keys
	}{
		{"receiver first", keys{"old"}, keys{"new", "old"}},
		{"sender first", keys{"new", "old"}, keys{"old"}},
		{"both", keys{"new", "old"}, keys{"new", "old"}},
		{"receiver forgot the old one", keys{"new", "old"}, keys{"new"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := &network{}
			a := start(t, n, "a", true, func(c *Config) { c.Keys = tc.sender })
			b := start(t, n, "b", true, func(c *Config) { c.Keys = tc.receiver })
			a.Push("b", push(1))
			eventually(t, "it has arrived", func() bool { p, _ := b.counts(); return p == 1 })
		})
	}
}

// TestReceiverThatChangesItsEpoch takes nothing more for the old one.
func TestReceiverThatChangesItsEpoch(t *testing.T) {
	n := &network{}
	a, b := start(t, n, "a", true), start(t, n, "b", true)
	a.Push("b", push(1))
	eventually(t, "it has arrived", func() bool { p, _ := b.counts(); return p == 1 })
	b.setEpoch("b2")
	n.set("b", "")
	n.set("b2", b.address)
	a.Push("b", push(2))
	a.Push("b2", push(3))
	eventually(t, "the new one has arrived", func() bool { p, _ := b.counts(); return p == 2 })
	eventually(t, "the old link is forgotten", func() bool { return a.Links() == 1 })
	if id := string(b.pushes[1].MessageId); id != "3" {
		t.Errorf("message %s arrived", id)
	}
}

// TestKickIsRepeatedUntilConfirmed: the peer cannot be reached at first.
func TestKickIsRepeatedUntilConfirmed(t *testing.T) {
	n := &network{}
	a, b := start(t, n, "a", true), start(t, n, "b", false)
	closed, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	n.set("b", closed.Addr().String())
	a.Node.Kick("b", "u", 7)
	time.AfterFunc(200*time.Millisecond, func() { n.set("b", b.address) })
	eventually(t, "it was kicked", func() bool { _, k := b.counts(); return k > 0 })
	eventually(t, "it is confirmed", func() bool {
		a.Node.mu.Lock()
		l := a.links["b"]
		a.Node.mu.Unlock()
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.kicks) == 0
	})
	if b.kicks[0] != (kickKey{"u", 7}) {
		t.Errorf("kicked %v", b.kicks)
	}
}

// TestPeerThatReadsNothing: the queue is bounded, and nobody is blocked.
func TestPeerThatReadsNothing(t *testing.T) {
	n := &network{}
	a := start(t, n, "a", true)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0") // accepts, says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	n.set("b", l.Addr().String())
	big := &peerv1.Push{Data: []byte(strings.Repeat("x", 64<<10)), Targets: []*peerv1.Target{{User: "u", Connections: []uint64{1}}}}
	for range 2 * queueBytes / (64 << 10) {
		a.Push("b", big)
	}
	if a.Dropped(DropOverflow) == 0 {
		t.Error("nothing was dropped")
	}
	n.set("b", "")
}

// TestStrangers: whoever lacks the key learns nothing and gets nothing in.
func TestStrangers(t *testing.T) {
	n := &network{}
	b := start(t, n, "b", true)
	nonce := []byte(strings.Repeat("n", nonceSize))
	hello := func(h *peerv1.Hello) *peerv1.FromSender {
		return &peerv1.FromSender{Body: &peerv1.FromSender_Hello{Hello: h}}
	}
	batch := &peerv1.FromSender{Body: &peerv1.FromSender_Batch{Batch: &peerv1.Batch{Items: []*peerv1.Item{
		{Body: &peerv1.Item_Push{Push: push(1)}}, {Body: &peerv1.Item_Kick{Kick: &peerv1.Kick{User: "u", Connection: 1}}}}}}}
	proof := &peerv1.FromSender{Body: &peerv1.FromSender_Proof{Proof: &peerv1.Proof{Proof: nonce}}}
	good := &peerv1.Hello{Cluster: "cluster", Epoch: "b", Nonce: nonce}
	for _, tc := range []struct {
		name string
		send []*peerv1.FromSender
		code codes.Code
	}{
		{"starts with a batch", []*peerv1.FromSender{batch}, codes.InvalidArgument},
		{"empty", []*peerv1.FromSender{{}}, codes.InvalidArgument},
		{"no nonce", []*peerv1.FromSender{hello(&peerv1.Hello{Cluster: "cluster", Epoch: "b"})}, codes.InvalidArgument},
		{"another cluster", []*peerv1.FromSender{hello(&peerv1.Hello{Cluster: "x", Epoch: "b", Nonce: nonce})}, codes.FailedPrecondition},
		{"another epoch", []*peerv1.FromSender{hello(&peerv1.Hello{Cluster: "cluster", Epoch: "x", Nonce: nonce})}, codes.FailedPrecondition},
		{"no epoch", []*peerv1.FromSender{hello(&peerv1.Hello{Cluster: "cluster", Nonce: nonce})}, codes.FailedPrecondition},
		{"batch instead of a proof", []*peerv1.FromSender{hello(good), batch}, codes.Unauthenticated},
		{"wrong proof", []*peerv1.FromSender{hello(good), proof, batch}, codes.Unauthenticated},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := speak(t.Context(), b.address, tc.send); status.Code(err) != tc.code {
				t.Errorf("got %v, want %v", err, tc.code)
			}
		})
	}
	if p, k := b.counts(); p+k != 0 {
		t.Errorf("%d pushes and %d kicks got in", p, k)
	}
}

// speak sends messages on a stream and returns how it ended.
func speak(ctx context.Context, address string, messages []*peerv1.FromSender) error {
	ctx, cancel := context.WithTimeout(ctx, testTimeout)
	defer cancel()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	stream, err := peerv1.NewPeerClient(conn).Connect(ctx)
	if err != nil {
		return err
	}
	for _, m := range messages {
		_ = stream.Send(m) // Recv says why it failed
	}
	for {
		if _, err := stream.Recv(); err != nil {
			return err
		}
	}
}

// TestProofsOfTheTwoSidesDiffer: a receiver's proof cannot be sent back as a sender's.
func TestProofsOfTheTwoSidesDiffer(t *testing.T) {
	s := session{senderNonce: []byte("a"), receiverNonce: []byte("b"), cluster: "c", epoch: "e"}
	if string(s.proof([]byte("k"), "sender")) == string(s.proof([]byte("k"), "receiver")) {
		t.Error("they are the same")
	}
	shifted := session{senderNonce: []byte("a"), receiverNonce: []byte("b"), cluster: "ce", epoch: ""}
	if string(s.proof([]byte("k"), "sender")) == string(shifted.proof([]byte("k"), "sender")) {
		t.Error("fields run into each other")
	}
}
