package presence

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/presence/replica"
	"github.com/imcluster/imcluster/presence/store"
)

// watchIdle is after how long without an event a comment is sent, so that neither side, nor a proxy between, takes the other
// for dead. Bookmarks come after 15 s, except while the pod follows nothing.
const watchIdle = 20 * time.Second

// watchRequest is the body of POST /v1/presence:watch.
type watchRequest struct {
	Users *[]string `json:"users"`
	All   bool      `json:"all"`
}

// watch tells how users are, and then what changes, as Server-Sent Events.
//
// A watch that begins while Redis cannot be asked is not refused: it tells that the users are unknown, and how they are when
// that is known. Only a pod that was never connected answers 503, because another one may be.
func (s *Server) watch(w http.ResponseWriter, r *http.Request) error {
	q, err := s.watchOf(w, r)
	if err != nil {
		return err
	}
	if !s.Ready() {
		return store.ErrUnavailable
	}
	if r.Method == http.MethodHead {
		streamHeaders(w.Header())
		return nil
	}
	sub, err := s.replica.Watch(*q.Users, q.All, r.Header.Get("Last-Event-ID"))
	relist := errors.Is(err, replica.ErrRelist)
	if relist {
		sub, err = s.replica.Watch(*q.Users, q.All, "")
	}
	if err != nil {
		return watchError(err)
	}
	defer sub.Close()
	if sw, ok := w.(*statusWriter); ok {
		sw.streams = true
	}
	s.telem.watches.Add(r.Context(), 1)
	defer s.telem.watches.Add(context.WithoutCancel(r.Context()), -1)

	stream := newEventStream(w)
	if relist {
		stream.relist()
	}
	s.follow(r, sub, stream)
	return nil
}

// watchError is the answer to a watch that could not begin.
func watchError(err error) error {
	switch {
	case errors.Is(err, replica.ErrTooMany):
		return &requestError{http.StatusServiceUnavailable, codeTooManyWatches, "this pod has as many watches as it takes; try again, and reach another one"}
	case errors.Is(err, replica.ErrBehind), errors.Is(err, replica.ErrClosed):
		return &requestError{http.StatusServiceUnavailable, codeUnavailable, "this pod does not know yet what Last-Event-ID stands for; try again with it"}
	}
	return err
}

// follow sends events until the caller goes away, may not watch any more, or the server stops.
func (s *Server) follow(r *http.Request, sub *replica.Subscription, stream *eventStream) {
	stop := context.AfterFunc(s.serving, sub.Close)
	defer stop()
	for stream.err == nil {
		event, err := nextEvent(r.Context(), sub)
		switch {
		case err == nil:
			stream.event(&event)
			s.telem.told(r.Context(), &event)
		case r.Context().Err() != nil:
			return
		case errors.Is(err, context.DeadlineExceeded):
			stream.comment()
		default: // the server stops
			stream.goodbye()
			return
		}
		// The key may have been replaced since the watch began.
		if authenticate(r, s.cfg.APIKey) != nil {
			return
		}
	}
}

// nextEvent waits for an event for no longer than watchIdle.
func nextEvent(ctx context.Context, sub *replica.Subscription) (replica.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, watchIdle)
	defer cancel()
	return sub.Next(ctx)
}

// watchOf returns whom to watch.
func (s *Server) watchOf(w http.ResponseWriter, r *http.Request) (q watchRequest, err error) {
	if r.Method == http.MethodPost {
		q, err = s.watchBody(w, r)
	} else {
		q, err = watchQuery(r)
	}
	switch {
	case err != nil:
		return q, err
	case q.All == (q.Users != nil):
		return q, invalid("send either users, a list of user ids, or all")
	case q.All:
		q.Users = new([]string)
		return q, nil
	case len(*q.Users) == 0:
		return q, invalid("users: is empty")
	case len(*q.Users) > s.cfg.MaxHTTPWatchUsers:
		return q, &requestError{http.StatusBadRequest, codeTooManyUsers,
			"users: " + strconv.Itoa(len(*q.Users)) + " are too many; watch at most " + strconv.Itoa(s.cfg.MaxHTTPWatchUsers) + " at once"}
	}
	return q, checkUsers("users", *q.Users)
}

func (s *Server) watchBody(w http.ResponseWriter, r *http.Request) (q watchRequest, err error) {
	if _, err := parameters(r); err != nil {
		return q, err
	}
	body, err := readBody(w, r, maxListBytes(s.cfg.MaxHTTPWatchUsers))
	if err != nil {
		return q, err
	}
	return q, parseObject(body, &q, `{"users":["..."]}`)
}

// watchQuery reads ?user=a&user=b, or ?all=true.
func watchQuery(r *http.Request) (q watchRequest, err error) {
	params, err := parametersOf(r, "user", "all")
	if err != nil {
		return q, err
	}
	if users, ok := params["user"]; ok {
		q.Users = &users
	}
	if all, ok := params["all"]; ok {
		if len(all) > 1 || all[0] != "true" {
			return q, invalid("all: can only be true")
		}
		q.All = true
	}
	return q, nil
}

// maxListBytes is what a list of n users can take at most: every byte of every id escaped as \u00xx.
func maxListBytes(n int) int64 {
	const escaped, punctuation, rest = 6, 8, 1 << 10
	return int64(n)*(escaped*wire.MaxUserID+punctuation) + rest
}
