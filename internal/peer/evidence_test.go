package peer

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	peerv1 "github.com/imcluster/imcluster/api/peer/v1"
)

// TestRolesMayNotDoWhatIsTheOthers: a presence pod does not push or kick, a gateway does not publish.
func TestRolesMayNotDoWhatIsTheOthers(t *testing.T) {
	n := &network{}
	b := start(t, n, "b", true)
	for role, item := range map[peerv1.Role]*peerv1.Item{
		peerv1.Role_ROLE_PUBLISHER: {Body: &peerv1.Item_Kick{Kick: &peerv1.Kick{User: "u"}}},
		peerv1.Role_ROLE_GATEWAY:   {Body: &peerv1.Item_Publish{Publish: &peerv1.Publish{}}},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
		err := connect(ctx, b.address, &peerv1.Hello{Cluster: "cluster", Epoch: "b", Role: role}, keys{"key"},
			func(_ context.Context, stream clientStream) error {
				_ = stream.Send(&peerv1.FromSender{Body: &peerv1.FromSender_Batch{Batch: &peerv1.Batch{Items: []*peerv1.Item{item}}}})
				_, err := stream.Recv()
				return err
			})
		cancel()
		if status.Code(err) != codes.PermissionDenied {
			t.Errorf("%v: %v", role, err)
		}
	}
	if _, kicks := b.counts(); kicks != 0 {
		t.Errorf("%d kicks", kicks)
	}
}

func (m *member) swept(reason string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.sweeps {
		if strings.Contains(r, reason) {
			return true
		}
	}
	return false
}

// TestDroppedPushesAreAnnounced as soon as there is a way to do it.
func TestDroppedPushesAreAnnounced(t *testing.T) {
	n := &network{}
	a, b := start(t, n, "a", true), start(t, n, "b", false)
	big := &peerv1.Push{Data: []byte(strings.Repeat("x", 64<<10))}
	for range 2 * queueBytes / (64 << 10) {
		a.Push("b", big)
	}
	if a.Dropped(DropOverflow) == 0 {
		t.Fatal("nothing was dropped")
	}
	n.set("b", b.address)
	eventually(t, "the receiver is told", func() bool { return b.swept("dropped") })
}

// TestEndOfAStreamIsEvidence: its sender may have had more to push.
func TestEndOfAStreamIsEvidence(t *testing.T) {
	n := &network{}
	a, b := start(t, n, "a", true), start(t, n, "b", true)
	a.Push("b", push(1))
	eventually(t, "it has arrived", func() bool { p, _ := b.counts(); return p == 1 })
	a.Close()
	eventually(t, "the receiver sweeps", func() bool { return b.swept("ended") })
}

// TestBroadcastIsConfirmed, once, by who is there.
func TestBroadcastIsConfirmed(t *testing.T) {
	n := &network{}
	a, _ := start(t, n, "a", true), start(t, n, "b", true)
	got := make(chan int, 2)
	a.Node.Broadcast("b", []byte("id"), []byte("data"), "", func(sessions int) { got <- sessions })
	a.Node.Broadcast("dead", []byte("id"), []byte("data"), "", func(int) { t.Error("a dead gateway has confirmed") })
	select {
	case n := <-got:
		if n != 7 {
			t.Errorf("%d sessions", n)
		}
	case <-time.After(testTimeout):
		t.Fatal("not confirmed")
	}
	eventually(t, "the link to the dead one is forgotten", func() bool { return a.Links() == 1 })
}
