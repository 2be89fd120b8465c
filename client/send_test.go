package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/imcluster/imcluster/api/wire"
)

func TestAnswersFindTheirCalls(t *testing.T) {
	serve(t, func(t *testing.T, s *server) {
		c := s.dial(s.config())
		defer end(c)
		var one Receipt
		var oneErr, twoErr error
		var calls sync.WaitGroup
		calls.Go(func() {
			one, oneErr = c.Send(t.Context(), Outgoing{To: "bob", Content: Text("测试"), ClientMsgID: "one"})
		})
		synctest.Wait()
		calls.Go(func() {
			_, twoErr = c.Send(t.Context(), Outgoing{To: "bob", Content: Text("x"), ClientMsgID: "two"})
		})
		calls.Wait()
		if oneErr != nil || one.MsgID != "m1" || !one.Stored() || one.Time.UnixMilli() != 1767225600123 {
			t.Errorf("one: %+v, %v", one, oneErr)
		}
		var refused *Error
		if !errors.As(twoErr, &refused) || refused.Code != wire.CodeMailboxFull || refused.Delay != 1500*time.Millisecond || !refused.Retryable() {
			t.Errorf("two: %v", twoErr)
		}
		if err := c.Ack(t.Context(), "m1"); err != nil {
			t.Error(err)
		}
	}, then(func(p *peer) {
		p.expect(`"type":"80"`, `"toId":"bob"`, `"clientMsgId":"one"`, `"content":{"contentType":1,"body":"测试"}`)
		p.expect(`"clientMsgId":"two"`)
		p.send(`{"type":"81","code":604,"clientMsgId":"two","message":"full","delayMs":1500}`)
		p.send(`{"type":"81","code":200,"clientMsgId":"one","msgId":"m1","time":1767225600123}`)
		p.expect(`{"type":"90","msgId":"m1"}`)
		p.send(`{"type":"91","code":200,"msgId":"m1"}`)
		p.drain()
	}))
}

func TestUnansweredMessagesAreSentAgainWithTheirIDs(t *testing.T) {
	var got []string
	serve(t, func(t *testing.T, s *server) {
		c := s.dial(s.config())
		defer end(c)
		var calls sync.WaitGroup
		for i := range 3 {
			calls.Go(func() {
				id := fmt.Sprint("id", i)
				receipt, err := c.Send(t.Context(), Outgoing{To: "bob", Content: Text("x"), ClientMsgID: id})
				if err != nil || receipt.MsgID != "m-"+id {
					t.Errorf("%s: %+v, %v", id, receipt, err)
				}
			})
			synctest.Wait()
		}
		calls.Wait()
		if !slices.Equal(got, []string{"id0", "id2"}) {
			t.Errorf("sent again: %v", got)
		}
	}, then(func(p *peer) {
		for range 3 {
			p.expect(`"type":"80"`)
		}
		p.send(`{"type":"81","code":200,"clientMsgId":"id1","msgId":"m-id1"}`)
	}), then(func(p *peer) {
		p.accept(func(fr wire.Frame) { got = append(got, fr.ClientMsgID) })
	}))
}

// What is sent before there is a connection is sent when there is one, in order.
func TestMessagesWaitForTheConnection(t *testing.T) {
	const n = 10_000
	var got []string
	serve(t, func(t *testing.T, s *server) {
		s.setRefuse(true)
		c, err := New(s.config())
		if err != nil {
			t.Fatal(err)
		}
		defer end(c)
		var answers sync.WaitGroup
		answers.Add(n)
		for i := range n {
			c.SendAsync(t.Context(), Outgoing{To: "bob", Content: Text("x"), ClientMsgID: fmt.Sprint(i)}, func(r Receipt, err error) {
				if err != nil || r.ClientMsgID != fmt.Sprint(i) {
					t.Errorf("%d: %+v %v", i, r, err)
				}
				answers.Done()
			})
		}
		if _, err := c.SendText(t.Context(), "bob", "one more"); !errors.Is(err, ErrQueueFull) {
			t.Errorf("one more: %v", err)
		}
		sleep(time.Minute)
		s.setRefuse(false)
		answers.Wait()
		for i, id := range got {
			if id != fmt.Sprint(i) {
				t.Fatalf("message %d is %s", i, id)
			}
		}
		if len(got) != n {
			t.Errorf("%d messages arrived", len(got))
		}
	}, then(func(p *peer) { p.accept(func(fr wire.Frame) { got = append(got, fr.ClientMsgID) }) }))
}

