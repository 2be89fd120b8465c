package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/imcluster/imcluster/api/wire"
)

// partBytes is about how many bytes of ids one frame names: servers take frames of 64 KiB unless set otherwise.
const partBytes = 16 << 10

// contacts are the client's subscriptions. The server keeps a list for each connection; here is what it should be, and how
// those on it are.
//
// One change of the list is under way at a time, on the present connection. If that ends first the next one is given the list as
// it was, and the change is tried again there.
type contacts struct {
	c *Client

	turn chan struct{} // holds a token while the list is being changed

	mu      sync.Mutex
	conn    *conn               // that has the list, or is being given it
	unsure  bool                // conn's list may be another one; written by whose turn it is
	list    map[string]*Contact // nil: not known yet
	coming  map[string]*Contact // by the change that is under way
	changed map[string]struct{} // what OnPresence is still to be told
}

func newContacts(c *Client) *contacts {
	return &contacts{c: c, turn: make(chan struct{}, 1), list: map[string]*Contact{}, changed: map[string]struct{}{}}
}

// errConnEnded says that a connection ended before the answer.
var errConnEnded = errors.New("the connection ended")

// begin waits for the turn to change the list.
func (s *contacts) begin(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.c.ctx.Done():
		return cmp.Or(s.c.Err(), ErrClosed)
	}
}

func (s *contacts) end() { <-s.turn }

