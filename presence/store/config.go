package store

import (
	"crypto/tls"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/metric"
)

// Mode is how Redis is run.
type Mode string

// Modes of Redis.
const (
	Standalone Mode = "standalone"
	Sentinel   Mode = "sentinel"
	Cluster    Mode = "cluster"
)

// Config says where Redis is and how the model behaves. All gateways and presence pods of one IMCluster must use the same
// KeyPrefix, LeaseTTL, Grace and Retention.
type Config struct {
	// Mode; empty means Standalone.
	Mode Mode
	// Addresses are host:port of the server, of the sentinels, or of some nodes of the cluster.
	Addresses []string
	// MasterName is the name that sentinels know the server by. Only for Sentinel.
	MasterName string
	// Username and Password log in to the servers. Password is asked at every dial, so that it can be rotated; nil
	// means no login. Sentinels are asked without a login.
	Username string
	Password func() (string, error)
	// TLS; nil means plain TCP.
	TLS *tls.Config
	// KeyPrefix goes before every key, outside the hash tag.
	KeyPrefix string
	// Owner is the UID of the IMCluster. The first one to use the keys owns them. Empty skips the check.
	Owner string
	// LeaseTTL is how long a gateway that cannot be heard is believed to be alive. Zero means 15 s. It is renewed
	// every third of it.
	LeaseTTL time.Duration
	// Grace is how long sessions of a fenced gateway are still shown online after its last renewal. Zero means 10 s.
	Grace time.Duration
	// Retention is how long last seen is remembered. Zero means 168 h.
	Retention time.Duration
	// OpTimeout is how long a write may wait before it is refused with ErrUnavailable. Zero means 5 s.
	OpTimeout time.Duration
	// Logger; nil means no logs. User ids appear at debug level only.
	Logger *slog.Logger
	// Meter; nil means no metrics.
	Meter metric.MeterProvider
}
