package local

import (
	"context"
	"path/filepath"
	"testing"
	"time"
)

func TestSessionOf(t *testing.T) {
	for _, tc := range []struct {
		name, stat string
		session    int
		alive      bool
	}{
		{"running", "812 (kubelet) S 1 812 812 0 -1 4194560", 812, true},
		{"parentheses and spaces in the name", "7 (a) S 9 (b) R 1 5 6 0", 6, true},
		{"zombie", "812 (kubelet) Z 1 812 812 0", 0, false},
		{"gone", "", 0, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if session, alive := sessionOf(tc.stat); session != tc.session || alive != tc.alive {
				t.Errorf("session %d, alive %v; want %d, %v", session, alive, tc.session, tc.alive)
			}
		})
	}
}

func TestProcessesAreFoundByTheirMarkAndStopped(t *testing.T) {
	const cluster, other = "imc-unit-a", "imc-unit-b"
	log := filepath.Join(t.TempDir(), "log")
	for _, name := range []string{cluster, other} {
		if err := start(name, log, "", nil, "/bin/sleep", "60"); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { stopAll(t, other) })

	p, ok, err := daemon(cluster, "sleep")
	if err != nil || !ok {
		t.Fatalf("found %v, %v; want the process started", ok, err)
	}
	if len(p.args) != 2 || p.args[1] != "60" {
		t.Errorf("arguments are %q", p.args)
	}
	stopAll(t, cluster)
	if _, ok, err := daemon(cluster, "sleep"); ok || err != nil {
		t.Errorf("after stop: found %v, %v", ok, err)
	}
	if _, ok, err := daemon(other, "sleep"); !ok || err != nil {
		t.Errorf("the other cluster's process: found %v, %v; want it untouched", ok, err)
	}
}

func stopAll(t *testing.T, cluster string) {
	t.Helper()
	all, err := processes(cluster)
	if err != nil {
		t.Error(err)
	}
	// Not t.Context(), which has ended when Cleanup calls this.
	if err := stop(context.Background(), time.Second, all...); err != nil {
		t.Error(err)
	}
}
