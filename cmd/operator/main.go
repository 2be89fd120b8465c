// Command operator makes what runs in a Kubernetes cluster match the IMClusters in it.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/alecthomas/kong"
	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/imcluster/imcluster/controllers"
	"github.com/imcluster/imcluster/controllers/compose"
	"github.com/imcluster/imcluster/internal/cli"
	"github.com/imcluster/imcluster/internal/telemetry"
	"github.com/imcluster/imcluster/internal/version"
)

// command holds the flags; each is also an environment variable.
type command struct {
	DataPlaneImage          string           `default:"ghcr.io/imcluster/imcluster:v0.1.0" help:"Image of gateway and presence pods, unless an IMCluster names one."`
	RedisImage              string           `default:"docker.io/valkey/valkey:8.1.4-alpine" help:"Image of managed Redis pods, unless an IMCluster names one."`
	WatchNamespaces         []string         `placeholder:"NAMESPACE" help:"Namespaces to look after. Unset: all."`
	LeaderElect             bool             `help:"Agree with other operators on one that works. Needed with more than one replica."`
	LeaderElectionNamespace string           `placeholder:"NAMESPACE" help:"Namespace of the Lease. Unset: that of this pod."`
	MetricsListen           string           `default:":8080" help:"Where /metrics is served; 0 for nowhere."`
	HealthListen            string           `default:":8081" help:"Where /healthz and /readyz are served; 0 for nowhere."`
	Workers                 int              `default:"4" help:"IMClusters that are reconciled at the same time."`
	LogLevel                string           `enum:"debug,info,warn,error" default:"info" help:"Least important lines to log: ${enum}."`
	Version                 kong.VersionFlag `help:"Print the version and exit."`
}

func main() {
	os.Exit(cli.Main("operator", "Makes what runs in a Kubernetes cluster match the IMClusters in it.", &command{}))
}

// Run starts the operator and returns when ctx ends or the leadership is lost.
func (c *command) Run(ctx context.Context) error {
	lines, err := telemetry.NewLogger(os.Stderr, c.LogLevel)
	if err != nil {
		return &cli.ConfigError{Err: err}
	}
	slog.SetDefault(lines)
	log := logr.FromSlogHandler(lines.Handler())
	ctrl.SetLogger(log)
	tel, err := telemetry.Start(ctx, telemetry.Config{
		Service: "imcluster-operator", Registerer: metrics.Registry, Gatherer: metrics.Registry,
	})
	if err != nil {
		return err
	}
	defer func() { _ = tel.Shutdown(context.WithoutCancel(ctx)) }() // nothing is left to be told about it

	restConfig, err := ctrl.GetConfig()
	if err != nil {
		return cli.Configf("no Kubernetes cluster: run in a pod, or set KUBECONFIG: %w", err)
	}
	restConfig.UserAgent = "imcluster-operator/" + version.Version()
	mgr, err := controllers.NewManager(restConfig, controllers.Config{
		Images:                  compose.Images{DataPlane: c.DataPlaneImage, Redis: c.RedisImage},
		WatchNamespaces:         c.WatchNamespaces,
		LeaderElect:             c.LeaderElect,
		LeaderElectionNamespace: c.LeaderElectionNamespace,
		MetricsListen:           c.MetricsListen,
		HealthListen:            c.HealthListen,
		Workers:                 c.Workers,
		Log:                     log,
		Meter:                   tel.Meters().Meter("imcluster.dev/operator"),
	})
	if err != nil {
		return err
	}
	log.Info("Starting the operator", "version", version.Version(), "dataPlaneImage", c.DataPlaneImage, "redisImage", c.RedisImage)
	if err := mgr.Start(ctx); err != nil {
		return fmt.Errorf("run the operator: %w", err)
	}
	return nil
}
