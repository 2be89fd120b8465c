// Package peer carries messages from gateway to gateway, directly from pod to pod: one gRPC stream for each gateway that
// is sent to, in the direction of the messages. Presence pods open such streams too, to publish.
//
// A stream is bound to the receiver's epoch, not to its address: addresses of pods are reused. Both ends prove that they
// have the cluster's peer key before a message is handed over.
//
// A push is handed over at most once and may be dropped: when the queue to a peer is full, when the peer is gone, or when
// the stream breaks. It is only a hint at what is stored, and the peer is told that it missed some: by the end of the
// stream, or by a Sweep as soon as there is room again. A kick is repeated until it is confirmed or the peer's epoch is
// dead. A broadcast is confirmed or not, and not repeated.
package peer

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	peerv1 "github.com/imcluster/imcluster/api/peer/v1"
)

const (
	// queueItems and queueBytes bound what waits for one peer.
	queueItems = 16 << 10
	queueBytes = 8 << 20
	// answers bounds the receipts and answers that wait for one peer to read them.
	answers = 4096
	// batchItems and batchBytes bound one message of the stream, far below gRPC's limit of 4 MiB.
	batchItems = 512
	batchBytes = 512 << 10

	handshakeTimeout = 5 * time.Second
	// kickInterval is how often an unconfirmed kick is repeated, and how often a link looks whether its peer lives.
	kickInterval = time.Second
	// resolveTimeout is how long a peer that is not in the lease table yet is waited for: the table is read once a
	// second.
	resolveTimeout = 3 * time.Second
	minBackoff     = 50 * time.Millisecond
	maxBackoff     = 2 * time.Second
)

// Keys yields the peer keys that are accepted, the one in use first.
type Keys interface{ Values() [][]byte }

// Handler is the gateway that a Node serves. Its methods must not block.
type Handler interface {
	// Deliver hands a message to local connections. The push may be kept, and must not be changed.
	Deliver(p *peerv1.Push)
	// Kick closes a local connection whose device logged in elsewhere.
	Kick(user string, connection uint64)
	// StatusSet notes the status of a user who has local connections.
	StatusSet(s *peerv1.StatusSet)
	// Sweep compares the mailboxes of all local sessions: pushes to this gateway may have been lost. It is called when a
	// peer says so, and when the stream of a peer ended.
	Sweep(reason string)
	// Broadcast hands a message to all local connections, and calls done with their number, or not at all.
	Broadcast(b *peerv1.Broadcast, done func(sessions int))
	// Publish sends a message for the application's back end, and calls done once, with an answer whose id is filled in
	// by the Node.
	Publish(p *peerv1.Publish, done func(*peerv1.Published))
}

// Config is what a Node needs. All fields but Logger are required.
type Config struct {
	// Cluster is the UID of the IMCluster.
	Cluster string
	Keys    Keys
	// Epoch returns the current epoch of this gateway, empty before it has one.
	Epoch func() string
	// Resolve returns the address of a live gateway.
	Resolve func(epoch string) (address string, ok bool)
	Handler Handler
	// Logger; nil means no logs.
	Logger *slog.Logger
}

// Drop says why a push was dropped. It is the label of a metric.
type Drop uint8

// Reasons to drop a push.
const (
	DropOverflow Drop = iota // the queue to the peer is full
	DropGone                 // the peer's epoch ended
	DropBroken               // the stream broke while the push was handed over
	numDrops
)

func (d Drop) String() string { return [numDrops]string{"overflow", "gone", "broken"}[d] }

// Drops are all reasons.
func Drops() []Drop { return []Drop{DropOverflow, DropGone, DropBroken} }

// Node is a gateway's end of all peer streams: it serves those of others and opens its own.
type Node struct {
	peerv1.UnimplementedPeerServer

	cfg    Config
	server *grpc.Server
	drops  [numDrops]atomic.Int64

	ctx  context.Context // of the links; ends at Close
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex
	closed bool
	links  map[string]*link // by epoch
}

// New returns a Node, which serves after Serve was called and must be closed.
func New(cfg Config) *Node {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	n := &Node{cfg: cfg, links: map[string]*link{}}
	n.ctx, n.stop = context.WithCancel(context.Background())
	n.server = grpc.NewServer(
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.ForceServerCodecV2(newCodec()),
		grpc.MaxConcurrentStreams(4),
		grpc.InitialWindowSize(1<<20),
		grpc.InitialConnWindowSize(1<<20),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	)
	peerv1.RegisterPeerServer(n.server, n)
	return n
}

// Serve accepts streams of other gateways until Close.
func (n *Node) Serve(l net.Listener) error { return n.server.Serve(l) }

// Close ends all streams. Pushes that wait are dropped.
func (n *Node) Close() {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.stop()
	n.server.Stop()
	n.wg.Wait()
}

// Dropped is the number of pushes dropped for a reason.
func (n *Node) Dropped(d Drop) int64 { return n.drops[d].Load() }

// Links is the number of peers that this gateway sends to.
func (n *Node) Links() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.links)
}

// Push queues a message for connections of the gateway with the epoch. It never blocks. The push must not be changed
// any more.
func (n *Node) Push(epoch string, p *peerv1.Push) {
	size := len(p.Data) + 64
	for _, t := range p.Targets {
		size += len(t.User) + 10*len(t.Connections) + 64
	}
	l := n.link(epoch)
	if l == nil {
		n.drops[DropGone].Add(1)
		return
	}
	i := &struct { // one allocation
		item peerv1.Item
		body peerv1.Item_Push
	}{body: peerv1.Item_Push{Push: p}}
	i.item.Body = &i.body
	if !l.push(&i.item, size) {
		n.drops[DropOverflow].Add(1)
	}
}

// Broadcast queues a message for all connections of the gateway with the epoch. It never blocks. done is called at most
// once, when the gateway confirms it, with the number of sessions that the message was handed to.
func (n *Node) Broadcast(epoch string, id, data []byte, except string, done func(sessions int)) {
	if l := n.link(epoch); l != nil {
		l.broadcast(&peerv1.Broadcast{MessageId: id, Data: data, Except: except}, done)
	}
}

// Kick asks the gateway with the epoch to close a connection, until that is confirmed or the epoch is dead. It never
// blocks.
func (n *Node) Kick(epoch, user string, connection uint64) {
	if l := n.link(epoch); l != nil {
		l.kick(kickKey{user, connection})
	}
}

// StatusSet tells the gateway with the epoch the status of a user, best effort. It never blocks.
func (n *Node) StatusSet(epoch string, s *peerv1.StatusSet) {
	if l := n.link(epoch); l != nil {
		l.push(&peerv1.Item{Body: &peerv1.Item_Status{Status: s}}, len(s.User)+len(s.Text)+64)
	}
}

// link returns the link to an epoch, a new one if there is none; nil after Close.
func (n *Node) link(epoch string) *link {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil
	}
	l, ok := n.links[epoch]
	if !ok {
		l = &link{node: n, epoch: epoch, kicks: map[kickKey]struct{}{}, receipts: map[uint64]func(int){}, wake: make(chan struct{}, 1)}
		n.links[epoch] = l
		n.wg.Go(l.run)
	}
	return l
}

// forget takes a link whose peer is dead out of the table.
func (n *Node) forget(l *link) {
	n.mu.Lock()
	delete(n.links, l.epoch)
	n.mu.Unlock()
	n.drops[DropGone].Add(int64(l.discard()))
}
