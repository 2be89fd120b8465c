package redisflags

import (
	"time"

	"github.com/imcluster/imcluster/internal/cli"
	"github.com/imcluster/imcluster/presence/store"
)

// Messages are the flags that say how messages are kept, embedded in a command with kong's `embed:""`. All gateways and
// presence pods of an IMCluster need the same.
type Messages struct {
	MailboxMaxMessages int           `default:"500" help:"Messages that are kept for a user at most; then the oldest go, and the user is told how many are missing."`
	MailboxMaxBytes    int           `default:"262144" help:"Bytes that are kept for a user at most."`
	MailboxRetention   time.Duration `default:"168h" help:"How long a message is kept, and how long a device that is away is remembered."`
	Durability         string        `default:"default" enum:"default,replicated" help:"When a message counts as stored: when Redis has it (default), or when a replica has it, too (replicated)."`
}

// Apply puts the settings into the configuration of a store. Its errors are of type [cli.ConfigError].
func (f *Messages) Apply(cfg *store.Config) error {
	switch {
	case f.MailboxMaxMessages < 1:
		return cli.Configf("--mailbox-max-messages must be positive, not %d", f.MailboxMaxMessages)
	case f.MailboxMaxBytes < f.MailboxMaxMessages:
		return cli.Configf("--mailbox-max-bytes must be at least a byte a message, not %d", f.MailboxMaxBytes)
	case f.MailboxRetention <= 0:
		return cli.Configf("--mailbox-retention must be positive, not %v", f.MailboxRetention)
	}
	cfg.Mailbox = store.MailboxConfig{
		MaxMessages: f.MailboxMaxMessages, MaxBytes: f.MailboxMaxBytes, Retention: f.MailboxRetention}
	if f.Durability == string(store.DurabilityReplicated) {
		cfg.Durability = store.DurabilityReplicated
	}
	return nil
}
