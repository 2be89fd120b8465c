package client

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/imcluster/imcluster/api/wire"
)

func sleep(d time.Duration) { <-time.After(d) } // in a bubble

func TestWhatEndsAClient(t *testing.T) {
	for _, tc := range []struct {
		name   string
		script func(*peer)
		want   func(error) bool
	}{
		{"kicked", func(p *peer) { p.send(`{"type":"32","code":304}`); p.drain() }, is(ErrKicked)},
		{"kicked by close code", func(p *peer) { p.close(4304) }, is(ErrKicked)},
		{"revoked", func(p *peer) { p.send(`{"type":"32","code":305}`); p.drain() }, refusedWith(wire.CodeRevoked)},
		{"revoked by close code", func(p *peer) { p.close(4305) }, refusedWith(wire.CodeRevoked)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			serve(t, func(t *testing.T, s *server) {
				var seen changes
				cfg := s.config()
				cfg.OnState = seen.add
				c := s.dial(cfg)
				<-c.Done()
				if !tc.want(c.Err()) || seen.names() != "online ended" {
					t.Errorf("%s because of %v", seen.names(), c.Err())
				}
				if _, err := c.SendText(t.Context(), "bob", "x"); !errors.Is(err, c.Err()) || !errors.Is(err, ErrNotSent) {
					t.Errorf("sending after the end: %v", err)
				}
				if err := c.WaitOnline(t.Context()); !errors.Is(err, c.Err()) {
					t.Errorf("waiting after the end: %v", err)
				}
				if n := len(s.dialled()); n != 1 {
					t.Errorf("connected %d times", n)
				}
			}, then(tc.script))
		})
	}
}

func TestWhatAClientOutlives(t *testing.T) {
	for _, tc := range []struct {
		name   string
		script func(*peer)
		want   func(error) bool // the reason in the state
	}{
		{"idle", func(p *peer) { p.send(`{"type":"30","code":408}`); p.drain() }, is(ErrIdle)},
		{"slow consumer", func(p *peer) { p.close(4603) }, refusedWith(wire.CodeSlowConsumer)},
		{"stopped", func(p *peer) { p.close(1001) }, func(err error) bool { return websocket.IsCloseError(err, 1001) }},
		{"a proxy says good-bye", func(p *peer) { p.close(1000) }, func(err error) bool { return websocket.IsCloseError(err, 1000) }},
		{"cut off", func(*peer) {}, says("EOF")},
		{"cut off within a frame", func(p *peer) { _, _ = p.ws.NetConn().Write([]byte{0x81, 0x7e, 0x10}) }, says("EOF")},
		{"broken frame", func(p *peer) { p.send(`{`); p.drain() }, says("broken frame")},
		{"black hole", func(p *peer) {
			for {
				if _, _, err := p.ws.ReadMessage(); err != nil {
					return
				}
			}
		}, is(ErrSilent)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			serve(t, func(t *testing.T, s *server) {
				var seen changes
				cfg := s.config()
				cfg.OnState = seen.add
				c := s.dial(cfg)
				sleep(time.Minute)
				if seen.names() != "online offline online" || !tc.want(seen.all[1].Err) {
					t.Errorf("%s because of %v", seen.names(), seen.all[1].Err)
				}
				end(c)
			}, then(tc.script), then((*peer).drain))
		})
	}
}

// A peer that does not read any more fills the network's buffers, which a pipe does not have.
func TestConnectionThatTakesNothingIsGivenUp(t *testing.T) {
	serve(t, func(t *testing.T, s *server) {
		c := s.dial(s.config())
		start := time.Now()
		if _, err := c.SendText(t.Context(), "bob", "x"); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > 13*time.Second {
			t.Errorf("took %s", took)
		}
		end(c)
	}, then(func(*peer) { sleep(time.Minute) }), then(func(p *peer) { p.accept(func(wire.Frame) {}) }))
}

func TestPausesGrowAndAreJittered(t *testing.T) {
	serve(t, func(t *testing.T, s *server) {
		s.setRefuse(true)
		cfg := s.config()
		c, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		sleep(10 * time.Minute)
		end(c)
		dials := s.dialled()
		want := defaultMinBackoff
		for i := 1; i < len(dials); i++ {
			if pause := dials[i].Sub(dials[i-1]); pause < want/2 || pause > want {
				t.Errorf("pause %d is %s, not %s to %s", i, pause, want/2, want)
			}
			want = min(2*want, defaultMaxBackoff)
		}
		if n := len(dials); n < 20 || n > 60 {
			t.Errorf("%d attempts in 10 minutes", n)
		}
	})
}

// A client that is thrown out right after every login must not log in twice a second for ever.
func TestPausesGrowAlthoughLoginsSucceed(t *testing.T) {
	var scripts []func(*peer)
	for range 1000 {
		scripts = append(scripts, then(func(p *peer) { p.close(4603) }))
	}
	serve(t, func(t *testing.T, s *server) {
		c := s.dial(s.config())
		sleep(10 * time.Minute)
		end(c)
		if n := len(s.dialled()); n > 60 {
			t.Errorf("%d logins in 10 minutes", n)
		}
	}, scripts...)
}

func TestServersDelayIsObeyed(t *testing.T) {
	serve(t, func(t *testing.T, s *server) {
		c := s.dial(s.config())
		sleep(5 * time.Minute)
		dials := s.dialled()
		if len(dials) != 3 || dials[2].Sub(dials[1]) < time.Minute {
			t.Errorf("connected at %v", dials)
		}
		end(c)
	}, then(func(*peer) {}), func(p *peer) {
		p.expect(`"type":"10"`)
		p.send(`{"type":"11","code":602,"delayMs":60000}`)
		p.close(4602)
		p.drain()
	}, then((*peer).drain))
}

