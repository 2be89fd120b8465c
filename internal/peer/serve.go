package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	peerv1 "github.com/imcluster/imcluster/api/peer/v1"
)

// serverStream is a receiver's end of a stream.
type serverStream = grpc.BidiStreamingServer[peerv1.FromSender, peerv1.FromReceiver]

var errNotThisRole = status.Error(codes.PermissionDenied, "a sender of this role may not send that")

// serve hands over what the stream brings until it ends or the epoch changes.
func (n *Node) serve(stream serverStream, hello *peerv1.Hello) error {
	ctx, cancel := context.WithCancel(stream.Context())
	out := &answerer{ctx: ctx, queue: make(chan *peerv1.FromReceiver, answers)}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { out.run(stream) })

	publisher := hello.Role == peerv1.Role_ROLE_PUBLISHER
	if !publisher {
		// Whatever the peer could not push any more is in the mailboxes.
		defer n.cfg.Handler.Sweep("the stream of a peer ended")
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		for _, item := range m.GetBatch().GetItems() {
			if n.cfg.Epoch() != hello.Epoch {
				return errOtherEpoch
			}
			if (item.GetPublish() != nil) != publisher {
				return errNotThisRole
			}
			n.handle(item, out)
		}
	}
}

// handle does what one item asks for.
func (n *Node) handle(item *peerv1.Item, out *answerer) {
	switch body := item.Body.(type) {
	case *peerv1.Item_Push:
		n.cfg.Handler.Deliver(body.Push)
	case *peerv1.Item_Kick:
		n.cfg.Handler.Kick(body.Kick.User, body.Kick.Connection)
		out.send(&peerv1.FromReceiver{Body: &peerv1.FromReceiver_Receipt{
			Receipt: &peerv1.Receipt{User: body.Kick.User, Connection: body.Kick.Connection}}})
	case *peerv1.Item_Status:
		n.cfg.Handler.StatusSet(body.Status)
	case *peerv1.Item_Sweep:
		n.cfg.Handler.Sweep("a peer dropped pushes")
	case *peerv1.Item_Broadcast:
		n.cfg.Handler.Broadcast(body.Broadcast, func(sessions int) {
			out.send(&peerv1.FromReceiver{Body: &peerv1.FromReceiver_Broadcast{
				Broadcast: &peerv1.BroadcastReceipt{Id: body.Broadcast.Id, Sessions: uint32(sessions)}}})
		})
	case *peerv1.Item_Publish:
		n.cfg.Handler.Publish(body.Publish, func(p *peerv1.Published) {
			p.Id = body.Publish.Id
			out.send(&peerv1.FromReceiver{Body: &peerv1.FromReceiver_Published{Published: p}})
		})
	}
}

// answerer sends what is answered on a stream, by whatever goroutine.
type answerer struct {
	ctx   context.Context // ends with the stream
	queue chan *peerv1.FromReceiver
}

// send queues an answer. It never blocks. One that does not fit any more is dropped: the peer does not read, kicks are
// repeated, and who publishes gives up waiting.
func (a *answerer) send(m *peerv1.FromReceiver) {
	select {
	case a.queue <- m:
	default:
	}
}

func (a *answerer) run(stream serverStream) {
	for {
		select {
		case m := <-a.queue:
			if stream.Send(m) != nil {
				return // the stream has ended, as serve sees too
			}
		case <-a.ctx.Done():
			return
		}
	}
}
