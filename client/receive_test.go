package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/imcluster/imcluster/api/wire"
)

// hello is a message to alice.
func (p *peer) hello(id string, more string) {
	p.send(`{"type":"80","msgId":%q,"fromId":"bob","toId":"alice","time":5%s,"content":{"contentType":1,"body":"hi"}}`, id, more)
}

// acked reads acknowledgements until the client has gone, answers them, and returns the ids.
func (p *peer) acked() (ids []string) {
	for {
		fr, ok := p.frame()
		if !ok {
			return ids
		}
		ids = append(ids, fr.MsgID)
		p.send(`{"type":"91","code":200,"msgId":%q}`, fr.MsgID)
	}
}

func TestMessagesAreAcknowledgedWhenHandled(t *testing.T) {
	serve(t, func(t *testing.T, s *server) {
		var c *Client
		ready := make(chan struct{})
		cfg := s.config()
		cfg.OnMessage = func(ctx context.Context, m Message) error {
			<-ready
			// A handler may wait for answers of the server.
			_, err := c.SendText(ctx, m.From, "re: "+m.Text())
			return err
		}
		c = s.dial(cfg)
		close(ready)
		synctest.Wait()
		end(c)
	}, then(func(p *peer) {
		p.hello("m7", "")
		fr, _ := p.frame()
		if fr.ToID != "bob" || string(fr.Content) != string(Text("re: hi")) {
			p.t.Errorf("got %+v", fr)
		}
		p.send(`{"type":"81","code":200,"clientMsgId":%q}`, fr.ClientMsgID)
		p.expect(`{"type":"90","msgId":"m7"}`)
		p.drain()
	}))
}

func TestWhatMessagesSay(t *testing.T) {
	var got []Message
	serve(t, func(t *testing.T, s *server) {
		cfg := s.config()
		cfg.OnMessage = func(_ context.Context, m Message) error { got = append(got, m); return nil }
		c := s.dial(cfg)
		synctest.Wait()
		end(c)
		if len(got) != 3 {
			t.Fatalf("got %+v", got)
		}
		if m := got[0]; m.ID != "m1" || m.From != "bob" || m.To != "alice" || m.Time.UnixMilli() != 5 || !m.Redelivered || m.Missed != 7 || m.Text() != "hi" || m.Broadcast() {
			t.Errorf("private: %+v", m)
		}
		if m := got[1]; m.Group != "team" || m.To != "" || m.Text() != "" || string(m.Content) != `[1]` || m.Broadcast() {
			t.Errorf("group: %+v", m)
		}
		if m := got[2]; !m.Broadcast() {
			t.Errorf("broadcast: %+v", m)
		}
	}, then(func(p *peer) {
		p.hello("m1", `,"redelivered":true,"missed":7`)
		p.send(`{"type":"82","msgId":"m2","fromId":"bob","groupId":"team","time":5,"content":[1]}`)
		p.send(`{"type":"86","msgId":"m3","fromId":"bob","time":5,"content":1}`)
		if ids := p.acked(); !slices.Equal(ids, []string{"m1", "m2"}) {
			p.t.Errorf("acknowledged: %v", ids)
		}
	}))
}

// A message that comes again is acknowledged again, and handled again only if it was not handled.
func TestMessagesThatComeAgain(t *testing.T) {
	var handled []string
	serve(t, func(t *testing.T, s *server) {
		fail := true
		var reported error
		cfg := s.config()
		cfg.OnMessage = func(_ context.Context, m Message) error {
			handled = append(handled, m.ID)
			if m.ID == "bad" && fail {
				fail = false
				return errors.New("disk full")
			}
			return nil
		}
		cfg.OnError = func(err error) { reported = err }
		c := s.dial(cfg)
		sleep(time.Minute)
		end(c)
		var failed *MessageError
		if !errors.As(reported, &failed) || failed.Message.ID != "bad" {
			t.Errorf("reported: %v", reported)
		}
		if !slices.Equal(handled, []string{"good", "bad", "bad"}) {
			t.Errorf("handled: %v", handled)
		}
	}, then(func(p *peer) { // breaks with the acknowledgement on its way
		p.hello("good", "")
		p.expect(`{"type":"90","msgId":"good"}`)
		p.hello("bad", "")
		synctest.Wait()
	}), then(func(p *peer) {
		p.hello("good", "")
		p.hello("bad", "")
		if ids := p.acked(); !slices.Equal(ids, []string{"good", "bad"}) {
			p.t.Errorf("acknowledged: %v", ids)
		}
	}))
}

// While a message waits for its handler, the connection may break and the message come again, once a connection.
func TestSlowHandlerOutlivesConnections(t *testing.T) {
	handled := 0
	serve(t, func(t *testing.T, s *server) {
		cfg := s.config()
		cfg.OnMessage = func(context.Context, Message) error {
			handled++
			sleep(10 * time.Minute)
			return nil
		}
		c := s.dial(cfg)
		sleep(time.Hour)
		end(c)
		if handled != 2 {
			t.Errorf("handled %d times", handled)
		}
	}, then(func(p *peer) { p.hello("m1", ""); p.hello("m2", ""); synctest.Wait() }),
		then(func(p *peer) { p.hello("m1", ""); p.hello("m2", ""); synctest.Wait() }),
		then(func(p *peer) {
			p.hello("m1", "")
			p.hello("m2", "")
			if ids := p.acked(); !slices.Equal(ids, []string{"m1", "m2"}) {
				p.t.Errorf("acknowledged: %v", ids)
			}
		}))
}

