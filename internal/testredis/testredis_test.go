package testredis_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/imcluster/imcluster/internal/testredis"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRestartIsEmptyWithoutAOF(t *testing.T) {
	s := testredis.Start(t)
	s.MustDo("SET", "k", "v")
	s.Restart()
	if got := s.MustDo("GET", "k"); got != nil {
		t.Fatalf("GET = %v after a restart without AOF", got)
	}
}

func TestRestartKeepsDataWithAOF(t *testing.T) {
	s := testredis.StartWith(t, testredis.Options{AOF: true, Args: []string{"--appendfsync", "always"}})
	s.MustDo("SET", "k", "v")
	s.Restart()
	if got := s.MustDo("GET", "k"); got != "v" {
		t.Fatalf("GET = %v after a restart with AOF", got)
	}
}

func TestPausedServerAnswersAfterResume(t *testing.T) {
	s := testredis.Start(t)
	s.Pause()
	answered := make(chan error, 1)
	go func() {
		_, err := s.Do("PING")
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Fatalf("a paused server answered: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	s.Resume()
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
}

func TestClusterMovesSlots(t *testing.T) {
	c := testredis.StartCluster(t, 3)
	from := c.NodeOf("k")
	c.Nodes[from].MustDo("SET", "k", "v")
	to := (from + 1) % 3
	c.MoveSlot("k", to)
	if got := c.NodeOf("k"); got != to {
		t.Fatalf("the slot is on node %d, want %d", got, to)
	}
	if got := c.Nodes[to].MustDo("GET", "k"); got != "v" {
		t.Fatalf("GET = %v on the new node", got)
	}
}

func TestSentinelFailsOver(t *testing.T) {
	s := testredis.StartSentinel(t)
	old := s.Primary
	s.Failover()
	if s.Primary == old || s.Primary.Info("role") != "master" {
		t.Fatal("the replica did not become the primary")
	}
}

func TestReplicaTakesOverFromAKilledPrimary(t *testing.T) {
	c := testredis.StartReplicated(t, 3)
	old := c.Primary(1)
	c.FailOver(1)
	if now := c.Primary(1); now == old || now.Info("role") != "master" || old.Info("role") != "slave" {
		t.Errorf("the killed primary is a %q, its replica a %q", old.Info("role"), now.Info("role"))
	}
	c.FailOver(1)
	if c.Primary(1) != old {
		t.Error("the first primary did not take over again")
	}
}
