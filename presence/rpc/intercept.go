package rpc

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "github.com/imcluster/imcluster/api/userstatus"
	"github.com/imcluster/imcluster/presence/replica"
	"github.com/imcluster/imcluster/presence/store"
)

// unary is what every call with one answer goes through.
func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (answer any, err error) {
	defer s.recover(info.FullMethod, &err)
	if err := s.authenticate(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callTimeout)
		defer cancel()
	}
	answer, err = handle(ctx, req)
	return answer, s.outward(info.FullMethod, err)
}

// stream is what every call with several answers goes through.
func (s *Server) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
	defer s.recover(info.FullMethod, &err)
	if err := s.authenticate(stream.Context(), info.FullMethod); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	defer context.AfterFunc(s.life, func() { cancel(replica.ErrClosed) })()
	err = handle(srv, endingStream{stream, ctx})
	if errors.Is(context.Cause(ctx), replica.ErrClosed) {
		err = replica.ErrClosed
	}
	return s.outward(info.FullMethod, err)
}

// endingStream ends when the server stops, or it would have to wait for watches.
type endingStream struct {
	grpc.ServerStream
	ctx context.Context // of the stream
}

func (s endingStream) Context() context.Context { return s.ctx }

// recover answers a call that panics: one bad request must not end the process.
func (s *Server) recover(method string, err *error) {
	if v := recover(); v != nil {
		s.log.Error("a call caused a panic", "method", method, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		*err = status.Error(codes.Internal, "a fault of the server; see its log")
	}
}

// open tells whether a method takes no key: probes cannot show one, and what reflection tells is published.
func (s *Server) open(method string) bool {
	service, _, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	return service == healthv1.Health_ServiceDesc.ServiceName || strings.HasPrefix(service, "grpc.reflection.") ||
		s.cfg.OpenUserStatus && service == pb.UserStatus_ServiceDesc.ServiceName
}

// authenticate checks the key against all that are accepted, taking the same time whichever of them it is.
func (s *Server) authenticate(ctx context.Context, method string) error {
	if s.open(method) {
		return nil
	}
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(values) != 1 {
		return status.Error(codes.Unauthenticated, "send the key in the metadata 'authorization: Bearer <key>'")
	}
	scheme, key, _ := strings.Cut(values[0], " ")
	match := 0
	for _, secret := range s.cfg.Keys {
		for _, value := range secret.Values() {
			match |= subtle.ConstantTimeCompare([]byte(key), value)
		}
	}
	if match == 0 || !strings.EqualFold(scheme, "Bearer") {
		return status.Error(codes.Unauthenticated, "the key is not accepted, as 'authorization: Bearer <key>'; it may have been rotated")
	}
	return nil
}

// outward makes the error of a handler one that the caller can act on.
func (s *Server) outward(method string, err error) error {
	if _, ok := status.FromError(err); ok { // nil too
		return err
	}
	for _, known := range []struct {
		is   error
		code codes.Code
		text string
	}{
		{store.ErrUnavailable, codes.Unavailable, "the store cannot be asked now; try again"},
		{replica.ErrRelist, codes.OutOfRange, "token: is too old, or of another list of users; watch again without it"},
		{replica.ErrBehind, codes.Unavailable, "this pod does not know yet what the token does; try again"},
		{replica.ErrTooMany, codes.ResourceExhausted, "this pod has as many watches as it takes; try another one"},
		{replica.ErrClosed, codes.Unavailable, "the pod is stopping; go on with the token on another one"},
		{store.ErrInvalidCursor, codes.InvalidArgument, "cursor: is not one that an earlier answer gave; start again without it"},
		{store.ErrTooManyDevices, codes.ResourceExhausted, "as many devices of the user are online as may be"},
		{store.ErrTooManyServers, codes.ResourceExhausted, "ServerAddr: as many servers have leases as may be; is it the same whenever the server calls?"},
		{store.ErrStoreFull, codes.ResourceExhausted, "the memory of the store is full"},
		{context.Canceled, codes.Canceled, "the call was cancelled"},
		{context.DeadlineExceeded, codes.Unavailable, "the store did not answer in time; try again"},
	} {
		if errors.Is(err, known.is) {
			return status.Error(known.code, known.text)
		}
	}
	s.log.Error("a call failed", "method", method, "error", err)
	return status.Error(codes.Internal, "a fault of the server; see its log")
}

func invalid(format string, args ...any) error {
	return status.Errorf(codes.InvalidArgument, format, args...)
}