func TestManualAcknowledgement(t *testing.T) {
	var handed []string
	serve(t, func(t *testing.T, s *server) {
		cfg := s.config()
		cfg.ManualAck = true
		cfg.OnMessage = func(_ context.Context, m Message) error { handed = append(handed, m.ID); return nil }
		c := s.dial(cfg)
		defer end(c)
		synctest.Wait()
		c.Nack("back")
		if err := c.Ack(t.Context(), "done"); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if !slices.Equal(handed, []string{"done", "back", "open", "back"}) {
			t.Errorf("handed over: %v", handed)
		}
	}, then(func(p *peer) {
		p.hello("done", "")
		p.hello("back", "")
		p.hello("open", "")
		p.expect(`{"type":"90","msgId":"done"}`) // and breaks
	}), then(func(p *peer) {
		p.expect(`{"type":"90","msgId":"done"}`) // Ack waits for the answer
		p.send(`{"type":"91","code":200,"msgId":"done"}`)
		p.hello("done", "")
		p.hello("back", "")
		p.hello("open", "")
		p.expect(`{"type":"90","msgId":"done"}`) // which came again
		p.drain()
	}))
}

func TestAcknowledgementsThatAreTooFastAreRepeated(t *testing.T) {
	serve(t, func(t *testing.T, s *server) {
		cfg := s.config()
		cfg.OnMessage = func(context.Context, Message) error { return nil }
		c := s.dial(cfg)
		sleep(time.Minute)
		end(c)
	}, then(func(p *peer) {
		p.hello("m1", "")
		p.expect(`{"type":"90","msgId":"m1"}`)
		p.send(`{"type":"91","code":601,"msgId":"m1"}`)
		refused := time.Now()
		p.expect(`{"type":"90","msgId":"m1"}`)
		if d := time.Since(refused); d != defaultRetry {
			p.t.Errorf("again after %s", d)
		}
		p.send(`{"type":"91","code":200,"msgId":"m1"}`)
		p.drain()
	}))
}

// A client without a handler leaves messages on the server.
func TestClientThatOnlySendsAcknowledgesNothing(t *testing.T) {
	serve(t, func(_ *testing.T, s *server) {
		c := s.dial(s.config())
		synctest.Wait()
		end(c)
	}, then(func(p *peer) {
		p.hello("m1", "")
		if ids := p.acked(); len(ids) > 0 {
			p.t.Errorf("acknowledged: %v", ids)
		}
	}))
}

func TestTooManyMessagesAreLeftOnTheServer(t *testing.T) {
	serve(t, func(t *testing.T, s *server) {
		release := make(chan struct{})
		reported := make(chan error, 1)
		cfg := s.config()
		cfg.OnMessage = func(context.Context, Message) error { <-release; return nil }
		cfg.OnError = func(err error) { reported <- err }
		c := s.dial(cfg)
		if err := <-reported; !errors.Is(err, ErrOverrun) || c.State().State != StateOnline {
			t.Errorf("reported: %v, %s", err, c.State().State)
		}
		sleep(time.Second)
		close(release)
		sleep(time.Second)
		end(c)
	}, then(func(p *peer) {
		for i := range maxWaiting + 10 {
			p.hello(fmt.Sprint(i), "")
		}
		if n := len(p.acked()); n != maxWaiting+1 { // one was being handled
			p.t.Errorf("%d acknowledged", n)
		}
	}))
}

// failing is a store of handled messages that cannot be asked.
type failing struct{}

func (failing) Handled(context.Context, string) (bool, error) { return false, errors.New("no store") }

func (failing) SetHandled(context.Context, string) error { return errors.New("no store") }

func TestNothingIsAcknowledgedThatCannotBeRemembered(t *testing.T) {
	serve(t, func(t *testing.T, s *server) {
		var reported error
		cfg := s.config()
		cfg.Dedupe = failing{}
		cfg.OnMessage = func(context.Context, Message) error { t.Error("handled"); return nil }
		cfg.OnError = func(err error) { reported = err }
		c := s.dial(cfg)
		synctest.Wait()
		if err := c.Ack(t.Context(), "m1"); err == nil {
			t.Error("acknowledged")
		}
		end(c)
		if reported == nil {
			t.Error("nothing was reported")
		}
	}, then(func(p *peer) {
		p.hello("m1", "")
		if ids := p.acked(); len(ids) > 0 {
			p.t.Errorf("acknowledged: %v", ids)
		}
	}))
}

func TestMemoryDedupeForgetsTheOldest(t *testing.T) {
	d := NewMemoryDedupe(3)
	for i := range 5 {
		_ = d.SetHandled(t.Context(), fmt.Sprint(i))
		_ = d.SetHandled(t.Context(), fmt.Sprint(i))
	}
	for i := range 5 {
		if ok, _ := d.Handled(t.Context(), fmt.Sprint(i)); ok != (i >= 2) {
			t.Errorf("%d: %v", i, ok)
		}
	}
	if len(d.ids) != 3 {
		t.Errorf("remembers %d", len(d.ids))
	}
}

func TestComplaintsAreReported(t *testing.T) {
	serve(t, func(t *testing.T, s *server) {
		var reported error
		cfg := s.config()
		cfg.OnError = func(err error) { reported = err }
		c := s.dial(cfg)
		synctest.Wait()
		if !refusedWith(wire.CodeMalformed)(reported) {
			t.Errorf("reported: %v", reported)
		}
		if c.State().State != StateOnline {
			t.Error("a frame of a newer server ended the connection")
		}
		end(c)
	}, then(func(p *peer) {
		p.send(`{"type":"200","new":true}`)
		p.send(`{"type":"0","code":400,"message":"what?"}`)
		p.drain()
	}))
}