func TestNoMoreThanAWindowIsUnanswered(t *testing.T) {
	n := 0
	serve(t, func(t *testing.T, s *server) {
		c := s.dial(s.config())
		defer end(c)
		for range 3 * window {
			c.SendAsync(t.Context(), Outgoing{To: "bob", Content: Text("x")}, func(Receipt, error) {})
		}
		sleep(2 * time.Second)
		if n != window {
			t.Errorf("%d messages were sent without an answer", n)
		}
	}, then(func(p *peer) {
		defer func() { _ = p.ws.Close() }()
		for {
			_ = p.ws.SetReadDeadline(time.Now().Add(time.Second))
			if _, _, err := p.ws.ReadMessage(); err != nil {
				return
			}
			n++
		}
	}))
}

func TestErrorsSayWhetherAMessageWasSent(t *testing.T) {
	serve(t, func(t *testing.T, s *server) {
		c := s.dial(s.config())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.SendText(ctx, "bob", "x"); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrUnknownOutcome) {
			t.Errorf("sent: %v", err)
		}
		s.setRefuse(true)
		c.State()
		c.mu.Lock()
		n := c.conn
		c.mu.Unlock()
		n.end(errRefused)
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.SendText(ctx, "bob", "x"); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrNotSent) {
			t.Errorf("not sent: %v", err)
		}
		result := make(chan error, 2)
		c.SendAsync(t.Context(), Outgoing{To: "bob", Content: Text("x")}, func(_ Receipt, err error) { result <- err })
		end(c)
		if err := <-result; !errors.Is(err, ErrNotSent) || !errors.Is(err, ErrClosed) {
			t.Errorf("closed meanwhile: %v", err)
		}
		c.SendAsync(t.Context(), Outgoing{To: "bob", Content: Text("x")}, func(_ Receipt, err error) { result <- err })
		if err := <-result; !errors.Is(err, ErrNotSent) || !errors.Is(err, ErrClosed) {
			t.Errorf("after the end: %v", err)
		}
		if c.out.open != 0 || c.out.count != 0 || c.out.bytes != 0 {
			t.Errorf("left behind: %d requests, %d callers, %d bytes", c.out.open, c.out.count, c.out.bytes)
		}
	}, then((*peer).drain))
}

// What no server takes is refused before it is sent: it would end one connection after the other.
func TestBrokenMessagesAreNotSent(t *testing.T) {
	serve(t, func(t *testing.T, s *server) {
		c := s.dial(s.config())
		defer end(c)
		for name, m := range map[string]Outgoing{
			"no content":     {To: "bob"},
			"not JSON":       {To: "bob", Content: []byte("hello")},
			"not UTF-8":      {To: "bob", Content: []byte("\"\xff\"")},
			"nobody":         {Content: Text("x")},
			"two recipients": {To: "bob", Group: "g", Content: Text("x")},
			"bad user":       {To: "b\x00b", Content: Text("x")},
			"bad group":      {Group: "\n", Content: Text("x")},
			"bad id":         {To: "bob", Content: Text("x"), ClientMsgID: "\x01"},
		} {
			if _, err := c.Send(t.Context(), m); err == nil {
				t.Errorf("%s: accepted", name)
			}
		}
	}, then((*peer).drain))
}

func TestRefusedMessagesAreSentAgainAfterTheDelay(t *testing.T) {
	for _, code := range []wire.Code{wire.CodeUnavailable, wire.CodeTooManyFrames, wire.CodeMailboxFull} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			var again time.Duration
			serve(t, func(t *testing.T, s *server) {
				cfg := s.config()
				cfg.RetryRefused = true
				c := s.dial(cfg)
				defer end(c)
				if r, err := c.Send(t.Context(), Outgoing{To: "bob", Content: Text("x"), ClientMsgID: "a"}); err != nil || r.MsgID != "m-a" {
					t.Errorf("%+v, %v", r, err)
				}
				if again != 2500*time.Millisecond {
					t.Errorf("sent again after %s", again)
				}
			}, then(func(p *peer) {
				p.expect(`"clientMsgId":"a"`)
				refused := time.Now()
				p.send(`{"type":"81","code":%d,"clientMsgId":"a","delayMs":2500}`, code)
				p.expect(`"clientMsgId":"a"`)
				again = time.Since(refused)
				p.send(`{"type":"81","code":200,"clientMsgId":"a","msgId":"m-a"}`)
				p.drain()
			}))
		})
	}
}

