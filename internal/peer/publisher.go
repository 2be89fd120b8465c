package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	peerv1 "github.com/imcluster/imcluster/api/peer/v1"
	"github.com/imcluster/imcluster/api/wire"
)

const (
	// publishAttempts is how many gateways are tried for one message.
	publishAttempts = 3
	// publishPending bounds the messages of one Publisher that wait for an answer.
	publishPending = 4096
	// silentTime is for how long a gateway that did not answer in time is avoided: that of a lease, after which one that
	// is paused is not live any more.
	silentTime = 15 * time.Second
)

// ErrNoGateway means that no gateway could be reached. Whether an earlier attempt was successful is not known: the same
// message may be published again.
var ErrNoGateway = errors.New("no gateway takes the message now")

// Gateway is a gateway that can be published to.
type Gateway struct {
	Epoch, Address string // the address is host:port of its peer listener
}

// PublisherConfig is what a Publisher needs. All fields but Logger are required.
type PublisherConfig struct {
	// Cluster is the UID of the IMCluster.
	Cluster string
	Keys    Keys
	// Gateways returns the live gateways that do not drain. It must not block.
	Gateways func() []Gateway
	// Logger; nil means no logs.
	Logger *slog.Logger
}

// Publisher hands messages of the application's back end to a gateway, which stores and delivers them. It keeps one stream
// open, to a gateway chosen at random, and changes to another one when that goes away. Its methods may be called
// concurrently.
type Publisher struct {
	cfg  PublisherConfig
	ctx  context.Context // of the streams; ends at Close
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu      sync.Mutex
	current *outlet // nil before the first message
	// silent are gateways that did not answer in time, and until when others are preferred.
	silent map[string]time.Time // by epoch
}

// NewPublisher returns a Publisher, which must be closed. It connects with the first message.
func NewPublisher(cfg PublisherConfig) *Publisher {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Publisher{cfg: cfg, silent: map[string]time.Time{}}
	p.ctx, p.stop = context.WithCancel(context.Background())
	return p
}

// Close ends the stream, and what waits for an answer.
func (p *Publisher) Close() {
	p.stop()
	p.wg.Wait()
}

// Publish sends a message and returns what became of it, by the codes of the WebSocket protocol. The id is filled in;
// everything else is the caller's to check. If a gateway goes away it tries another one, which does no harm: the same
// client_msg_id is the same message. An error, which wraps [ErrNoGateway] or that of ctx, leaves open what became of it.
func (p *Publisher) Publish(ctx context.Context, m *peerv1.Publish) (*peerv1.Published, error) {
	var failed []string // epochs
	var err error
	for range publishAttempts {
		var o *outlet
		if o, err = p.outlet(failed); err != nil {
			break
		}
		var answer *peerv1.Published
		answer, err = o.publish(ctx, m)
		if err == nil && answer.GetCode() != uint32(wire.CodeDraining) {
			return answer, nil
		}
		if ctx.Err() != nil {
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				p.avoid(o)
			}
			return nil, fmt.Errorf("publish: %w", ctx.Err())
		}
		failed = append(failed, o.epoch)
	}
	return nil, fmt.Errorf("publish: %w (%w)", ErrNoGateway, errors.Join(err))
}

// avoid has the next messages go to another gateway than one that did not answer in time, if there is one.
func (p *Publisher) avoid(o *outlet) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent[o.epoch] = time.Now().Add(silentTime)
	if p.current == o {
		p.current = nil
		o.retire()
	}
}

// prefer leaves the gateways that are not silent, or all if all are; p.mu must be held.
func (p *Publisher) prefer(live []Gateway) []Gateway {
	maps.DeleteFunc(p.silent, func(_ string, until time.Time) bool { return time.Now().After(until) })
	answering := slices.DeleteFunc(slices.Clone(live), func(g Gateway) bool { return !p.silent[g.Epoch].IsZero() })
	if len(answering) == 0 {
		return live
	}
	return answering
}

// outlet returns the stream to use: the current one, unless its gateway is among the failed or not live any more.
func (p *Publisher) outlet(failed []string) (*outlet, error) {
	live := p.cfg.Gateways()
	usable := func(g Gateway) bool { return !slices.Contains(failed, g.Epoch) }
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil {
		return nil, errors.New("the publisher is closed")
	}
	if o := p.current; o != nil && !o.ended() && slices.ContainsFunc(live, func(g Gateway) bool { return g.Epoch == o.epoch && usable(g) }) {
		return o, nil
	}
	live = slices.DeleteFunc(slices.Clone(live), func(g Gateway) bool { return !usable(g) })
	if len(live) == 0 {
		return nil, errors.New("no other gateway is live")
	}
	if p.current != nil {
		p.current.retire()
	}
	live = p.prefer(live)
	p.current = p.open(live[rand.N(len(live))])
	return p.current, nil
}

