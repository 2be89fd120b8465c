package store

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/imcluster/imcluster/presence/feed"
)

// brief is what a Brief should say of a user.
func brief(u User) Brief {
	b := Brief{Known: u.State != Unknown || u.Reason == NeverSeen, Online: u.State == Online}
	if u.State == Offline {
		b.LastSeen = u.LastSeen.Unix()
	}
	return b
}

// sameBriefs asks twice, and returns how many were told to be online, offline and never seen.
func sameBriefs(t *testing.T, s *Store, ids []string) (online, offline, never int) {
	t.Helper()
	users, _, degraded := s.Users(t.Context(), ids)
	briefs := make([]Brief, len(ids))
	for i := range briefs {
		briefs[i] = Brief{Known: true, Online: true} // of another query
	}
	if got := s.Briefs(t.Context(), ids, briefs); got != degraded {
		t.Errorf("degraded: %v in brief, %v at length", got, degraded)
	}
	for i, b := range briefs {
		if want := brief(users[i]); b != want {
			t.Errorf("%q: %+v, want %+v", ids[i], b, want)
		}
		switch {
		case b.Online:
			online++
		case b.LastSeen > 0:
			offline++
		case b.Known:
			never++
		}
	}
	return online, offline, never
}

func TestBriefsSayWhatUsersDo(t *testing.T) {
	r := startRedis(t)
	cfg := Config{LeaseTTL: 15 * time.Second}
	g := startGateway(t, cfg, "gw-1", r.Addr)
	s := openStore(t, cfg, r.Addr)
	long := strings.Repeat("long", 20)
	ids := []string{"two devices", "hidden", "gone", "hidden and gone", "nobody", long + "1", long + "2", long + "3", "gone", "\x00 no id"}
	for _, id := range []string{"two devices", "hidden", "hidden and gone", "gone", long + "1", long + "2"} {
		session, _ := g.login(id, "d")
		if id == "two devices" {
			g.login(id, "e")
		}
		if strings.HasPrefix(id, "hidden") {
			if _, err := s.SetStatus(t.Context(), id, Status{Show: feed.ShowInvisible}); err != nil {
				t.Fatal(err)
			}
		}
		if strings.HasSuffix(id, "gone") || id == long+"2" {
			g.logout(session)
		}
	}
	g.flush()
	online, offline, never := sameBriefs(t, s, ids)
	if online != 2 || offline != 5 || never != 3 {
		t.Errorf("%d online, %d offline, %d never seen", online, offline, never)
	}
	r.Kill()
	if online, offline, never = sameBriefs(t, s, ids); online+offline+never != 0 {
		t.Errorf("without Redis: %d online, %d offline, %d never seen", online, offline, never)
	}
}

// A reader that has not heard of a split looks for users where they are not any more.
func TestWhoWasSeenIsFoundAfterASplit(t *testing.T) {
	r := startRedis(t)
	cfg := Config{LeaseTTL: 15 * time.Second}
	g := startGateway(t, cfg, "gw-1", r.Addr)
	s := openStore(t, cfg, r.Addr)
	const part = 7
	var ids []string
	for i := 0; len(ids) < 600; i++ {
		if id := fmt.Sprint("user", i); Partition(id) == part {
			ids = append(ids, id)
		}
	}
	if _, _, never := sameBriefs(t, s, ids); never != len(ids) {
		t.Fatalf("%d never seen", never)
	}
	before := s.metas[part].Load().buckets
	g.loginMany(ids)
	for _, session := range g.all() {
		g.logout(session)
	}
	g.flush()
	if got := r.MustDo("HGET", s.keys.meta[part], bucketsField); got == fmt.Sprint(before) {
		t.Fatalf("%v buckets as before", got)
	}
	for range 2 { // learns of it, knows of it
		if _, offline, _ := sameBriefs(t, s, ids); offline != len(ids) {
			t.Errorf("%d of %d offline", offline, len(ids))
		}
	}
}

func TestClosedConnectionsDoNotShowInAnswers(t *testing.T) {
	r := startRedis(t)
	cfg := Config{LeaseTTL: 15 * time.Second}
	g := startGateway(t, cfg, "gw-1", r.Addr)
	s := openStore(t, cfg, r.Addr)
	g.login("alice", "d")
	for range 3 {
		r.MustDo("CLIENT", "KILL", "TYPE", "normal")
		if online, _, never := sameBriefs(t, s, []string{"alice", "bob"}); online != 1 || never != 1 {
			t.Fatalf("%d online, %d never seen", online, never)
		}
	}
}
