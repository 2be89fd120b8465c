// Package usage keeps what presence tells of every IMCluster: in status.usage how many connections and users it has, and in
// status.hooks and the condition HooksDelivering how far the receiver of the hooks is behind.
//
// The numbers move all the time, so they are kept apart from reconciling: they have field managers of
// their own, are collected by a pool of workers with a short timeout, and are written rarely. A presence
// that does not answer costs nobody anything but numbers that stay as old as status.usage.asOf says.
package usage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/imcluster/imcluster/api/v1alpha1"
	imv1ac "github.com/imcluster/imcluster/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/imcluster/imcluster/controllers/presenceapi"
	"github.com/imcluster/imcluster/presence/internalapi"
)

// FieldManager owns status.usage.
const FieldManager = "imcluster-usage"

const (
	// pollInterval is how often presence is asked, if it answers.
	pollInterval = 10 * time.Second
	// maxBackoff is how often presence is asked at least, if it does not.
	maxBackoff = 2 * time.Minute
	// writeInterval is how often the numbers of one IMCluster are written at most.
	writeInterval = 30 * time.Second
	// tick is how often the collector looks for IMClusters that are due.
	tick = time.Second
	// workers bounds how many IMClusters are asked at the same time.
	workers = 16
)

// Collector keeps status.usage and status.hooks. Run it with a manager; it works only while it is the leader.
type Collector struct {
	// fixed after construction
	client   client.Client
	access   *presenceapi.Access
	recorder events.EventRecorder
	log      logr.Logger
	polls    metric.Int64Counter

	mu    sync.Mutex
	plans map[types.UID]*plan
}

// plan is what the collector remembers of one IMCluster. It is used by one worker at a time.
type plan struct {
	due     time.Time // when to ask next
	busy    bool      // a worker is asking
	failed  int       // in a row
	written time.Time // last write
	usage   *v1alpha1.Usage
	hooks   delivery
}

// New returns a collector that lists IMClusters with c, which should be cached, and asks presence
// through access. Events about hooks go to the recorder.
func New(c client.Client, access *presenceapi.Access, recorder events.EventRecorder, log logr.Logger, meter metric.Meter) (*Collector, error) {
	polls, err := meter.Int64Counter("imcluster.operator.usage.polls",
		metric.WithDescription("Times that presence was asked for connections and users, and for hooks, by result."))
	if err != nil {
		return nil, fmt.Errorf("create metric: %w", err)
	}
	return &Collector{client: c, access: access, recorder: recorder, log: log, polls: polls, plans: map[types.UID]*plan{}}, nil
}

// NeedLeaderElection makes the manager run the collector only while it is the leader.
func (c *Collector) NeedLeaderElection() bool { return true }

// Start collects until ctx ends. It returns after the last worker has.
func (c *Collector) Start(ctx context.Context) error {
	jobs := make(chan *v1alpha1.IMCluster)
	var pool sync.WaitGroup
	for range workers {
		pool.Go(func() {
			for im := range jobs {
				c.collect(ctx, im)
			}
		})
	}
	defer pool.Wait()
	defer close(jobs)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		due, err := c.due(ctx)
		if err != nil && ctx.Err() == nil {
			c.log.Error(err, "Cannot list IMClusters")
		}
		for _, im := range due {
			select {
			case jobs <- im:
			case <-ctx.Done():
				return nil
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// due returns the IMClusters to ask now and marks them as busy. It forgets those that are gone.
func (c *Collector) due(ctx context.Context) ([]*v1alpha1.IMCluster, error) {
	var list v1alpha1.IMClusterList
	if err := c.client.List(ctx, &list); err != nil {
		return nil, err
	}
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	var due []*v1alpha1.IMCluster
	exist := make(map[types.UID]bool, len(list.Items))
	for i := range list.Items {
		im := &list.Items[i]
		exist[im.UID] = true
		p := c.plans[im.UID]
		if p == nil {
			p = &plan{usage: im.Status.Usage, hooks: deliveryOf(im)}
			c.plans[im.UID] = p
		}
		if answers(im) && !p.busy && !now.Before(p.due) {
			p.busy = true
			due = append(due, im)
		}
	}
	for uid, p := range c.plans {
		if !exist[uid] && !p.busy {
			delete(c.plans, uid)
		}
	}
	c.access.Forget(exist)
	return due, nil
}

// answers reports whether there is anybody to ask.
func answers(im *v1alpha1.IMCluster) bool {
	return im.DeletionTimestamp.IsZero() && im.Status.Presence != nil && im.Status.Presence.ReadyReplicas > 0
}

// collect asks once and writes if it is worth it.
func (c *Collector) collect(ctx context.Context, im *v1alpha1.IMCluster) {
	c.mu.Lock()
	p := c.plans[im.UID]
	c.mu.Unlock()

	err := errors.Join(c.poll(ctx, im, p), c.pollHooks(ctx, im, p))
	result := "ok"
	if err != nil {
		result = "error"
		// Presence that does not answer is seen in its own condition and in asOf.
		c.log.V(1).Info("Presence did not tell its usage", "imcluster", client.ObjectKeyFromObject(im), "error", err.Error())
	}
	c.polls.Add(ctx, 1, metric.WithAttributes(attribute.String("result", result)))

	c.mu.Lock()
	defer c.mu.Unlock()
	p.busy = false
	if err == nil {
		p.failed = 0
	} else {
		p.failed++
	}
	p.due = time.Now().Add(backoff(p.failed))
}

// backoff returns how long to wait after a number of failures in a row.
func backoff(failed int) time.Duration {
	return min(pollInterval<<min(failed, 10), maxBackoff)
}

func (c *Collector) poll(ctx context.Context, im *v1alpha1.IMCluster, p *plan) error {
	var list *internalapi.IncarnationList
	err := c.access.Call(ctx, im, func(ctx context.Context, api *internalapi.Client) (err error) {
		list, err = api.Incarnations(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if list.Degraded {
		return errors.New("presence does not have all numbers at the moment")
	}
	now := &v1alpha1.Usage{
		Connections: list.Connections, OnlineUsers: list.OnlineUsers,
		AsOf: metav1.NewTime(list.AsOf.Truncate(time.Second)),
	}
	if !worthWriting(p.usage, now) || time.Since(p.written) < writeInterval {
		return nil
	}
	if err := c.write(ctx, im, now); err != nil {
		return client.IgnoreNotFound(err)
	}
	p.usage, p.written = now, time.Now()
	return nil
}

func (c *Collector) write(ctx context.Context, im *v1alpha1.IMCluster, u *v1alpha1.Usage) error {
	ac := imv1ac.IMCluster(im.Name, im.Namespace).WithUID(im.UID).WithStatus(imv1ac.IMClusterStatus().WithUsage(
		imv1ac.Usage().WithConnections(u.Connections).WithOnlineUsers(u.OnlineUsers).WithAsOf(u.AsOf)))
	err := c.client.Status().Apply(ctx, ac, client.FieldOwner(FieldManager), client.ForceOwnership)
	if err != nil {
		return fmt.Errorf("write usage: %w", err)
	}
	return nil
}

// worthWriting reports whether a number has moved by 1 % or more, or from or to 0.
func worthWriting(old, now *v1alpha1.Usage) bool {
	return old == nil || moved(old.Connections, now.Connections) || moved(old.OnlineUsers, now.OnlineUsers)
}

func moved(old, now int64) bool {
	if old == now {
		return false
	}
	return old == 0 || now == 0 || max(old-now, now-old)*100 >= old
}
