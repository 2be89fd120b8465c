package hooks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"

	"github.com/imcluster/imcluster/internal/secretdir"
	"github.com/imcluster/imcluster/presence/store"
)

// Names of the hooks, as events carry them.
const (
	ClientOnline  = "_clientOnline"
	ClientOffline = "_clientOffline"
)

const (
	// LeaseTTL is for how long a pod that stopped keeps its partitions from others.
	LeaseTTL = 5 * time.Second
	// DefaultTimeout is how long the receiver may take to answer.
	DefaultTimeout = 5 * time.Second
	// BatchEvents is how many events a request carries at most.
	BatchEvents = 100
	// senders is how many requests are under way at once. Each has its share of the partitions, and so of the users.
	senders = 4
	// maxBackoff is the longest pause between attempts, which begin with minBackoff and double.
	minBackoff, maxBackoff = time.Second, 5 * time.Minute
)

// Presence is where the states of users come from: all of a presence pod's memory of them.
type Presence interface {
	// Users tells the state of users now.
	Users(ctx context.Context, ids []string) (users []store.User, asOf time.Time, degraded bool)
	// OnlineIn lists who is online in a partition; ok is false while that is not known for sure.
	OnlineIn(part int) (users []string, ok bool)
	// LastCause tells, as far as is known, from which address the user came last, and why the last session ended.
	LastCause(user string) (address, cause string)
	// Changes calls changed with users whose state may have changed, until ctx ends; with nil if it may be anybody.
	Changes(ctx context.Context, changed func(users []string)) error
}

// Memory remembers what the receiver was told. [store.Store] does.
type Memory interface {
	ClaimHooks(ctx context.Context, claimant string, parts []int, ttl, longest time.Duration) []store.HookClaim
	HookBeliefs(ctx context.Context, part int) (map[string]store.HookBelief, error)
	TellHooks(ctx context.Context, claimant string, tellings []store.HookTelling) error
	ToldHooks(ctx context.Context, claimant string, tellings []store.HookTelling) error
	ReportHooks(ctx context.Context, claimant string, status any) error
}

// Config says whom to tell.
type Config struct {
	// URL is where events are posted: http or https.
	URL string
	// Secret signs them.
	Secret *secretdir.Secret
	// Timeout is how long the receiver may take to answer; zero means 5 s.
	Timeout time.Duration
	// Presence and Memory; required.
	Presence Presence
	Memory   Memory
	// Client sends the requests; nil means one of its own.
	Client *http.Client
	// Logger; nil means no logs. Meters; nil means no metrics.
	Logger *slog.Logger
	Meters metric.MeterProvider
}

// CheckURL tells whether events can be posted to a URL.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return fmt.Errorf("the URL of the hooks: %w", err)
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("the URL of the hooks: %q is not http://… or https://…", text)
	case u.User != nil:
		return errors.New("the URL of the hooks has a password in it; the receiver knows who calls by the signature")
	}
	return nil
}

func (c Config) withDefaults() (Config, error) {
	if err := CheckURL(c.URL); err != nil {
		return c, err
	}
	switch {
	case c.Secret == nil:
		return c, errors.New("hooks need a secret to be signed with")
	case c.Timeout < 0:
		return c, fmt.Errorf("a timeout of %s for the hooks cannot be used", c.Timeout)
	}
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	if c.Client == nil {
		c.Client = newClient()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Meters == nil {
		c.Meters = metricnoop.NewMeterProvider()
	}
	return c, nil
}

// newClient returns a client that follows no redirection: a POST must not end up where nobody meant it to.
func newClient() *http.Client {
	transport, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return &http.Client{}
	}
	transport = transport.Clone()
	transport.MaxIdleConnsPerHost = senders
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