// A message that waits for its delay alone ends with the client, or with its context.
func TestDelayedMessageDoesNotOutliveItsClient(t *testing.T) {
	serve(t, func(t *testing.T, s *server) {
		cfg := s.config()
		cfg.RetryRefused = true
		c := s.dial(cfg)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.SendText(ctx, "bob", "x"); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrUnknownOutcome) {
			t.Errorf("at the end of its context: %v", err)
		}
		result := make(chan error, 1)
		c.SendAsync(t.Context(), Outgoing{To: "bob", Content: Text("x")}, func(_ Receipt, err error) { result <- err })
		synctest.Wait()
		end(c)
		if err := <-result; !errors.Is(err, ErrClosed) {
			t.Errorf("at the end of the client: %v", err)
		}
		if c.out.open != 0 || len(c.out.delayed) != 0 {
			t.Errorf("left behind: %d requests", c.out.open)
		}
	}, then(func(p *peer) {
		for range 2 {
			fr, _ := p.frame()
			p.send(`{"type":"81","code":604,"clientMsgId":%q,"delayMs":60000}`, fr.ClientMsgID)
		}
		p.drain()
	}))
}

// A message that the server closes the connection for would close the next one too.
func TestMessageThatEndsConnectionsIsGivenUp(t *testing.T) {
	for _, tc := range []struct {
		code  int
		conns int // that it may end
	}{{4600, 1}, {4402, maxFaults}} {
		t.Run(fmt.Sprint(tc.code), func(t *testing.T) {
			var scripts []func(*peer)
			for range tc.conns {
				scripts = append(scripts, then(func(p *peer) { p.expect(`"type":"80"`); p.close(tc.code); p.drain() }))
			}
			scripts = append(scripts, then(func(p *peer) { p.accept(func(wire.Frame) {}) }))
			serve(t, func(t *testing.T, s *server) {
				c := s.dial(s.config())
				defer end(c)
				if _, err := c.SendText(t.Context(), "bob", "x"); !refusedWith(wire.Code(tc.code - 4000))(err) {
					t.Errorf("got %v", err)
				}
				if _, err := c.SendText(t.Context(), "bob", "y"); err != nil {
					t.Errorf("the next one: %v", err)
				}
			}, scripts...)
		})
	}
}

func TestGroupsAndLists(t *testing.T) {
	serve(t, func(t *testing.T, s *server) {
		c := s.dial(s.config())
		defer end(c)
		page, err := c.CreateGroup(t.Context(), "team", "bob", "carol")
		if err != nil || page.Count != 3 || page.Owner != "alice" || page.ID != "team" {
			t.Errorf("create: %+v, %v", page, err)
		}
		if _, err := c.GroupMembers(t.Context(), "team", "", 10); !refusedWith(wire.CodeNotFound)(err) {
			t.Errorf("members: %v", err)
		}
		if _, err := c.OnlineUsers(t.Context(), "", 0); !refusedWith(wire.CodeUnknownType)(err) {
			t.Errorf("a server that does not know the type: %v", err)
		}
		r, err := c.Send(t.Context(), Outgoing{Everyone: true, Content: Text("x")})
		if err != nil || r.Gateways != 3 || r.Reached != 2 || r.Stored() {
			t.Errorf("broadcast: %+v, %v", r, err)
		}
		if err := c.DeleteGroup(t.Context(), "team"); !errors.Is(err, ErrUnknownOutcome) {
			t.Errorf("deleted when the connection broke: %v", err)
		}
	}, then(func(p *peer) {
		fr, _ := p.frame()
		if fr.Action != wire.GroupCreate || fr.GroupID != "team" || !slices.Equal(fr.Users, []string{"bob", "carol"}) {
			p.t.Errorf("got %+v", fr)
		}
		p.send(`{"type":"85","code":200,"requestId":%q,"groupId":"team","owner":"alice","count":3}`, fr.RequestID)
		fr, _ = p.frame()
		p.send(`{"type":"85","code":410,"requestId":%q}`, fr.RequestID)
		p.expect(`"type":"58"`)
		p.send(`{"type":"0","code":404,"message":"type 58 is not known"}`)
		fr, _ = p.frame()
		p.send(`{"type":"87","code":201,"clientMsgId":%q,"msgId":"b","gateways":3,"reached":2}`, fr.ClientMsgID)
		p.expect(`"type":"84"`, `"action":"delete"`)
	}))
}
