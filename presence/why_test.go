package presence_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imcluster/imcluster/client"
	"github.com/imcluster/imcluster/internal/testredis"
	"github.com/imcluster/imcluster/presence/internalapi"
)

func TestStatusIsShownToOthersAndPersists(t *testing.T) {
	redis := testredis.Start(t)
	s := startService(t, redis.Addr)
	g := startGateway(t, redis.Addr, "gw-1", "alice")
	s.become(t, []string{"online"}, "alice")
	shows := func(want string) {
		t.Helper()
		eventually(t, func() error {
			u, _, err := s.Get(t.Context(), "alice")
			if err != nil {
				return err
			}
			if got := fmt.Sprint(u.State, " ", u.Status, " ", u.Text); got != want {
				return fmt.Errorf("alice is %q, want %q", got, want)
			}
			return nil
		})
	}
	shows("online online ")
	if err := s.SetUserStatus(t.Context(), "alice", client.StatusBusy, "in a meeting"); err != nil {
		t.Fatal(err)
	}
	shows("online busy in a meeting")
	g.logOut("alice")
	shows("offline  ")
	g.logIn(t, "alice", 9)
	shows("online busy in a meeting")
	set, err := s.UserStatus(t.Context(), "alice")
	if err != nil || set.Status != client.StatusBusy || set.Text != "in a meeting" || time.Since(set.Since) > time.Minute {
		t.Errorf("the status is %+v, %v", set, err)
	}
	if err := s.SetUserStatus(t.Context(), "alice", client.StatusOnline, ""); err != nil {
		t.Fatal(err)
	}
	shows("online online ")
	if set, err := s.UserStatus(t.Context(), "nobody"); err != nil || set != (client.UserStatus{Status: client.StatusOnline}) {
		t.Errorf("the status of nobody is %+v, %v", set, err)
	}
}

func TestStatusOfWhoIsAwayIsShownAtTheNextLogin(t *testing.T) {
	redis := testredis.Start(t)
	s := startService(t, redis.Addr)
	g := startGateway(t, redis.Addr, "gw-1", "bob")
	if err := s.SetUserStatus(t.Context(), "alice", client.StatusAway, ""); err != nil {
		t.Fatal(err)
	}
	s.become(t, []string{"unknown/never_seen"}, "alice")
	g.logIn(t, "alice", 9)
	s.become(t, []string{"online"}, "alice")
	if u, _, err := s.Get(t.Context(), "alice"); err != nil || u.Status != client.StatusAway {
		t.Errorf("alice is %+v, %v", u, err)
	}
}

// What people on call need: where the user is, since when, how the gateway is, what happened, and what others see.
func TestWhyTellsWhatIsBehindAnAnswer(t *testing.T) {
	redis := testredis.Start(t)
	s := startService(t, redis.Addr)
	g := startGateway(t, redis.Addr, "gw-1", "alice")
	g.logOut("alice")
	s.become(t, []string{"offline"}, "alice")
	g.logIn(t, "alice", 9)
	s.become(t, []string{"online"}, "alice")
	if err := s.SetUserStatus(t.Context(), "alice", client.StatusInvisible, "hush"); err != nil {
		t.Fatal(err)
	}
	s.become(t, []string{"offline"}, "alice")
	why, err := s.Why(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	if why.Answer.State != client.Offline || why.Status.Status != client.StatusInvisible || why.Status.Text != "hush" {
		t.Errorf("alice is %q to others, and has set %+v", why.Answer.State, why.Status)
	}
	if len(why.Sessions) != 1 {
		t.Fatalf("sessions: %+v", why.Sessions)
	}
	session := why.Sessions[0]
	if session.Device != "phone" || session.Platform != "ios" || session.Connection != 9 || session.State != "alive" || session.Gateway == nil {
		t.Fatalf("session: %+v", session)
	}
	if gw := session.Gateway; gw.Pod != "gw-1" || gw.PodUID != "uid-gw-1" || gw.LeaseLeftMs <= 0 || gw.LeaseLeftMs > leaseTTL.Milliseconds() ||
		why.AsOf.Sub(gw.LastHeartbeat) > leaseTTL {
		t.Errorf("gateway: %+v, as of %s", gw, why.AsOf)
	}
	var events []string
	for _, c := range why.Transitions {
		events = append(events, c.Event+" "+c.Device)
		if c.Time.IsZero() || why.AsOf.Sub(c.Time) > time.Minute {
			t.Errorf("%s happened at %s", c.Event, c.Time)
		}
	}
	if diff := cmp.Diff([]string{"status ", "login phone", "ended phone", "login phone"}, events); diff != "" {
		t.Error(diff)
	}
	if why.Transitions[0].Status.Status != client.StatusInvisible || why.Transitions[2].Cause == "" || why.Transitions[1].Epoch != session.Epoch {
		t.Errorf("transitions: %+v", why.Transitions)
	}
	if p := why.Partition; p.Generation == "" || p.Revision < 4 || !p.Complete || !p.Settled {
		t.Errorf("partition: %+v", p)
	}
	redis.Pause()
	var refused *client.APIError
	if _, err := s.Why(t.Context(), "alice"); !errors.As(err, &refused) || refused.Status != http.StatusServiceUnavailable {
		t.Errorf("while Redis is paused: %v", err)
	}
	redis.Resume()
}

// After a crash the sessions of the gateway are still there for a while, and why says that it has ended.
func TestWhyTellsThatTheGatewayHasEnded(t *testing.T) {
	redis := testredis.Start(t)
	s := startService(t, redis.Addr)
	startGateway(t, redis.Addr, "gw-1", "alice")
	s.become(t, []string{"online"}, "alice")
	before, err := s.Why(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	if len(before.Sessions) != 1 {
		t.Fatalf("sessions: %+v", before.Sessions)
	}
	operator := internalapi.Client{BaseURL: "http://" + s.InternalAddr().String(), Key: "peer", HTTP: s.HTTP}
	if _, err := operator.Fence(t.Context(), internalapi.FenceRequest{Epochs: []string{before.Sessions[0].Epoch}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		why, err := s.Why(t.Context(), "alice")
		if err != nil {
			return err
		}
		for _, c := range why.Transitions {
			if c.Event == "gateway_ended" && c.Epoch == before.Sessions[0].Epoch && c.Cause != "" {
				return nil
			}
		}
		return fmt.Errorf("transitions: %+v", why.Transitions)
	})
}