// change changes the list, on as many connections as it takes.
func (s *contacts) change(ctx context.Context, action string, users []string) ([]Contact, error) {
	err := checkUsers(users)
	if err == nil {
		err = s.begin(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", action, ErrNotSent, err)
	}
	defer s.end()
	for {
		n, err := s.c.awaitConn(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: %w: %w", action, ErrNotSent, err)
		}
		got, err := s.changeOn(ctx, n, action, users)
		if errors.Is(err, errConnEnded) {
			if err = s.c.awaitChange(ctx, n); err == nil {
				continue
			}
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", action, err)
		}
		return got, nil
	}
}

// changeOn changes the list on a connection, which is given the whole one first if it does not have it.
func (s *contacts) changeOn(ctx context.Context, n *conn, action string, users []string) ([]Contact, error) {
	if err := s.restoreOn(ctx, n); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.unsure = true // until the answer
	s.coming = map[string]*Contact{}
	for _, u := range users {
		s.coming[u] = s.list[u]
	}
	s.mu.Unlock()
	err := s.send(ctx, n, action, users)
	s.mu.Lock()
	defer s.mu.Unlock()
	coming := s.coming
	s.coming = nil
	if err != nil {
		// Of a change in parts something may have been done; of others, nothing, if the server says so.
		s.unsure = codeOf(err) == 0 || len(parts(users)) > 1
		return nil, err
	}
	s.unsure = false
	switch action {
	case wire.Unsubscribe:
		for u := range coming {
			delete(s.list, u)
		}
		return nil, nil
	case wire.Replace:
		clear(s.list)
	}
	maps.Copy(s.list, coming)
	got := make([]Contact, 0, len(coming))
	for u := range coming {
		got = append(got, s.contactLocked(u))
	}
	slices.SortFunc(got, func(a, b Contact) int { return cmp.Compare(a.User, b.User) })
	return got, nil
}

// restore gives a new connection the list, as often as it takes, in the background.
func (s *contacts) restore(n *conn) {
	ctx := s.c.ctx
	for {
		if s.begin(ctx) != nil {
			return
		}
		err := s.restoreOn(ctx, n)
		s.end()
		if err == nil || errors.Is(err, errConnEnded) {
			return
		}
		wait := max(delayOf(err), s.c.cfg.MinBackoff)
		if refused, ok := errors.AsType[*Error](err); ok && !refused.Retryable() {
			s.c.report(fmt.Errorf("subscribe again: %w", err))
			return
		}
		select {
		case <-time.After(wait):
		case <-n.ended:
			return
		case <-ctx.Done():
			return
		}
	}
}

// restoreOn gives a connection the list, unless it has it. What is different from what was known is told to OnPresence.
func (s *contacts) restoreOn(ctx context.Context, n *conn) error {
	if s.c.present() != n {
		return errConnEnded // for the client, which is on another one
	}
	s.mu.Lock()
	fresh := s.conn != n
	if !fresh && !s.unsure {
		s.mu.Unlock()
		return nil
	}
	s.conn, s.unsure = n, true
	users := slices.Collect(maps.Keys(s.list))
	s.mu.Unlock()
	if len(users) > 0 || !fresh {
		if err := s.send(ctx, n, wire.Replace, users); err != nil {
			return err
		}
	}
	s.mu.Lock()
	s.unsure = false
	s.mu.Unlock()
	return nil
}

// send sends a change, in parts if it is long, and waits for the answers.
func (s *contacts) send(ctx context.Context, n *conn, action string, users []string) error {
	for i, part := range parts(users) {
		if i > 0 && action == wire.Replace {
			action = wire.Subscribe
		}
		fr := wire.Frame{Type: wire.TypeSubscribe, Action: action, Users: part, RequestID: uuid.NewString()}
		answer, err := n.ask(ctx, fr)
		for err == nil && s.c.cfg.RetryRefused && answer.Code >= wire.CodeUnavailable && answer.Code != wire.CodeTooMuch {
			select {
			case <-time.After(cmp.Or(time.Duration(answer.DelayMS)*time.Millisecond, defaultRetry)):
				answer, err = n.ask(ctx, fr)
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err != nil {
			return err
		}
		if !answer.Code.OK() {
			return refusal(&answer)
		}
	}
	return nil
}

// parts splits a list. An empty one has one part.
func parts(users []string) (parts [][]string) {
	size, from := 0, 0
	for i, u := range users {
		if size += len(u) + 3; size > partBytes && i > from {
			parts = append(parts, users[from:i])
			size, from = len(u)+3, i
		}
	}
	return append(parts, users[from:])
}

// ask sends a change of the list on this connection and no other, and returns the answer. One may be under way.
func (n *conn) ask(ctx context.Context, fr wire.Frame) (wire.Frame, error) {
	select {
	case n.direct <- fr:
	case <-n.ended:
		return wire.Frame{}, errConnEnded
	case <-ctx.Done():
		return wire.Frame{}, fmt.Errorf("%w: %w", ErrNotSent, ctx.Err())
	}
	for {
		select {
		case answer := <-n.listed:
			if answer.RequestID == fr.RequestID {
				return answer, nil
			}
		case <-n.ended:
			return wire.Frame{}, errConnEnded
		case <-ctx.Done():
			return wire.Frame{}, fmt.Errorf("%w: %w", ErrUnknownOutcome, ctx.Err())
		}
	}
}

// told takes over how users are by a frame of connection n: the answer to a change, or an event. It is called in the order of
// the frames.
func (s *contacts) told(n *conn, fr *wire.Frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n != s.conn {
		return
	}
	before := len(s.changed)
	for i := range fr.Presence {
		s.toldLocked(contactOf(&fr.Presence[i]))
	}
	if s.c.cfg.OnPresence != nil && before == 0 && len(s.changed) > 0 {
		s.c.notes.push(s.tell)
	}
}

func (s *contacts) toldLocked(now Contact) {
	known, listed := s.list[now.User]
	if c, ok := s.coming[now.User]; ok && known == nil {
		known = c
	}
	if _, coming := s.coming[now.User]; !listed && !coming {
		return // given up meanwhile
	}
	if known != nil && (known.equal(&now) || now.unavailable()) {
		return // whoever cannot be asked after has not changed
	}
	if listed {
		s.list[now.User] = &now
	}
	if _, ok := s.coming[now.User]; ok {
		s.coming[now.User] = &now
	}
	if known != nil {
		s.changed[now.User] = struct{}{}
	}
}

// tell tells OnPresence who has changed since the last time, by how they are now.
func (s *contacts) tell() {
	s.mu.Lock()
	changes := make([]Contact, 0, len(s.changed))
	for u := range s.changed {
		if s.list[u] != nil || s.coming[u] != nil {
			changes = append(changes, s.contactLocked(u))
		}
	}
	clear(s.changed)
	s.mu.Unlock()
	if len(changes) > 0 {
		slices.SortFunc(changes, func(a, b Contact) int { return cmp.Compare(a.User, b.User) })
		s.c.cfg.OnPresence(changes)
	}
}

func (s *contacts) contactLocked(user string) Contact {
	if c := cmp.Or(s.list[user], s.coming[user]); c != nil {
		return *c
	}
	return Contact{User: user, State: Unknown, Reason: Unavailable}
}

func (s *contacts) all() []Contact {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Contact, 0, len(s.list))
	for u := range s.list {
		all = append(all, s.contactLocked(u))
	}
	slices.SortFunc(all, func(a, b Contact) int { return cmp.Compare(a.User, b.User) })
	return all
}
