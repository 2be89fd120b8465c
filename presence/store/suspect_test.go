package store

import (
	"errors"
	"testing"
	"time"
)

// A gateway is told to compare its mailboxes when another one dies, and when Redis comes back.
func TestEvidenceOfLostPushesIsTold(t *testing.T) {
	r := startRedis(t)
	g, h := startGateway(t, Config{}, "gw-1", r.Addr), startGateway(t, Config{}, "gw-2", r.Addr)
	g.login("alice", "d")
	eventually(t, func() error {
		if len(g.member.Peers()) != 2 {
			return errNotYet
		}
		return nil
	})
	more := func(than int) func() error {
		return func() error {
			if g.suspected() <= than {
				return errNotYet
			}
			return nil
		}
	}
	n := g.suspected()
	h.stop()
	eventually(t, more(n))
	n = g.suspected()
	r.MustDo("FLUSHALL")
	eventually(t, more(n))
}

func (g *gateway) suspected() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.suspicions
}

// A hint that cannot wait, because too many do, is made good by comparing all mailboxes.
func TestRefusedPeekIsEvidenceOfLostPushes(t *testing.T) {
	r := startRedis(t)
	g := startGateway(t, Config{LeaseTTL: 15 * time.Second}, "gw-1", r.Addr)
	g.send("alice", "one")
	n := g.suspected()
	g.member.lanes.peeks.Store(maxPeeks)
	refused := make(chan error, 1)
	g.member.Peek("alice", func(_ uint64, _ []Holder, err error) { refused <- err })
	if err := <-refused; !errors.Is(err, ErrUnavailable) {
		t.Fatalf("peek: %v", err)
	}
	g.send("alice", "two")
	eventually(t, func() error {
		if g.suspected() == n {
			return errNotYet
		}
		return nil
	})
}
