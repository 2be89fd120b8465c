package soak

import (
	"encoding/json"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/imcluster/imcluster/client"
	"github.com/imcluster/imcluster/internal/dev"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestEverythingArrivesOnAPlatformThatWorks rehearses on two real gateways.
func TestEverythingArrivesOnAPlatformThatWorks(t *testing.T) {
	p, err := dev.Start(t.Context(), dev.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	presence := p.Presence()
	report, err := Run(t.Context(), Config{
		GatewayURLs: p.GatewayURLs, Presence: &presence,
		Token: func(user string) (string, error) { return user, nil },
		Users: 20, Rate: 100, For: 2 * time.Second, Prefix: "soak-",
	})
	if err != nil {
		t.Fatal(err)
	}
	if !report.OK() || report.Stored != report.Sent || report.Delivered != report.Stored || report.Offline != 0 {
		t.Errorf("promises were broken: %+v", report)
	}
	if report.Stored < 150 || report.Looks < 5 || report.P99 == 0 {
		t.Errorf("little was done: %+v", report)
	}
}

// TestReportCountsWhatWentWrong feeds one pair with what a platform must not do.
func TestReportCountsWhatWentWrong(t *testing.T) {
	r := &rehearsal{cfg: Config{Prefix: "p"}, reconnects: map[int64]int{1: 3, 2: 5}}
	for i, id := range []string{"p0", "p1"} {
		r.users = append(r.users, &user{rehearsal: r, index: i, id: id, arrived: map[int]bool{}, last: -1})
	}
	alice, bob := r.users[0], r.users[1]
	alice.sent = 5
	for n := range 3 {
		alice.answered(n, time.Millisecond, nil)
	}
	alice.answered(3, 0, &client.Error{})
	alice.answered(4, 0, client.ErrUnknownOutcome)
	message := func(from string, content json.RawMessage) client.Message {
		return client.Message{From: from, Content: content}
	}
	for _, m := range []client.Message{
		message("p0", encode("p", 2)),
		message("p0", encode("p", 0)), // after a later one
		message("p0", encode("p", 0)), // again
		message("p0", encode("p", 7)), // was never sent
		message("p9", encode("p", 1)), // by somebody else
		message("p0", encode("q", 1)), // of another rehearsal
	} {
		bob.receive(m)
	}
	bob.changed(client.StateChange{State: client.StateEnded})

	got := r.report()
	want := Report{
		Users: 2, Sent: 5, Stored: 3, Refused: 1, Unknown: 1, Delivered: 2, Repeated: 1, Lost: 1, Foreign: 3, Disordered: 1,
		Reconnects: 8, ReconnectsPerSecond: 5, Ended: 1, P50: 1, P99: 1,
	}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got.OK() {
		t.Error("the report is OK with a message lost")
	}
}