// While the store is not available, a handshake for every login would only add to the load.
func TestLoginIsRepeatedOnTheSameConnection(t *testing.T) {
	serve(t, func(t *testing.T, s *server) {
		c, err := New(s.config())
		if err != nil {
			t.Fatal(err)
		}
		if err := c.WaitOnline(t.Context()); err != nil {
			t.Error(err)
		}
		if n := len(s.dialled()); n != 1 {
			t.Errorf("connected %d times", n)
		}
		end(c)
	}, func(p *peer) {
		for range 2 {
			p.expect(`"type":"10"`)
			p.send(`{"type":"11","code":500,"delayMs":40000}`)
		}
		p.login()
		p.drain()
	})
}

// A laptop that slept finds out soon that its connection is gone, although its timers stood still.
func TestConnectionIsCheckedAfterSleeping(t *testing.T) {
	for name, tc := range map[string]struct {
		jump time.Duration
		gone bool // the connection
	}{"slept": {time.Hour, true}, "clock set forward": {time.Hour, false}, "clock set back": {-time.Hour, false}} {
		t.Run(name, func(t *testing.T) {
			serve(t, func(t *testing.T, s *server) {
				var mu sync.Mutex
				var jump time.Duration
				var seen changes
				cfg := s.config()
				cfg.OnState = seen.add
				cfg.wall = func() time.Time {
					mu.Lock()
					defer mu.Unlock()
					return time.Now().Round(0).Add(jump)
				}
				c := s.dial(cfg)
				sleep(15 * time.Second)
				mu.Lock()
				jump = tc.jump
				mu.Unlock()
				sleep(11 * time.Second) // a ping at 20 s, 5 s for the answer
				want := "online"
				if tc.gone {
					want = "online offline online"
				}
				if seen.names() != want {
					t.Errorf("%s, want %s", seen.names(), want)
				}
				end(c)
			}, then(func(p *peer) {
				if !tc.gone {
					p.drain()
					return
				}
				p.expect(`{"type":"40"}`)
				p.send(`{"type":"41"}`)
				p.expect(`{"type":"40"}`) // and no answer
				sleep(time.Hour)
			}), then((*peer).drain))
		})
	}
}

func TestLogoutComesAfterWhatHasBegun(t *testing.T) {
	serve(t, func(t *testing.T, s *server) {
		cfg := s.config()
		cfg.OnMessage = func(context.Context, Message) error { sleep(time.Second); return nil }
		c := s.dial(cfg)
		synctest.Wait()
		sent := make(chan error, 1)
		c.SendAsync(t.Context(), Outgoing{To: "bob", Content: Text("bye")}, func(_ Receipt, err error) { sent <- err })
		if err := c.Logout(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
		<-c.Done()
		if !errors.Is(c.Err(), ErrClosed) {
			t.Errorf("ended because of %v", c.Err())
		}
	}, then(func(p *peer) {
		p.hello("m1", "")
		fr, _ := p.frame()
		p.send(`{"type":"81","code":200,"clientMsgId":%q}`, fr.ClientMsgID)
		p.expect(`{"type":"90","msgId":"m1"}`)
		p.send(`{"type":"91","code":200,"msgId":"m1"}`)
		p.expect(`{"type":"12"}`)
		p.close(1000)
		p.drain()
	}))
}

// A connection that breaks before the answer to the logout leaves the device online: the next one logs it out.
func TestForgottenDeviceSaysSo(t *testing.T) {
	serve(t, func(t *testing.T, s *server) {
		if err := s.dial(s.config()).Forget(t.Context()); err != nil {
			t.Error(err)
		}
	}, then(func(p *peer) {
		p.expect(`{"type":"12","action":"forget"}`)
		p.close(1000)
		p.drain()
	}))
}

func TestLogoutOutlivesAConnection(t *testing.T) {
	serve(t, func(t *testing.T, s *server) {
		c := s.dial(s.config())
		if err := c.Logout(t.Context()); err != nil {
			t.Error(err)
		}
		if n := len(s.dialled()); n != 2 {
			t.Errorf("connected %d times", n)
		}
	}, then(func(p *peer) { p.expect(`{"type":"12"}`) }), then(func(p *peer) {
		p.expect(`{"type":"12"}`)
		p.close(1000)
		p.drain()
	}))
}

func TestShutdownEndsWithItsContext(t *testing.T) {
	serve(t, func(t *testing.T, s *server) {
		c := s.dial(s.config())
		result := make(chan error, 1)
		c.SendAsync(t.Context(), Outgoing{To: "bob", Content: Text("x")}, func(_ Receipt, err error) { result <- err })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if err := <-result; !errors.Is(err, ErrUnknownOutcome) || !errors.Is(err, ErrClosed) {
			t.Errorf("the message: %v", err)
		}
		<-c.Done()
	}, then((*peer).drain))
}

// Callbacks may do what they like.
func TestClosingFromCallbacks(t *testing.T) {
	serve(t, func(_ *testing.T, s *server) {
		var c *Client
		ready := make(chan struct{})
		cfg := s.config()
		cfg.OnMessage = func(context.Context, Message) error { <-ready; c.Close(); return nil }
		c = s.dial(cfg)
		close(ready)
		<-c.Done()
	}, then(func(p *peer) { p.hello("m1", ""); p.drain() }))
}
