package replica

import (
	"testing"

	"github.com/imcluster/imcluster/presence/store"
)

func TestMemoryAnswersWhatRedisDoes(t *testing.T) {
	redis := startRedis(t)
	cfg := storeConfig(redis.Addr)
	g := startGateway(t, cfg, "gw-1")
	p := startPod(t, cfg)
	g.login("alice", "bob", "carol")
	g.logout("bob")
	users := p.knows("alice", "bob", "carol", "never")
	for i, want := range []store.State{store.Online, store.Offline, store.Online, store.Unknown} {
		if users[i].State != want {
			t.Errorf("%s is %s, want %s", users[i].ID, users[i].State, want)
		}
	}
	misses := p.metrics.misses.Load()
	if users, asOf, degraded := p.Users(t.Context(), []string{"alice", "bob", "carol", "never"}); degraded || asOf.IsZero() {
		t.Errorf("%v, degraded %v as of %v", users, degraded, asOf)
	}
	if n := p.metrics.misses.Load() - misses; n > 0 {
		t.Errorf("%d users were asked of redis", n)
	}
}
