package client

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/imcluster/imcluster/api/wire"
)

func TestLogin(t *testing.T) {
	serve(t, func(t *testing.T, s *server) {
		c := s.dial(s.config())
		if c.UserID() != "alice" || c.DeviceID() != "default" || c.SessionID() != "s1" || c.Err() != nil || c.State().State != StateOnline {
			t.Errorf("logged in as %s on %s, session %s, %v, %s", c.UserID(), c.DeviceID(), c.SessionID(), c.Err(), c.State().State)
		}
		end(c)
		if !errors.Is(c.Err(), ErrClosed) || c.State().State != StateEnded {
			t.Errorf("ended because of %v", c.Err())
		}
	}, then((*peer).drain))
}

func TestDialFailsAtOnce(t *testing.T) {
	for _, tc := range []struct {
		name   string
		script func(*peer)
		url    string
		want   func(error) bool
	}{
		{name: "refused", script: func(p *peer) {
			p.send(`{"type":"11","code":301,"message":"no"}`)
			p.close(4301)
		}, want: refusedWith(wire.CodeInvalidToken)},
		{name: "too busy", script: func(p *peer) { p.close(4602) }, want: refusedWith(wire.CodeTooManyConns)},
		{name: "store not available", script: func(p *peer) {
			p.send(`{"type":"11","code":500,"delayMs":60000}`)
			p.drain()
		}, want: refusedWith(wire.CodeUnavailable)},
		{name: "silence", script: (*peer).drain, want: is(ErrSilent)},
		{name: "not a frame", script: func(p *peer) { p.send("hello") }, want: says("broken frame")},
		{name: "no login answer", script: func(p *peer) { p.send(`{"type":"81","code":200}`) }, want: says("answered with CHAT_RESP")},
		{name: "not a gateway", url: "ws://gateway/elsewhere", want: says("HTTP 404")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			serve(t, func(t *testing.T, s *server) {
				cfg := s.config()
				if tc.url != "" {
					cfg.URLs = []string{tc.url}
				}
				_, err := Dial(t.Context(), cfg)
				if err == nil || !tc.want(err) {
					t.Errorf("got %v", err)
				}
			}, func(p *peer) { p.expect(`"type":"10"`); tc.script(p) })
		})
	}
}

func TestDialEndsWithItsContext(t *testing.T) {
	serve(t, func(t *testing.T, s *server) {
		ctx, cancel := context.WithCancel(t.Context())
		go func() { synctest.Wait(); cancel() }()
		if _, err := Dial(ctx, s.config()); !is(context.Canceled)(err) {
			t.Errorf("got %v", err)
		}
	}, (*peer).drain)
}

func TestBadConfiguration(t *testing.T) {
	token := StaticToken("alice")
	for name, cfg := range map[string]Config{
		"no URL":        {Token: token},
		"no token":      {URLs: []string{"ws://gateway"}},
		"not WebSocket": {URLs: []string{"http://gateway"}, Token: token},
		"broken URL":    {URLs: []string{"ws://%zz"}, Token: token},
		"bad device":    {URLs: []string{"ws://gateway"}, Token: token, DeviceID: "\x00"},
		"bad platform":  {URLs: []string{"ws://gateway"}, Token: token, Platform: "My Phone"},
		"negative":      {URLs: []string{"ws://gateway"}, Token: token, MaxQueued: -1},
	} {
		if c, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
			end(c)
		}
	}
}

func TestTokenInTheHandshake(t *testing.T) {
	serve(t, func(_ *testing.T, s *server) {
		cfg := s.config()
		cfg.TokenInHandshake = true
		end(s.dial(cfg))
	}, func(p *peer) {
		if p.auth != "Bearer alice" {
			p.t.Errorf("Authorization is %q", p.auth)
		}
		p.send(`{"type":11,"code":200,"userId":"alice","deviceId":"default"}`)
		p.drain()
	})
}

func TestNextURLIsTriedWhenOneFails(t *testing.T) {
	serve(t, func(t *testing.T, s *server) {
		cfg := s.config()
		cfg.URLs = []string{"ws://gateway/elsewhere", "ws://gateway"}
		c := s.dial(cfg)
		if url := c.State().URL; url != "ws://gateway/ws" {
			t.Errorf("connected to %s", url)
		}
		end(c)
	}, then((*peer).drain))
}

// TestNumbersOfTheServerThatFitIntoNoDuration are bounded: as durations they would be negative, which stops no time at all, and
// no ticker takes.
func TestNumbersOfTheServerThatFitIntoNoDuration(t *testing.T) {
	const much = 1 << 53
	serve(t, func(t *testing.T, s *server) {
		c := s.dial(s.config())
		_, err := c.Send(t.Context(), Outgoing{To: "bob", Content: Text("x")})
		refused, ok := errors.AsType[*Error](err)
		if !ok || refused.Code != wire.CodeTooManyFrames || refused.Delay != maxWait {
			t.Errorf("got %#v", err)
		}
		end(c)
	}, func(p *peer) {
		p.expect(`"type":"10"`)
		p.send(`{"type":"11","code":200,"userId":"alice","deviceId":"default","sessionId":"s1","heartbeatSeconds":%d,"time":1}`, much)
		fr, _ := p.frame()
		p.send(`{"type":"81","code":601,"clientMsgId":%q,"delayMs":%d}`, fr.ClientMsgID, much)
		p.drain()
	})
	for _, tc := range []struct {
		n    int64
		unit time.Duration
		want time.Duration
	}{{-1, time.Second, 0}, {5, time.Millisecond, 5 * time.Millisecond}, {3601, time.Second, maxWait}, {1 << 62, time.Second, maxWait}} {
		if got := bounded(tc.n, tc.unit); got != tc.want {
			t.Errorf("%d × %v is %v, want %v", tc.n, tc.unit, got, tc.want)
		}
	}
}

// TestLoginRefusedForNowWithoutADelayIsNotTriedWithoutPause: an older server, or a proxy that makes up answers, names none.
func TestLoginRefusedForNowWithoutADelayIsNotTriedWithoutPause(t *testing.T) {
	serve(t, func(t *testing.T, s *server) {
		begin := time.Now()
		c, err := New(s.config())
		if err != nil {
			t.Fatal(err)
		}
		if err := c.WaitOnline(t.Context()); err != nil {
			t.Error(err)
		}
		if d := time.Since(begin); d < 3*defaultRetry {
			t.Errorf("refused three times, and logged in after %v", d)
		}
		end(c)
	}, func(p *peer) {
		for range 3 {
			p.expect(`"type":"10"`)
			p.send(`{"type":"11","code":500}`)
		}
		p.login()
		p.drain()
	})
}
