package presence

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/imcluster/imcluster/internal/secretdir"
	"github.com/imcluster/imcluster/presence/hooks"
	"github.com/imcluster/imcluster/presence/internalapi"
	"github.com/imcluster/imcluster/presence/replica"
	"github.com/imcluster/imcluster/presence/store"
)

// Hooks says whom to tell who comes online and goes offline. docs/hooks.md is for those who are told.
type Hooks struct {
	// URL is where events are posted; nobody is told if it is empty.
	URL string
	// Secret signs them; required with URL.
	Secret *secretdir.Secret
	// Timeout is how long the receiver may take to answer; zero means 5 s.
	Timeout time.Duration
}

// runHooks tells the receiver until ctx ends.
func (s *Server) runHooks(ctx context.Context, st *store.Store) error {
	if s.cfg.Hooks.URL == "" {
		return nil
	}
	d, err := hooks.New(hooks.Config{
		URL: s.cfg.Hooks.URL, Secret: s.cfg.Hooks.Secret, Timeout: s.cfg.Hooks.Timeout,
		Presence: hookSource{s.replica}, Memory: st, Logger: s.log, Meters: s.cfg.Meters,
	})
	if err != nil {
		return err
	}
	return d.Run(ctx)
}

// hookSource is the replica, as the hooks see it.
type hookSource struct{ *replica.Replica }

// relistPause is when a subscription that ended is begun anew.
const relistPause = time.Second

// Changes follows everybody. It does not matter what is missed between two subscriptions: each begins with a look at all.
func (h hookSource) Changes(ctx context.Context, changed func(users []string)) error {
	for ctx.Err() == nil {
		sub, err := h.Watch(nil, true, "")
		if err == nil {
			changed(nil)
			err = follow(ctx, sub, changed)
			sub.Close()
		}
		if err != nil && ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-time.After(relistPause):
			}
		}
	}
	return ctx.Err()
}

func follow(ctx context.Context, sub *replica.Subscription, changed func(users []string)) error {
	for {
		e, err := sub.Next(ctx)
		if err != nil {
			return err
		}
		if e.Snapshot || len(e.Users) == 0 {
			continue // everybody is looked at anyway
		}
		ids := make([]string, len(e.Users))
		for i := range e.Users {
			ids[i] = e.Users[i].ID
		}
		changed(ids)
	}
}

// hookReporter is what the store knows of the delivery of hooks.
type hookReporter interface {
	HookReports(ctx context.Context) ([]json.RawMessage, error)
}

// HookReports returns what each presence pod that tells the receiver last reported: a [hooks.Status].
func (l *lateStore) HookReports(ctx context.Context) ([]json.RawMessage, error) {
	return ask(ctx, l, func(ctx context.Context, m model) ([]json.RawMessage, error) { return m.HookReports(ctx) })
}

// hookDelivery tells the operator what the receiver is still to be told, over all pods.
func (s *Server) hookDelivery(w http.ResponseWriter, r *http.Request) error {
	answer := internalapi.HookDelivery{AsOf: time.Now().UTC().Truncate(time.Millisecond)}
	if s.cfg.Hooks.URL == "" {
		return respondValue(w, answer)
	}
	reports, err := s.model.HookReports(r.Context())
	if err != nil {
		return err
	}
	statuses := make([]hooks.Status, 0, len(reports))
	for _, report := range reports {
		var one hooks.Status
		if err := json.Unmarshal(report, &one); err != nil {
			s.log.Warn("a presence pod reported something about hooks that cannot be understood; is it of another version?", "error", err)
			continue
		}
		statuses = append(statuses, one)
	}
	sum := hooks.Sum(statuses)
	answer.Pods, answer.Pending, answer.OldestPending = len(statuses), int64(sum.Pending), sum.OldestPending
	answer.LastSuccess, answer.LastError, answer.Refusal = sum.LastSuccess, sum.LastError, sum.Refusal
	return respondValue(w, answer)
}

// checkHooks checks what can be checked before anybody comes online.
func checkHooks(h Hooks) error {
	if h.URL == "" {
		return nil
	}
	if h.Secret == nil {
		return errors.New("hooks need a secret to be signed with")
	}
	return hooks.CheckURL(h.URL)
}