// open starts a stream to a gateway.
func (p *Publisher) open(g Gateway) *outlet {
	ctx, cancel := context.WithCancelCause(p.ctx)
	o := &outlet{epoch: g.Epoch, ctx: ctx, cancel: cancel, requests: make(chan *peerv1.Publish), pending: map[uint64]chan *peerv1.Published{}}
	p.wg.Go(func() {
		err := o.run(g.Address, p.cfg)
		cancel(err)
		p.cfg.Logger.Info("publishing stream ended", "peer", g.Epoch, "address", g.Address, "error", err)
	})
	return o
}

// outlet is one stream to a gateway.
type outlet struct {
	epoch    string
	ctx      context.Context // ends with the stream
	cancel   context.CancelCauseFunc
	requests chan *peerv1.Publish

	mu      sync.Mutex
	lastID  uint64
	retired bool // ends when nothing is pending any more
	pending map[uint64]chan *peerv1.Published
}

var errRetired = errors.New("another gateway is used now")

// ended tells whether nothing new may be sent here.
func (o *outlet) ended() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.retired || o.ctx.Err() != nil
}

// retire ends the stream once everything is answered.
func (o *outlet) retire() {
	o.mu.Lock()
	o.retired = true
	idle := len(o.pending) == 0
	o.mu.Unlock()
	if idle {
		o.cancel(errRetired)
	}
}

// publish sends a message and waits for the answer.
func (o *outlet) publish(ctx context.Context, m *peerv1.Publish) (*peerv1.Published, error) {
	answer := make(chan *peerv1.Published, 1)
	o.mu.Lock()
	if len(o.pending) >= publishPending {
		o.mu.Unlock()
		return nil, errors.New("too many messages wait for the gateway")
	}
	o.lastID++
	id := o.lastID
	o.pending[id] = answer
	o.mu.Unlock()
	defer o.forget(id)

	m = proto.CloneOf(m)
	m.Id = id
	select {
	case o.requests <- m:
	case <-o.ctx.Done():
		return nil, context.Cause(o.ctx)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case a := <-answer:
		return a, nil
	case <-o.ctx.Done():
		return nil, context.Cause(o.ctx)
	case <-ctx.Done():
		// Others may go to another gateway: this one may be stuck, and gives no other sign of it.
		o.retire()
		return nil, ctx.Err()
	}
}

func (o *outlet) forget(id uint64) {
	o.mu.Lock()
	delete(o.pending, id)
	last := o.retired && len(o.pending) == 0
	o.mu.Unlock()
	if last {
		o.cancel(errRetired)
	}
}

// run opens the stream and serves it until it breaks or the outlet is cancelled.
func (o *outlet) run(address string, cfg PublisherConfig) error {
	hello := &peerv1.Hello{Cluster: cfg.Cluster, Epoch: o.epoch, Role: peerv1.Role_ROLE_PUBLISHER}
	return connect(o.ctx, address, hello, cfg.Keys, func(ctx context.Context, stream clientStream) error {
		var wg sync.WaitGroup
		defer wg.Wait()
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		wg.Go(func() { cancel(o.receive(stream)) })
		for {
			select {
			case m := <-o.requests:
				batch := &peerv1.Batch{Items: []*peerv1.Item{{Body: &peerv1.Item_Publish{Publish: m}}}}
				if err := stream.Send(&peerv1.FromSender{Body: &peerv1.FromSender_Batch{Batch: batch}}); err != nil {
					<-ctx.Done() // receive learns why
					return context.Cause(ctx)
				}
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	})
}

// receive hands answers to those who wait for them, until the stream ends.
func (o *outlet) receive(stream clientStream) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			return ended(err)
		}
		answer := m.GetPublished()
		o.mu.Lock()
		if waiting, ok := o.pending[answer.GetId()]; ok && answer != nil {
			delete(o.pending, answer.GetId()) // a second answer must not block
			waiting <- answer
		}
		o.mu.Unlock()
	}
}
