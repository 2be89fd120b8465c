package peer

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	peerv1 "github.com/imcluster/imcluster/api/peer/v1"
)

// gateways is what a publisher asks for those that are live.
func (n *network) gateways() (list []Gateway) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for epoch, address := range n.nodes {
		list = append(list, Gateway{Epoch: epoch, Address: address})
	}
	return list
}

// answering is a gateway that answers messages in its own way.
type answering struct {
	*member
	answer func(p *peerv1.Publish, done func(*peerv1.Published))
}

func (a *answering) Publish(p *peerv1.Publish, done func(*peerv1.Published)) { a.answer(p, done) }

// startAnswering runs a gateway that answers with its epoch.
func startAnswering(t *testing.T, n *network, epoch string, answer func(p *peerv1.Publish, done func(*peerv1.Published))) *member {
	t.Helper()
	if answer == nil {
		answer = func(p *peerv1.Publish, done func(*peerv1.Published)) {
			done(&peerv1.Published{Code: 200, MsgId: p.ClientMsgId, Message: epoch})
		}
	}
	return start(t, n, epoch, true, func(c *Config) {
		own, _ := c.Handler.(*member)
		c.Handler = &answering{own, answer}
	})
}

func startPublisher(t *testing.T, n *network, change ...func(*PublisherConfig)) *Publisher {
	t.Helper()
	cfg := PublisherConfig{Cluster: "cluster", Keys: keys{"key"}, Gateways: n.gateways}
	for _, c := range change {
		c(&cfg)
	}
	p := NewPublisher(cfg)
	t.Cleanup(p.Close)
	return p
}

// publish sends a message and returns the epoch of the gateway that answered.
func (p *Publisher) publish(t *testing.T, id string, within time.Duration) (epoch string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	answer, err := p.Publish(ctx, &peerv1.Publish{From: "shop", Users: []string{"alice"}, ClientMsgId: id})
	if err == nil && answer.GetMsgId() != id {
		t.Errorf("message %s was answered as %s", id, answer.GetMsgId())
	}
	return answer.GetMessage(), err
}

func TestPublisherIsAnsweredByALiveGateway(t *testing.T) {
	n := &network{}
	a, b := startAnswering(t, n, "a", nil), startAnswering(t, n, "b", nil)
	p := startPublisher(t, n)
	first, err := p.publish(t, "0", testTimeout)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 { // one stream is enough
		if epoch, err := p.publish(t, fmt.Sprint(i), testTimeout); err != nil || epoch != first {
			t.Errorf("message %d by %q, %v", i, epoch, err)
		}
	}
	// Its gateway dies without a word; the lease table knows it still.
	for _, m := range []*member{a, b} {
		if m.epoch == first {
			m.Close()
		}
	}
	for i := range 20 {
		if epoch, err := p.publish(t, fmt.Sprint(i), testTimeout); err != nil || epoch == first {
			t.Errorf("message %d by %q, %v", i, epoch, err)
		}
	}
}

func TestPublisherWithoutAGateway(t *testing.T) {
	n := &network{}
	p := startPublisher(t, n)
	if _, err := p.publish(t, "1", testTimeout); !errors.Is(err, ErrNoGateway) {
		t.Errorf("without a gateway: %v", err)
	}
	startAnswering(t, n, "a", nil)
	for name, change := range map[string]func(*PublisherConfig){
		"another key":     func(c *PublisherConfig) { c.Keys = keys{"other"} },
		"another cluster": func(c *PublisherConfig) { c.Cluster = "other" },
		"another epoch": func(c *PublisherConfig) {
			c.Gateways = func() []Gateway { return []Gateway{{"b", n.gateways()[0].Address}} }
		},
	} {
		if _, err := startPublisher(t, n, change).publish(t, "1", testTimeout); !errors.Is(err, ErrNoGateway) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if epoch, err := p.publish(t, "1", testTimeout); err != nil || epoch != "a" {
		t.Errorf("with a gateway: %q, %v", epoch, err)
	}
}

// A gateway that is paused keeps its lease for a while; messages must not wait for it one after the other.
func TestPublisherTurnsAwayFromASilentGateway(t *testing.T) {
	n := &network{}
	startAnswering(t, n, "silent", func(*peerv1.Publish, func(*peerv1.Published)) {})
	p := startPublisher(t, n)
	if _, err := p.publish(t, "1", 100*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a silent gateway: %v", err)
	}
	if _, err := p.publish(t, "1", 100*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the only gateway is not tried again: %v", err)
	}
	startAnswering(t, n, "good", nil)
	for i := range 20 {
		if epoch, err := p.publish(t, fmt.Sprint(i), testTimeout); err != nil || epoch != "good" {
			t.Fatalf("message %d by %q, %v", i, epoch, err)
		}
	}
}

func TestPublisherLeavesADrainingGateway(t *testing.T) {
	n := &network{}
	startAnswering(t, n, "draining", func(_ *peerv1.Publish, done func(*peerv1.Published)) { done(&peerv1.Published{Code: 502}) })
	p := startPublisher(t, n)
	if _, err := p.publish(t, "1", testTimeout); !errors.Is(err, ErrNoGateway) {
		t.Errorf("by the draining one alone: %v", err)
	}
	startAnswering(t, n, "good", nil)
	for i := range 20 {
		if epoch, err := p.publish(t, fmt.Sprint(i), testTimeout); err != nil || epoch != "good" {
			t.Fatalf("message %d by %q, %v", i, epoch, err)
		}
	}
}

// The caller going away is not the gateway's fault, and what others wait for is answered.
func TestPublisherSurvivesCallersThatGoAway(t *testing.T) {
	n := &network{}
	asked, answer := make(chan struct{}), make(chan struct{})
	startAnswering(t, n, "a", func(p *peerv1.Publish, done func(*peerv1.Published)) {
		if p.ClientMsgId != "slow" {
			done(&peerv1.Published{Code: 200, MsgId: p.ClientMsgId})
			return
		}
		go func() {
			close(asked)
			<-answer
			done(&peerv1.Published{Code: 200})
		}()
	})
	p := startPublisher(t, n)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := p.Publish(ctx, &peerv1.Publish{ClientMsgId: "slow"})
		ended <- err
	}()
	<-asked
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	close(answer)
	if _, err := p.publish(t, "next", testTimeout); err != nil {
		t.Error(err)
	}
	p.Close()
	if _, err := p.publish(t, "late", testTimeout); err == nil {
		t.Error("a closed publisher published")
	}
}
