package chaos

import (
	"flag"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/imcluster/imcluster/internal/chaos/proc"
)

var programDir string // set by program

// program builds cmd/gateway once; CHAOS_RACE=1 builds it with the race detector, CHAOS_GATEWAY is the path of one that is
// built.
var program = sync.OnceValues(func() (_ string, err error) {
	if path := os.Getenv("CHAOS_GATEWAY"); path != "" {
		return path, nil
	}
	if programDir, err = os.MkdirTemp("", "imcluster-chaos"); err != nil {
		return "", err
	}
	return proc.Build(programDir, "gateway", os.Getenv("CHAOS_RACE") != "")
})

// parallel is how many tests run at the same time: they mostly wait.
const parallel = "8"

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

func gatewayProgram(t *testing.T) string {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatalf("build %s: %v", filepath.Base(path), err)
	}
	return path
}
