package client

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/imcluster/imcluster/api/wire"
)

// The client logs in elsewhere before it leaves, and what was not answered goes there.
func TestClientMovesWithoutAGap(t *testing.T) {
	serve(t, func(t *testing.T, s *server) {
		var seen changes
		cfg := s.config()
		cfg.OnState = seen.add
		c := s.dial(cfg)
		start := time.Now()
		r, err := c.Send(t.Context(), Outgoing{To: "bob", Content: Text("x"), ClientMsgID: "a"})
		if err != nil || r.MsgID != "m-a" {
			t.Errorf("%+v, %v", r, err)
		}
		if took := time.Since(start); took != 250*time.Millisecond {
			t.Errorf("moved after %s", took)
		}
		synctest.Wait()
		if seen.names() != "online moving online" {
			t.Error(seen.names())
		}
		end(c)
	}, then(func(p *peer) {
		p.expect(`"clientMsgId":"a"`)
		p.send(`{"type":"31","code":502,"delayMs":250}`)
		p.drain() // until the client leaves
	}), then(func(p *peer) { p.accept(func(wire.Frame) {}) }))
}

// A gateway that goes away is used until another one lets the client in.
func TestOldConnectionIsUsedUntilThereIsANewOne(t *testing.T) {
	serve(t, func(t *testing.T, s *server) {
		cfg := s.config()
		var seen changes
		cfg.OnState = seen.add
		c := s.dial(cfg)
		s.setRefuse(true)
		sleep(time.Second)
		if _, err := c.SendText(t.Context(), "bob", "x"); err != nil {
			t.Error(err)
		}
		if s := c.State().State; s != StateMoving {
			t.Errorf("state %s", s)
		}
		s.setRefuse(false)
		sleep(5 * time.Second)
		if seen.names() != "online moving online" {
			t.Error(seen.names())
		}
		end(c)
	}, then(func(p *peer) {
		p.send(`{"type":"31","code":502,"delayMs":100}`)
		p.accept(func(wire.Frame) {})
	}), then((*peer).drain))
}

// A refusal by the gateway that goes away says nothing about a message that was sent again to another one.
func TestRefusalOfTheOldGatewayDoesNotCount(t *testing.T) {
	serve(t, func(t *testing.T, s *server) {
		c := s.dial(s.config())
		r, err := c.Send(t.Context(), Outgoing{To: "bob", Content: Text("x"), ClientMsgID: "a"})
		if err != nil || r.MsgID != "m-a" {
			t.Errorf("%+v, %v", r, err)
		}
		end(c)
	}, then(func(p *peer) {
		p.expect(`"clientMsgId":"a"`)
		p.send(`{"type":"31","code":502,"delayMs":100}`)
		sleep(time.Second) // the message is on its way to the other one
		p.send(`{"type":"81","code":502,"clientMsgId":"a"}`)
		p.drain()
	}), then(func(p *peer) {
		p.expect(`"clientMsgId":"a"`)
		sleep(1500 * time.Millisecond)
		p.send(`{"type":"81","code":200,"clientMsgId":"a","msgId":"m-a"}`)
		p.drain()
	}))
}

func TestGatewayThatLeavesBeforeThereIsANewOne(t *testing.T) {
	serve(t, func(t *testing.T, s *server) {
		cfg := s.config()
		var seen changes
		cfg.OnState = seen.add
		c := s.dial(cfg)
		s.setRefuse(true)
		sleep(10 * time.Second)
		s.setRefuse(false)
		sleep(30 * time.Second)
		if seen.names() != "online moving offline online" {
			t.Error(seen.names())
		}
		end(c)
	}, then(func(p *peer) {
		p.send(`{"type":"31","code":502,"delayMs":100}`)
		sleep(5 * time.Second)
		p.close(4502)
	}), then((*peer).drain))
}

// Another device with the same id may log in while this one moves; the two must not kick each other for ever.
func TestKickedWhileMoving(t *testing.T) {
	serve(t, func(t *testing.T, s *server) {
		c := s.dial(s.config())
		s.setRefuse(true)
		<-c.Done()
		if !errors.Is(c.Err(), ErrKicked) {
			t.Errorf("ended because of %v", c.Err())
		}
	}, then(func(p *peer) {
		p.send(`{"type":"31","code":502,"delayMs":100}`)
		sleep(5 * time.Second)
		p.send(`{"type":"32","code":304}`)
		p.drain()
	}))
}
