package store

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
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
	// ExternalLease is how long an external server that never used [Store.KeepExternal] is believed to be alive after it was
	// heard. Zero means 24 h.
	ExternalLease time.Duration
	// Grace is how long sessions of a fenced gateway are still shown online after its last renewal. Zero means 10 s.
	Grace time.Duration
	// Retention is how long last seen is remembered, at most 90 days. Zero means 168 h.
	Retention time.Duration
	// Mailbox bounds what is stored for a user.
	Mailbox MailboxConfig
	// Durability of a message that was stored.
	Durability Durability
	// MaxDevices is how many devices of one user may be connected at once. Zero means 16.
	MaxDevices int
	// MaxOwnedGroups is how many groups a user may make and own; the back end may give a user more. Zero means 1,000.
	MaxOwnedGroups int
	// MemoryLimit is the share of Redis' maxmemory from which on no message is stored. Zero means 0.85. A Redis without
	// maxmemory takes all.
	MemoryLimit float64
	// OpTimeout is how long a write may wait before it is refused with ErrUnavailable. Zero means 5 s.
	OpTimeout time.Duration
	// Fresh says that the caller has started this Redis just now, empty: its first lease table is trusted at once.
	// Otherwise a table that is new may be one that was lost, and who is not found is Unknown for one LeaseTTL, within
	// which every gateway alive has come back.
	Fresh bool
	// Logger; nil means no logs. User ids appear at debug level only.
	Logger *slog.Logger
	// Meter; nil means no metrics.
	Meter metric.MeterProvider
}

// Durability says what a message that was stored survives.
type Durability string

// Durabilities. Both survive gateways; beyond that the default is what Redis' own persistence is set to.
const (
	// DurabilityDefault acknowledges a message when Redis has it.
	DurabilityDefault Durability = ""
	// DurabilityReplicated acknowledges a message when a replica of its Redis has it too (WAIT 1).
	DurabilityReplicated Durability = "replicated"
)

// MailboxConfig bounds what is stored for a user. All gateways and presence pods must use the same.
type MailboxConfig struct {
	// MaxMessages is how many messages a mailbox holds. Zero means 500.
	MaxMessages int
	// MaxBytes is how many bytes a mailbox holds, messages smaller than MaxBytes/MaxMessages counting as so many. Zero
	// means 256 KiB.
	MaxBytes int
	// Retention is how long a message waits, and how long a device that is not connected is waited for, to
	// a day more. Zero means 168 h.
	Retention time.Duration
}

// longestStep is by how much one step advances store time at most, with the default lease: a third of it, so that no lease
// is lost by a single step.
const longestStep = 5 * time.Second

// withDefaults fills in what is zero and checks the rest.
func (c Config) withDefaults() (Config, error) {
	if c.Mode == "" {
		c.Mode = Standalone
	}
	if c.LeaseTTL == 0 {
		c.LeaseTTL = 15 * time.Second
	}
	if c.Grace == 0 {
		c.Grace = 10 * time.Second
	}
	c.ExternalLease = cmp.Or(c.ExternalLease, 24*time.Hour)
	if c.Retention == 0 {
		c.Retention = 7 * 24 * time.Hour
	}
	c.Mailbox.MaxMessages = cmp.Or(c.Mailbox.MaxMessages, 500)
	c.Mailbox.MaxBytes = cmp.Or(c.Mailbox.MaxBytes, 256<<10)
	c.Mailbox.Retention = cmp.Or(c.Mailbox.Retention, 7*24*time.Hour)
	c.MaxDevices = cmp.Or(c.MaxDevices, 16)
	c.MaxOwnedGroups = cmp.Or(c.MaxOwnedGroups, 1000)
	c.MemoryLimit = cmp.Or(c.MemoryLimit, 0.85)
	if c.OpTimeout == 0 {
		c.OpTimeout = 5 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Meter == nil {
		c.Meter = noop.NewMeterProvider()
	}
	switch {
	case len(c.Addresses) == 0:
		return c, errors.New("no redis address")
	case c.Mode == Standalone && len(c.Addresses) != 1:
		return c, fmt.Errorf("redis mode standalone takes one address, not %d", len(c.Addresses))
	case c.Mode == Sentinel && c.MasterName == "":
		return c, errors.New("redis mode sentinel needs the name of the master")
	case c.Mode != Standalone && c.Mode != Sentinel && c.Mode != Cluster:
		return c, fmt.Errorf("unknown redis mode %q", c.Mode)
	case c.Durability != DurabilityDefault && c.Durability != DurabilityReplicated:
		return c, fmt.Errorf("unknown durability %q", c.Durability)
	case c.Mailbox.MaxMessages < 1 || c.Mailbox.MaxBytes < c.Mailbox.MaxMessages || c.Mailbox.Retention < 0 || c.MaxDevices < 1:
		return c, fmt.Errorf("a mailbox of %d messages and %d bytes, or %d devices of a user, cannot be used",
			c.Mailbox.MaxMessages, c.Mailbox.MaxBytes, c.MaxDevices)
	case c.MaxOwnedGroups < 1:
		return c, fmt.Errorf("a limit of %d groups of a user cannot be used", c.MaxOwnedGroups)
	case c.Retention > maxRetention:
		return c, fmt.Errorf("last seen cannot be remembered for %s, but for %s", c.Retention, maxRetention)
	case c.LeaseTTL < 100*time.Millisecond:
		return c, fmt.Errorf("a lease of %s is too short", c.LeaseTTL)
	}
	return c, nil
}

// step is by how much one step advances store time at most.
func (c *Config) step() time.Duration { return min(longestStep, c.LeaseTTL/3) }

// mailKept is how long what waits for a user is kept after the last session, or the last message: longer than the retention,
// which the mailbox itself is tended by once a day.
func (c *Config) mailKept() time.Duration { return c.Mailbox.Retention + 48*time.Hour }

// interval is how often presence pods advance store time.
func (c *Config) interval() time.Duration { return min(time.Second, c.LeaseTTL/5) }

// lookInterval is how often gateways look at the lease table and the control log: with the jitter, what the log says is
// done everywhere within a second.
func (c *Config) lookInterval() time.Duration { return min(800*time.Millisecond, c.LeaseTTL/5) }
