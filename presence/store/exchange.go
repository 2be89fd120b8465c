package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// request is one command whose order among others does not matter, except among those to the same node.
type request struct {
	part int   // who is asked: a partition, or gateways
	on   *node // instead of part, if not nil
	args []any

	cmd  *redis.Cmd
	sent int // how often it was sent
	err  error
}

func read(part int, args ...any) *request { return &request{part: part, args: args} }

func eval(part int, sc *script, keys []string, args ...any) *request {
	return &request{part: part, args: sc.eval(keys, args...)}
}

// exchange runs requests in one pipeline per node, all nodes at once. What a node refuses because it does not serve the slot
// or know the script is tried again; that is the only case of more than one round trip. The error is that of the first
// request that failed; each has its own.
func (s *Store) exchange(ctx context.Context, reqs ...*request) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	pending := reqs
	for attempt := 0; len(pending) > 0; attempt++ {
		s.round(ctx, pending)
		var again []*request
		refresh := false
		for _, r := range pending {
			switch classify(r.err) {
			case success:
				continue
			case moved:
				refresh = true
				r.on = s.servers.redirected(r.err, s.nodeOf(r))
			case demoted:
				refresh = true
			case migrating:
				s.followAsk(ctx, r)
				continue
			case noScript:
				if err := loadScripts(ctx, s.nodeOf(r).reads); err != nil {
					continue
				}
			case connection:
				refresh = true // a failover, perhaps
				// A pooled connection that the server closed fails once. A time out would only fail again.
				if attempt > 0 || ctx.Err() != nil || isTimeout(r.err) {
					continue
				}
			default:
				continue
			}
			again = append(again, r)
		}
		if refresh {
			_ = s.servers.refresh(ctx) // the errors of the requests say it already
		}
		if attempt == 2 {
			break
		}
		pending = again
	}
	for _, r := range reqs {
		if err := wrap(r.err); err != nil {
			return err
		}
	}
	return nil
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &t) && t.Timeout()
}

func (s *Store) nodeOf(r *request) *node {
	if r.on != nil {
		return r.on
	}
	return s.servers.routes.Load().node[r.part]
}

// round sends requests once.
func (s *Store) round(ctx context.Context, reqs []*request) {
	first := s.nodeOf(reqs[0])
	groups := map[*node][]*request{}
	for _, r := range reqs {
		if n := s.nodeOf(r); n != first || len(groups) > 0 {
			groups[n] = nil
		}
	}
	if len(groups) == 0 {
		first.pipeline(ctx, reqs)
		return
	}
	clear(groups)
	for _, r := range reqs {
		n := s.nodeOf(r)
		groups[n] = append(groups[n], r)
	}
	var wg sync.WaitGroup
	for n, group := range groups {
		wg.Go(func() { n.pipeline(ctx, group) })
	}
	wg.Wait()
}

func (n *node) pipeline(ctx context.Context, reqs []*request) {
	p := n.reads.Pipeline()
	for _, r := range reqs {
		r.cmd = redis.NewCmd(ctx, r.args...)
		r.sent++
		_ = p.Process(ctx, r.cmd) // queues
	}
	cmds, err := p.Exec(ctx)
	spread(cmds, err)
	for _, r := range reqs {
		r.err = r.cmd.Err()
		if classify(r.err) == success {
			r.err = nil // it may be redis.Nil
		}
	}
}

// spread gives the error of a pipeline to its commands. When a connection cannot be made because the server refuses the
// login, or is loading its data, the client library does not tell the commands, and they look as if they had succeeded.
func spread(cmds []redis.Cmder, err error) {
	if err == nil {
		return
	}
	for _, c := range cmds {
		if c.Err() != nil {
			return // it is the error of some command
		}
	}
	for _, c := range cmds {
		c.SetErr(err)
	}
}

// followAsk runs a read on the node that a slot is being moved to.
func (s *Store) followAsk(ctx context.Context, r *request) {
	if !strings.HasPrefix(r.err.Error(), "ASK ") {
		return
	}
	n := s.servers.redirected(r.err, s.nodeOf(r))
	if n == nil {
		return
	}
	p := n.reads.Pipeline()
	p.Do(ctx, "asking")
	r.cmd = redis.NewCmd(ctx, r.args...)
	_ = p.Process(ctx, r.cmd) // queues
	cmds, err := p.Exec(ctx)
	spread(cmds, err)
	if r.err = r.cmd.Err(); classify(r.err) == success {
		r.err = nil
	}
}

// The accessors below take replies apart. A reply of another shape is empty, which every caller treats as no data.

func (r *request) list() []any {
	if r.err != nil || r.cmd == nil {
		return nil
	}
	list, _ := r.cmd.Val().([]any)
	return list
}

func (r *request) text() string {
	if r.err != nil || r.cmd == nil {
		return ""
	}
	return textOf(r.cmd.Val())
}

func textOf(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case int64:
		return strconv.FormatInt(v, 10)
	}
	return ""
}

func intOf(v any) int64 {
	switch v := v.(type) {
	case int64:
		return v
	case string:
		n, err := strconv.ParseInt(v, 10, 64)
		if err == nil {
			return n
		}
	}
	return 0
}

// timeOf reads the reply of TIME as unix milliseconds; 0 if it is none.
func timeOf(r *request) int64 {
	if t := r.list(); len(t) == 2 {
		return intOf(t[0])*1000 + intOf(t[1])/1000
	}
	return 0
}

// tableCall runs a script of the lease table. It returns the reply after the status, and an error for a bad status.
func (s *Store) tableCall(ctx context.Context, sc *script, args ...any) (tableReply, error) {
	r := eval(gateways, sc, s.keys.table, append([]any{
		s.cfg.step().Milliseconds(), randomGeneration(), s.cfg.Owner, s.cfg.LeaseTTL.Milliseconds(), s.fresh(),
	}, args...)...)
	if err := s.exchange(ctx, r); err != nil {
		return tableReply{}, err
	}
	list := r.list()
	if len(list) == 0 {
		return tableReply{}, fmt.Errorf("lease table: unexpected reply %v", r.cmd.Val())
	}
	switch status := textOf(list[0]); status {
	case "FOREIGN":
		return tableReply{}, fmt.Errorf("%w, %s: use another key prefix, or delete the key %q if that IMCluster is gone for good",
			ErrForeignOwner, textOf(list[1]), s.keys.owner)
	case "SCHEMA":
		return tableReply{}, fmt.Errorf("%w: the data has schema %q", ErrIncompatible, textOf(list[1]))
	case "BANNED":
		return tableReply{}, ErrBanned
	case "FENCED":
		return tableReply{}, ErrFenced
	case "FULL":
		return tableReply{}, ErrTooManyServers
	}
	if len(list) < 4 {
		return tableReply{}, fmt.Errorf("lease table: unexpected reply %v", list)
	}
	reply := tableReply{now: intOf(list[1]), wall: intOf(list[2]), gen: textOf(list[3])}
	for _, e := range list[4:] {
		reply.epochs = append(reply.epochs, Epoch(textOf(e)))
	}
	return reply, nil
}

// tableReply is what the scripts of the lease table return.
type tableReply struct {
	now, wall int64 // ms
	gen       string
	epochs    []Epoch
}
