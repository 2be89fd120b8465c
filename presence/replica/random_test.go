package replica

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/imcluster/imcluster/presence/feed"
	"github.com/imcluster/imcluster/presence/store"
)

// On a real Redis: whatever users, their statuses and their gateways do, what watchers fold out of their events is in the end what
// Redis says.
func TestWatchersKnowInTheEndWhatRedisSays(t *testing.T) {
	redis := startRedis(t)
	cfg := storeConfig(redis.Addr)
	gateways := []*gateway{startGateway(t, cfg, "gw-0"), startGateway(t, cfg, "gw-1"), startGateway(t, cfg, "gw-2")}
	pods := []*pod{startPod(t, cfg), startPod(t, cfg)}
	for _, p := range pods {
		p.healthy()
	}
	users := userIDs(60)
	var folding sync.WaitGroup
	watching, stop := context.WithCancel(t.Context())
	defer stop()
	var watchers []*folder
	for i := range 12 {
		w := &folder{pods: pods, users: users[i*3:], known: map[string]store.User{}, rand: rand.New(rand.NewPCG(7, uint64(i)))}
		watchers = append(watchers, w)
		folding.Go(func() {
			if err := w.run(watching); err != nil {
				t.Errorf("watch: %v", err)
			}
		})
	}
	random := rand.New(rand.NewPCG(7, 100))
	for i := range 600 {
		g, u := gateways[random.IntN(len(gateways))], users[random.IntN(len(users))]
		switch random.IntN(6) {
		case 0, 1:
			_ = g.tryLogin(t.Context(), u, fmt.Sprint("device", random.IntN(2)), nil) // refused by a gateway that ended
		case 2:
			_ = g.tryLogin(t.Context(), u, "device0", &store.Status{Show: feed.ShowInvisible})
		case 3, 4:
			g.logoutDevice(u, fmt.Sprint("device", random.IntN(2)))
		case 5:
			show := []string{feed.ShowOnline, feed.ShowAway, feed.ShowInvisible}[random.IntN(3)]
			if _, err := pods[0].store.SetStatus(t.Context(), u, store.Status{Show: show, Text: fmt.Sprint(i)}); err != nil {
				t.Fatal(err)
			}
		}
		if i == 300 {
			gateways[0].stop() // as if it was killed
			gateways = gateways[1:]
		}
	}
	for _, p := range pods {
		p.knows(users...)
	}
	eventually(t, func() error {
		want, _, degraded := pods[0].store.Users(t.Context(), users)
		if degraded {
			return fmt.Errorf("redis is degraded")
		}
		for _, u := range want {
			if slices.ContainsFunc(u.Devices, func(d store.Device) bool { return d.Gateway == "gw-0" }) {
				return fmt.Errorf("%s is on the gateway that was killed", u.ID)
			}
		}
		for n, w := range watchers {
			if err := w.differs(want); err != nil {
				return fmt.Errorf("watcher %d: %w", n, err)
			}
		}
		return nil
	})
	stop()
	folding.Wait()
}

// folder watches users and folds the events, going from pod to pod with its token.
type folder struct {
	pods  []*pod
	users []string
	rand  *rand.Rand

	mu    sync.Mutex
	known map[string]store.User
}

func (w *folder) run(ctx context.Context) error {
	token := ""
	for ctx.Err() == nil {
		sub, err := w.pods[w.rand.IntN(len(w.pods))].Watch(w.users, false, token)
		if err != nil {
			return err
		}
		token = w.follow(ctx, sub, token)
		sub.Close()
	}
	return nil
}

// follow takes events for a while, and returns the last token.
func (w *folder) follow(ctx context.Context, sub *Subscription, token string) string {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(100+w.rand.IntN(900))*time.Millisecond)
	defer cancel()
	for {
		e, err := sub.Next(ctx)
		if err != nil {
			return token
		}
		token = e.Token
		w.mu.Lock()
		for _, u := range e.Users {
			w.known[u.ID] = u
		}
		w.mu.Unlock()
	}
}

func (w *folder) differs(want []store.User) error {
	w.mu.Lock()
	known := maps.Clone(w.known)
	w.mu.Unlock()
	for _, u := range want {
		if got := known[u.ID]; slices.Contains(w.users, u.ID) && !same(&got, &u) {
			return fmt.Errorf("knows %+v, redis says %+v", got, u)
		}
	}
	return nil
}
