package rpc

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	presencev1 "github.com/imcluster/imcluster/api/presence/v1"
	"github.com/imcluster/imcluster/presence/replica"
	"github.com/imcluster/imcluster/presence/store"
)

// partBytes is about how much of an event goes into one message: callers take 4 MiB unless they are set up otherwise.
const partBytes = 1 << 20

type watchStream = grpc.BidiStreamingServer[presencev1.WatchRequest, presencev1.WatchResponse]

// Watch tells of users, and of what changes, until the caller or the server ends it.
func (s *Server) Watch(stream watchStream) error {
	w := &watch{stream: stream, max: s.cfg.MaxWatchUsers, users: map[string]struct{}{}}
	first, err := w.receive()
	if err != nil {
		return err
	}
	if first.GetAll() && len(first.GetAdd()) > 0 {
		return invalid("all: goes without a list of users")
	}
	if w.all = first.GetAll(); !w.all {
		if err := w.list(first); err != nil {
			return err
		}
	}
	if w.sub, err = s.cfg.Model.Watch(first.GetAdd(), w.all, first.GetToken()); err != nil {
		return err
	}
	defer w.sub.Close()
	// The caller learns that it is watching before there is anything to tell.
	if err := stream.SendHeader(metadata.MD{}); err != nil {
		return err
	}

	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	go func() { // ends with the stream
		if err := w.obey(); err != nil {
			cancel(err)
		}
	}()
	for {
		event, err := w.sub.Next(ctx)
		if err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return err
		}
		if err := w.tell(&event); err != nil {
			return err
		}
	}
}

// watch is one call of Watch.
type watch struct {
	stream watchStream
	sub    *replica.Subscription
	max    int
	all    bool
	users  map[string]struct{} // the list, for its length
}

// receive returns the next request, made whole of its parts.
func (w *watch) receive() (*presencev1.WatchRequest, error) {
	whole, err := w.stream.Recv()
	for err == nil && whole.GetMore() {
		if len(whole.GetAdd()) > w.max || len(whole.GetRemove()) > w.max {
			return nil, w.tooMany()
		}
		var next *presencev1.WatchRequest
		if next, err = w.stream.Recv(); err == nil {
			whole.Add, whole.Remove = append(whole.Add, next.GetAdd()...), append(whole.Remove, next.GetRemove()...)
			whole.More = next.GetMore()
		}
	}
	return whole, err
}

// list checks a request and keeps the list of users.
func (w *watch) list(r *presencev1.WatchRequest) error {
	if err := checkUsers("add", r.GetAdd()); err != nil {
		return err
	}
	if r.GetReplace() {
		clear(w.users)
	}
	for _, u := range r.GetRemove() {
		delete(w.users, u)
	}
	for _, u := range r.GetAdd() {
		w.users[u] = struct{}{}
	}
	if len(w.users) > w.max {
		return w.tooMany()
	}
	return nil
}

func (w *watch) tooMany() error {
	return status.Errorf(codes.ResourceExhausted, "add: a watch takes at most %d users", w.max)
}

// obey does what further requests say. The caller may end its side, and keep on reading.
func (w *watch) obey() error {
	for {
		r, err := w.receive()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case r.GetToken() != "" || r.GetAll() || w.all:
			return invalid("token and all: go into the first request; a watch of everybody takes no list")
		}
		if err := w.list(r); err != nil {
			return err
		}
		if r.GetReplace() {
			w.sub.Replace(r.GetAdd())
		} else {
			w.sub.Update(r.GetAdd(), r.GetRemove())
		}
	}
}

// tell sends an event, in parts if it is large.
func (w *watch) tell(e *replica.Event) error {
	for rest := e.Users; ; {
		part := &presencev1.WatchResponse{Snapshot: e.Snapshot, Bookmark: e.Bookmark, Degraded: e.Degraded, AsOfMs: outTime(e.AsOf)}
		part.Users, rest = outPart(rest)
		if part.More = len(rest) > 0 || e.More; !part.More {
			part.Token = e.Token
		}
		if err := w.stream.Send(part); err != nil {
			return err
		}
		if len(rest) == 0 {
			return nil
		}
	}
}

// outPart takes as many users as one message holds, and returns those who are left.
func outPart(users []store.User) (part []*presencev1.User, rest []store.User) {
	size := 0
	for i := range users {
		u := &presencev1.User{}
		outUser(u, &users[i])
		if size += proto.Size(u); size > partBytes && i > 0 {
			return part, users[i:]
		}
		part = append(part, u)
	}
	return part, nil
}
