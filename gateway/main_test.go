package gateway_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/imcluster/imcluster/gateway"
)

func TestMain(m *testing.M) {
	if os.Getenv(gateway.ServerEnv) != "" {
		os.Exit(gateway.ServeProcess())
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		removeBinary()
		os.Exit(code)
	}))
}
