package presencechaos

import (
	"flag"
	"os"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/imcluster/imcluster/internal/chaos/proc"
)

var programDir string // set by programs

// programs builds both once.
var programs = sync.OnceValues(func() (paths [2]string, err error) {
	if programDir, err = os.MkdirTemp("", "imcluster-presencechaos"); err != nil {
		return paths, err
	}
	for i, name := range []string{"gateway", "presence"} {
		if paths[i], err = proc.Build(programDir, name, os.Getenv("CHAOS_RACE") != ""); err != nil {
			return paths, err
		}
	}
	return paths, nil
})

// parallel is how many tests run at the same time: they mostly wait.
const parallel = "6"

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", parallel); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if programDir != "" {
			_ = os.RemoveAll(programDir)
		}
		os.Exit(code)
	}))
}

// newWorld starts a world of programs of this tree.
func newWorld(t *testing.T, cfg Config) *World {
	t.Helper()
	paths, err := programs()
	if err != nil {
		t.Fatalf("build the programs: %v", err)
	}
	cfg.GatewayProgram, cfg.PresenceProgram = paths[0], paths[1]
	return NewWorld(t, cfg)
}
