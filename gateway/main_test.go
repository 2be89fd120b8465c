package gateway

import (
	"context"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/imcluster/imcluster/gateway/auth"
)

func TestMain(m *testing.M) {
	if os.Getenv(serverEnv) != "" {
		os.Exit(serveProcess())
	}
	goleak.VerifyTestMain(m)
}

// serverConfig is the configuration of the server process.
func serverConfig() Config {
	w := newWorld()
	w.forgetful = true
	return Config{
		PodName: "gateway", Auth: auth.Insecure{}, PeerKeys: testKeys{"peer key"}, DrainWindow: time.Second,
		Listen: "127.0.0.1:0", PeerListen: "127.0.0.1:0", join: w.join,
	}
}

func serverContext() (context.Context, context.CancelFunc) {
	return context.WithCancel(context.Background())
}
