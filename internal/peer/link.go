package peer

import (
	"context"
	"errors"
	"sync"
	"time"

	peerv1 "github.com/imcluster/imcluster/api/peer/v1"
)

type kickKey struct {
	user       string
	connection uint64
}

// link is the way to one peer: a queue, and a goroutine that keeps a stream open while the peer's epoch is live.
type link struct {
	// Fixed after construction.
	node  *Node
	epoch string
	wake  chan struct{} // holds a token while the queue may have items

	mu       sync.Mutex
	dead     bool
	lost     bool // pushes were dropped, and the peer is not told yet
	queue    []*peerv1.Item
	sizes    []int                // of the queue's items
	bytes    int                  // sum of sizes
	kicks    map[kickKey]struct{} // unconfirmed
	lastID   uint64               // of a broadcast
	receipts map[uint64]func(int) // of broadcasts that are not confirmed, by id; those of the last stream and this one
}

// push queues an item. It returns false if the queue is full; then the peer is told so once there is room.
func (l *link) push(item *peerv1.Item, size int) bool {
	l.mu.Lock()
	if l.dead || len(l.queue) >= queueItems || l.bytes+size > queueBytes {
		l.lost = true
		l.mu.Unlock()
		return false
	}
	l.queue = append(l.queue, item)
	l.sizes = append(l.sizes, size)
	l.bytes += size
	l.mu.Unlock()
	l.signal()
	return true
}

func (l *link) kick(k kickKey) {
	l.mu.Lock()
	l.kicks[k] = struct{}{}
	l.mu.Unlock()
	l.push(k.item(), 0)
}

// broadcast queues a broadcast, whose receipt is done.
func (l *link) broadcast(b *peerv1.Broadcast, done func(int)) {
	l.mu.Lock()
	l.lastID++
	b.Id = l.lastID
	l.receipts[b.Id] = done
	l.mu.Unlock()
	if !l.push(&peerv1.Item{Body: &peerv1.Item_Broadcast{Broadcast: b}}, len(b.Data)+64) {
		l.confirmed(b.Id)
	}
}

// confirmed returns what waits for the receipt of a broadcast, nil if nothing does.
func (l *link) confirmed(id uint64) func(int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	done := l.receipts[id]
	delete(l.receipts, id)
	return done
}

func (k kickKey) item() *peerv1.Item {
	return &peerv1.Item{Body: &peerv1.Item_Kick{Kick: &peerv1.Kick{User: k.user, Connection: k.connection}}}
}

func (l *link) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// take removes the next batch from the queue, nil when it is empty.
func (l *link) take() []*peerv1.Item {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, size := 0, 0
	for n < len(l.queue) && n < batchItems && size < batchBytes {
		size += l.sizes[n]
		n++
	}
	if n == 0 && !l.lost {
		return nil
	}
	items := l.queue[:n:n]
	l.queue, l.sizes, l.bytes = l.queue[n:], l.sizes[n:], l.bytes-size
	if len(l.queue) == 0 {
		l.queue, l.sizes = nil, nil
	}
	if l.lost {
		// What was dropped was stored before, so that the sweep finds it.
		l.lost = false
		items = append(items, &peerv1.Item{Body: &peerv1.Item_Sweep{Sweep: &peerv1.Sweep{}}})
	}
	return items
}

// discard ends the queue and returns how many pushes it held.
func (l *link) discard() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
	n := countPushes(l.queue)
	l.queue, l.sizes, l.bytes = nil, nil, 0
	return n
}

func countPushes(items []*peerv1.Item) (n int) {
	for _, i := range items {
		if i.GetPush() != nil {
			n++
		}
	}
	return n
}

// requeueKicks queues the kicks that are not confirmed.
func (l *link) requeueKicks() {
	l.mu.Lock()
	pending := make([]kickKey, 0, len(l.kicks))
	for k := range l.kicks {
		pending = append(pending, k)
	}
	l.mu.Unlock()
	for _, k := range pending {
		l.push(k.item(), 0)
	}
}

// run keeps a stream open until the peer's epoch is dead or the node closes.
func (l *link) run() {
	defer l.node.forget(l)
	ctx := l.node.ctx
	if !l.awaitPeer(ctx) {
		return
	}
	for backoff := minBackoff; ; backoff = min(2*backoff, maxBackoff) {
		address, ok := l.node.cfg.Resolve(l.epoch)
		if !ok || ctx.Err() != nil {
			return
		}
		start := time.Now()
		err := l.stream(ctx, address)
		l.node.cfg.Logger.Info("peer stream ended", "peer", l.epoch, "address", address, "error", err)
		if time.Since(start) > maxBackoff {
			backoff = minBackoff // it worked for a while
		}
		if !sleep(ctx, backoff) {
			return
		}
	}
}

// awaitPeer waits until the peer is in the lease table.
func (l *link) awaitPeer(ctx context.Context) bool {
	for deadline := time.Now().Add(resolveTimeout); time.Now().Before(deadline); {
		if _, ok := l.node.cfg.Resolve(l.epoch); ok {
			return true
		}
		if !sleep(ctx, minBackoff) {
			return false
		}
	}
	return false
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// stream opens a stream and sends what is queued until it breaks or the peer's epoch is dead.
func (l *link) stream(ctx context.Context, address string) error {
	hello := &peerv1.Hello{Cluster: l.node.cfg.Cluster, Epoch: l.epoch, Sender: l.node.cfg.Epoch()}
	var wg sync.WaitGroup
	defer wg.Wait() // receive returns when connect has ended the stream
	return connect(ctx, address, hello, l.node.cfg.Keys, func(ctx context.Context, stream clientStream) error {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		wg.Go(func() { cancel(l.receive(stream)) })
		defer l.broke()
		return l.send(ctx, stream)
	})
}

// broke notes that a stream ended: what was on its way may be lost, and nobody confirms it any more.
func (l *link) broke() {
	l.mu.Lock()
	l.lost = true
	clear(l.receipts)
	l.mu.Unlock()
}

// receive takes receipts until the stream ends.
func (l *link) receive(stream clientStream) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			return ended(err)
		}
		switch body := m.GetBody().(type) {
		case *peerv1.FromReceiver_Receipt:
			l.mu.Lock()
			delete(l.kicks, kickKey{body.Receipt.User, body.Receipt.Connection})
			l.mu.Unlock()
		case *peerv1.FromReceiver_Broadcast:
			if done := l.confirmed(body.Broadcast.Id); done != nil {
				done(int(body.Broadcast.Sessions))
			}
		}
	}
}

func (l *link) send(ctx context.Context, stream clientStream) error {
	l.requeueKicks()
	tick := time.NewTicker(kickInterval)
	defer tick.Stop()
	for {
		for items := l.take(); items != nil; items = l.take() {
			err := stream.Send(&peerv1.FromSender{Body: &peerv1.FromSender_Batch{Batch: &peerv1.Batch{Items: items}}})
			if err != nil {
				l.node.drops[DropBroken].Add(int64(countPushes(items)))
				<-ctx.Done() // receive learns why
				return context.Cause(ctx)
			}
		}
		select {
		case <-l.wake:
		case <-tick.C:
			if _, ok := l.node.cfg.Resolve(l.epoch); !ok {
				return errors.New("the peer's epoch ended")
			}
			l.requeueKicks()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
