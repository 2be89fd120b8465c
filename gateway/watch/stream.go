package watch

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	presencev1 "github.com/imcluster/imcluster/api/presence/v1"
)

const (
	// minBackoff and maxBackoff bound how long it takes until the hub comes back to presence.
	minBackoff = 100 * time.Millisecond
	maxBackoff = 5 * time.Second
	// partUsers is how many users one request names at most: a list may take several. With ids of 128 bytes it has 2.6 MB.
	partUsers = 20000
	// maxMessage bounds what presence may send at once.
	maxMessage = 16 << 20
)

// stream is what the hub needs of the call.
type stream = grpc.BidiStreamingClient[presencev1.WatchRequest, presencev1.WatchResponse]

// Run keeps the stream until ctx ends.
func (h *Hub) Run(ctx context.Context) {
	backoff := minBackoff
	for ctx.Err() == nil {
		began := time.Now()
		err := h.follow(ctx)
		h.setLive(false)
		if status.Code(err) == codes.OutOfRange && h.dropToken() {
			continue
		}
		if time.Since(began) > maxBackoff {
			backoff = minBackoff
		}
		if ctx.Err() == nil {
			h.cfg.Logger.Warn("the watch of presence ended; it is begun again", "error", err, "in", backoff)
		}
		select {
		case <-ctx.Done():
		case <-time.After(backoff/2 + rand.N(backoff)):
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// authorized adds to a call who asks.
func (h *Hub) authorized(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+h.cfg.Key())
}

// Query asks presence how users are, once.
func (h *Hub) Query(ctx context.Context, users []string) (*presencev1.BatchGetResponse, error) {
	return h.cfg.Client.BatchGet(h.authorized(ctx), &presencev1.BatchGetRequest{Users: users}, grpc.MaxCallRecvMsgSize(maxMessage))
}

// dropToken has the next stream begin with a list of all, and tells whether that makes a difference.
func (h *Hub) dropToken() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	had := h.token != ""
	h.token = ""
	return had
}

// follow begins a stream with the list of now, and follows it until it ends.
func (h *Hub) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := h.cfg.Client.Watch(h.authorized(ctx), grpc.MaxCallRecvMsgSize(maxMessage))
	if err != nil {
		return err
	}
	h.streams.Add(1)
	token, users := h.begin()
	var sender sync.WaitGroup
	defer sender.Wait()
	defer cancel()
	sender.Go(func() {
		if sendList(s, &presencev1.WatchRequest{Token: token}, users) {
			h.sendChanges(ctx, s)
		}
	})
	return h.receive(s, token != "")
}

// begin makes all topics those of a new stream.
func (h *Hub) begin() (token string, users []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.forgetLocked(time.Now())
	h.fresh, h.removed = nil, nil
	h.stream++
	users = make([]string, 0, len(h.topics))
	for user, t := range h.topics {
		t.sent = true
		users = append(users, user)
	}
	h.unlisted = len(users)
	return h.token, users
}

// sendList sends what adds users, in parts. It returns false when the stream is over: its receiver learns why.
func sendList(s stream, first *presencev1.WatchRequest, users []string) bool {
	r := first
	for {
		n := min(len(users), partUsers)
		r.Add, users = users[:n], users[n:]
		r.More = len(users) > 0
		if s.Send(r) != nil {
			return false
		}
		if len(users) == 0 {
			return true
		}
		r = &presencev1.WatchRequest{}
	}
}

// sendChanges tells presence who is new and who is gone, until ctx ends.
func (h *Hub) sendChanges(ctx context.Context, s stream) {
	sweep := time.NewTicker(linger)
	defer sweep.Stop()
	for {
		select {
		case <-h.kick:
		case <-sweep.C:
		case <-ctx.Done():
			return
		}
		add, remove := h.take(time.Now())
		for len(remove) > 0 { // first: who went and came back is in both
			n := min(len(remove), partUsers)
			if s.Send(&presencev1.WatchRequest{Remove: remove[:n]}) != nil {
				return
			}
			remove = remove[n:]
		}
		if len(add) > 0 && !sendList(s, &presencev1.WatchRequest{}, add) {
			return
		}
	}
}

// take returns what presence has to be told.
func (h *Hub) take(now time.Time) (add, remove []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.forgetLocked(now)
	for _, t := range h.fresh {
		if !t.gone {
			t.sent, t.listed = true, h.stream
			add = append(add, t.user)
		}
	}
	remove, h.fresh, h.removed = h.removed, nil, nil
	return add, remove
}

// receive takes over what presence says until the stream ends. One that goes on after a token is live at once; any other one
// when all that it was begun with was heard of: until then what is known may be old.
func (h *Hub) receive(s stream, resumed bool) error {
	if header, err := s.Header(); err == nil && header != nil && resumed {
		h.setLive(true)
	}
	for {
		m, err := s.Recv()
		if err != nil {
			return err
		}
		h.apply(m)
		if !m.GetMore() {
			h.mu.Lock()
			h.setLiveLocked(h.live || resumed || h.unlisted == 0)
			h.mu.Unlock()
		}
	}
}

// heardLocked notes that presence has said how a user is.
func (h *Hub) heardLocked(t *Topic) {
	if t.listed != h.stream {
		t.listed = h.stream
		h.unlisted--
	}
}
