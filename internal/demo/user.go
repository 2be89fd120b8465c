package demo

import (
	"context"
	"fmt"

	"github.com/imcluster/imcluster/client"
)

// user is a participant.
type user struct {
	id       string
	received chan client.Message

	conn    *client.Client
	gateway string // by name of the pod
}

func newUser(id string) *user {
	// Room for more than any demonstration sends: the callback must not block.
	return &user{id: id, received: make(chan client.Message, 16)}
}

// logIn connects to a gateway and asks presence which one it is.
func (u *user) logIn(ctx context.Context, cfg Config, url string) error {
	err := reach(ctx, func() (_ bool, err error) {
		u.conn, err = client.Dial(ctx, client.Config{
			URLs: []string{url}, Token: func(context.Context, bool) (string, error) { return cfg.Token(u.id) },
			ManualAck: true, OnMessage: func(_ context.Context, m client.Message) error { u.received <- m; return nil },
		})
		return err == nil, err
	})
	if err != nil {
		return err
	}
	if u.conn.UserID() != u.id {
		return fmt.Errorf("logged in as %s instead of %s", u.conn.UserID(), u.id)
	}
	var last client.UserPresence
	err = reach(ctx, func() (_ bool, err error) {
		last, _, err = cfg.Presence.Get(ctx, u.id)
		return last.State == client.Online && len(last.Devices) == 1, err
	})
	if err != nil {
		return fmt.Errorf("%s logged in, but presence says %q: %w", u.id, last.State, err)
	}
	u.gateway = last.Devices[0].Gateway
	return nil
}

func (u *user) logOut(ctx context.Context) error {
	err := u.conn.Logout(ctx)
	<-u.conn.Done()
	return err
}

func (u *user) close() {
	if u.conn != nil {
		u.conn.Close()
		<-u.conn.Done()
	}
}
