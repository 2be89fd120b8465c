package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/imcluster/imcluster/api/wire"
)

// tokens is a source that counts.
type tokens struct {
	mu    sync.Mutex
	fresh int
	calls int
}

func (s *tokens) get(_ context.Context, fresh bool) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if fresh {
		s.fresh++
	}
	return fmt.Sprint("token", s.fresh), nil
}

func TestExpiredTokenIsReplaced(t *testing.T) {
	serve(t, func(t *testing.T, s *server) {
		var source tokens
		cfg := s.config()
		cfg.Token = source.get
		c := s.dial(cfg)
		sleep(time.Minute)
		if s := c.State(); s.State != StateOnline {
			t.Errorf("%s because of %v", s.State, s.Err)
		}
		if source.fresh != 3 || source.calls != 4 {
			t.Errorf("%d calls, %d for fresh ones", source.calls, source.fresh)
		}
		end(c)
	}, func(p *peer) { // the first login, with an old token
		p.expect(`"token":"token0"`)
		p.send(`{"type":"11","code":302}`)
		p.close(4302)
		p.drain()
	}, func(p *peer) { // expires while connected
		p.expect(`"token":"token1"`)
		p.welcome()
		p.close(4302)
		p.drain()
	}, func(p *peer) { p.close(4602); p.drain() }, // nobody has taken the fresh one
		func(p *peer) {
			p.expect(`"token":"token3"`)
			p.welcome()
			p.drain()
		})
}

func TestTokenThatIsRefusedTwiceEndsTheClient(t *testing.T) {
	refuse := func(p *peer) {
		p.expect(`"type":"10"`)
		p.send(`{"type":"11","code":301,"message":"who?"}`)
		p.close(4301)
		p.drain()
	}
	for name, fresh := range map[string]bool{"same token": false, "fresh token": true} {
		t.Run(name, func(t *testing.T) {
			serve(t, func(t *testing.T, s *server) {
				cfg := s.config()
				if fresh {
					var source tokens
					cfg.Token = source.get
				}
				c, err := New(cfg)
				if err != nil {
					t.Fatal(err)
				}
				<-c.Done()
				if !refusedWith(wire.CodeInvalidToken)(c.Err()) {
					t.Errorf("ended because of %v", c.Err())
				}
				if n := len(s.dialled()); n != map[bool]int{false: 1, true: 2}[fresh] {
					t.Errorf("connected %d times", n)
				}
			}, refuse, refuse)
		})
	}
}

func TestSourceWithoutTokens(t *testing.T) {
	serve(t, func(t *testing.T, s *server) {
		var up atomic.Bool
		cfg := s.config()
		cfg.Token = func(context.Context, bool) (string, error) {
			if !up.Load() {
				return "", errors.New("the back end is down")
			}
			return "", fmt.Errorf("alice left: %w", ErrSignedOut)
		}
		c, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		sleep(time.Minute)
		if s := c.State(); s.State != StateOffline || !says("back end is down")(s.Err) {
			t.Errorf("%s because of %v", s.State, s.Err)
		}
		up.Store(true)
		<-c.Done()
		if !errors.Is(c.Err(), ErrSignedOut) {
			t.Errorf("ended because of %v", c.Err())
		}
	})
}

// The session is renewed in time by the server's clock, which here is a year behind.
func TestSessionIsRenewedBeforeItsTokenExpires(t *testing.T) {
	const lifetime = 10 * time.Minute
	renewals := 0
	serve(t, func(t *testing.T, s *server) {
		var source tokens
		cfg := s.config()
		cfg.Token = source.get
		c := s.dial(cfg)
		sleep(time.Hour)
		if n := len(s.dialled()); n != 1 {
			t.Errorf("connected %d times", n)
		}
		end(c)
		if renewals < 6 || renewals > 9 {
			t.Errorf("%d renewals in an hour", renewals)
		}
	}, func(p *peer) {
		welcome := func() time.Time {
			now := time.Now().AddDate(-1, 0, 0)
			p.send(`{"type":"11","code":200,"userId":"alice","deviceId":"default","heartbeatSeconds":10,"time":%d,"expiresAt":%d}`,
				now.UnixMilli(), now.Add(lifetime).UnixMilli())
			return time.Now().Add(lifetime)
		}
		p.expect(`"token":"token0"`)
		for expires := welcome(); ; expires = welcome() {
			fr, ok := p.frame()
			if !ok {
				return
			}
			renewals++
			if left := time.Until(expires); fr.Token != fmt.Sprint("token", renewals) || left < lifetime/10 || left > lifetime/3 {
				p.t.Errorf("renewed with %s when %s were left", fr.Token, left)
			}
		}
	})
}
