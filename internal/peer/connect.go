package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	peerv1 "github.com/imcluster/imcluster/api/peer/v1"
)

// clientStream is a sender's end of a stream.
type clientStream = grpc.BidiStreamingClient[peerv1.FromSender, peerv1.FromReceiver]

// connect opens a stream to a gateway, proves to each other who both are, and calls use, whose context ends with the
// stream. It returns why the stream ended.
func connect(ctx context.Context, address string, hello *peerv1.Hello, keys Keys, use func(context.Context, clientStream) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(newCodec())),
		grpc.WithInitialWindowSize(1<<20),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second, PermitWithoutStream: true}))
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	defer conn.Close()
	timeout := time.AfterFunc(handshakeTimeout, func() { cancel(errHandshakeTimeout) })
	stream, err := peerv1.NewPeerClient(conn).Connect(ctx)
	if err == nil {
		err = introduce(stream, hello, keys)
	}
	if !timeout.Stop() || err != nil {
		return fmt.Errorf("open stream: %w", errors.Join(err, context.Cause(ctx)))
	}
	return use(ctx, stream)
}

// ended says why a stream ended: io.EOF is the peer's doing.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("closed by the peer")
	}
	return err
}
