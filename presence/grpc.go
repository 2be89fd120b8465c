package presence

import (
	"context"
	"fmt"
	"net"

	"github.com/imcluster/imcluster/internal/secretdir"
	"github.com/imcluster/imcluster/presence/replica"
	"github.com/imcluster/imcluster/presence/rpc"
	"github.com/imcluster/imcluster/presence/store"
)

// rpcEndpoint is the gRPC listener and the server on it.
type rpcEndpoint struct {
	listener net.Listener
	server   *rpc.Server
}

// openRPC opens the gRPC listener.
func (s *Server) openRPC() error {
	keys := []*secretdir.Secret{s.cfg.APIKey}
	if s.cfg.PeerKey != nil {
		keys = append(keys, s.cfg.PeerKey)
	}
	server, err := rpc.New(rpc.Config{
		Model: rpcModel{s.model, s}, Keys: keys, OpenUserStatus: s.cfg.OpenUserStatus,
		MaxQueryUsers: s.cfg.MaxQueryUsers, MaxWatchUsers: s.cfg.MaxWatchUsers, Answered: s.telem.answered,
		Logger: s.log, Meters: s.cfg.Meters, Tracers: s.cfg.Tracers,
	})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", s.cfg.GRPCListen)
	if err != nil {
		return err
	}
	s.rpc = &rpcEndpoint{listener: listener, server: server}
	return nil
}

func (e *rpcEndpoint) serve() error {
	if err := e.server.Serve(e.listener); err != nil {
		return fmt.Errorf("serve %s: %w", e.listener.Addr(), err)
	}
	return nil
}

// setServing has health say that the server is ready, if gRPC is served.
func (e *rpcEndpoint) setServing() {
	if e != nil {
		e.server.SetServing()
	}
}

// drain has health say for good that it is not.
func (e *rpcEndpoint) drain() {
	if e != nil {
		e.server.Drain()
	}
}

// close releases what was never served.
func (e *rpcEndpoint) close() {
	if e != nil {
		e.server.Stop(context.Background())
		_ = e.listener.Close()
	}
}

// GRPCAddr is the address of the gRPC API, nil if it is not served.
func (s *Server) GRPCAddr() net.Addr {
	if s.rpc == nil {
		return nil
	}
	return s.rpc.listener.Addr()
}

// rpcModel is what the gRPC server asks.
type rpcModel struct {
	*lateStore
	server *Server
}

func (m rpcModel) Watch(users []string, all bool, token string) (*replica.Subscription, error) {
	return m.server.replica.Watch(users, all, token)
}

func (m rpcModel) SetStatus(ctx context.Context, user string, status store.Status) error {
	return m.server.changeStatus(ctx, user, status)
}

// externals is what the store does for chat servers that are no gateways, and for who sets the status of users.
type externals interface {
	SetStatus(ctx context.Context, user string, status store.Status) (store.StatusChange, error)
	RegisterExternal(ctx context.Context, server, user, device string) error
	UnregisterExternal(ctx context.Context, server, user, device string) error
	KeepExternal(ctx context.Context, server string, started bool) (store.External, error)
}

func (l *lateStore) SetStatus(ctx context.Context, user string, status store.Status) (store.StatusChange, error) {
	return ask(ctx, l, func(ctx context.Context, m model) (store.StatusChange, error) { return m.SetStatus(ctx, user, status) })
}

func (l *lateStore) RegisterExternal(ctx context.Context, server, user, device string) error {
	_, err := ask(ctx, l, func(ctx context.Context, m model) (nothing, error) {
		return nothing{}, m.RegisterExternal(ctx, server, user, device)
	})
	return err
}

func (l *lateStore) UnregisterExternal(ctx context.Context, server, user, device string) error {
	_, err := ask(ctx, l, func(ctx context.Context, m model) (nothing, error) {
		return nothing{}, m.UnregisterExternal(ctx, server, user, device)
	})
	return err
}

func (l *lateStore) KeepExternal(ctx context.Context, server string, started bool) (store.External, error) {
	return ask(ctx, l, func(ctx context.Context, m model) (store.External, error) {
		return m.KeepExternal(ctx, server, started)
	})
}
