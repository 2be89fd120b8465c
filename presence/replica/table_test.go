package replica

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imcluster/imcluster/presence/feed"
)

func TestStateIsPackedWhole(t *testing.T) {
	n := newNames()
	full := feed.State{
		LastSeen: 1767225600,
		Status:   feed.Standing{Status: feed.Status{Show: feed.ShowInvisible, Text: "汉字"}, Set: 1767225600123, Hidden: 1767225599},
		Sessions: []feed.Session{
			{Device: "a", Epoch: "epoch-01", Conn: 1 << 40, Since: 1767225600999, Platform: "ios"},
			{Device: "b", Epoch: "epoch-02", Conn: 0, Since: 1, Platform: ""}, // a clock that stands at 1970
		},
	}
	for name, want := range map[string]feed.State{
		"all":          full,
		"plain":        {Sessions: []feed.Session{{Device: "d", Epoch: "epoch-01", Conn: 7, Since: 1767225600999, Platform: "web"}}},
		"only status":  {Status: feed.Standing{Status: feed.Status{Show: feed.ShowOnline, Text: "x"}, Set: 5}},
		"nothing":      {},
		"never hidden": {Status: feed.Standing{Status: feed.Status{Show: feed.ShowInvisible}, Set: 1767225600123}},
	} {
		if diff := cmp.Diff(want, n.unpack(string(n.pack(nil, &want)))); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	// Names of platforms beyond those that are kept are written out.
	for i := range 2 * maxPlatforms {
		s := feed.State{Sessions: []feed.Session{{Device: "d", Epoch: "e", Since: packBegin * 1000, Platform: fmt.Sprint("platform", i)}}}
		if diff := cmp.Diff(s, n.unpack(string(n.pack(nil, &s)))); diff != "" {
			t.Fatal(diff)
		}
	}
	if kept := len(n.platforms.numbers); kept > maxPlatforms {
		t.Errorf("%d names of platforms are kept", kept)
	}
}

func TestWhoIsAskedForStaysRemembered(t *testing.T) {
	table := newTable(100)
	table.put("online", "packed", true)
	table.put("hidden", "packed", false)
	for i := range 100 {
		table.remember(fmt.Sprint("old", i), uint32(i))
	}
	for range 3 { // until all but the wanted ones lost their mark
		table.remember(fmt.Sprint("more", len(table.slots)), 1)
		for i := range 10 {
			if s := table.find(fmt.Sprint("old", i)); s != nil {
				s.want()
			}
		}
	}
	for i := range 60 {
		table.remember(fmt.Sprint("new", i), 1)
		for i := range 10 {
			if s := table.find(fmt.Sprint("old", i)); s != nil {
				s.want()
			}
		}
	}
	wanted := 0
	for i := range 10 {
		if table.find(fmt.Sprint("old", i)) != nil {
			wanted++
		}
	}
	if table.remembered != 100 || wanted < 9 {
		t.Errorf("%d are remembered, of them %d of the 10 who are asked for", table.remembered, wanted)
	}
	if s := table.find("online"); s == nil || s.sessions != "packed" || !s.has(shown) {
		t.Errorf("who is online became %+v", s)
	}
	if s := table.find("hidden"); s == nil || s.sessions != "packed" || s.has(shown) {
		t.Errorf("who is hidden became %+v", s)
	}
}

func TestTableGivesMemoryBack(t *testing.T) {
	table := newTable(10)
	for i := range 5000 {
		table.put(fmt.Sprint("user", i), "packed", true)
	}
	for i := range 4990 {
		table.put(fmt.Sprint("user", i), "", false)
	}
	if len(table.slots) > 2000 {
		t.Errorf("%d slots for %d users", len(table.slots), len(table.index))
	}
	for i := 4990; i < 5000; i++ {
		if s := table.find(fmt.Sprint("user", i)); s == nil || s.user != fmt.Sprint("user", i) || s.sessions != "packed" {
			t.Errorf("user%d became %+v", i, s)
		}
	}
}

func TestListHasEverybodyOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		redis := newFakeRedis(t)
		redis.join("e1", "e2")
		users := userIDs(300)
		redis.login("e1", users[:200]...)
		redis.login("e2", users[200:]...)
		redis.loginDevice("e2", users[0], "web")
		redis.setStatus(users[7], feed.ShowInvisible, "")
		redis.logout(users[8])
		r := startFake(t, redis)
		seen := map[string]int{}
		for cursor, pages := "", 0; ; pages++ {
			page, err := r.Online(t.Context(), cursor, 7)
			if err != nil || page.Degraded || len(page.Users) > 7 {
				t.Fatalf("%+v, %v", page, err)
			}
			for _, u := range page.Users {
				seen[u]++
			}
			if cursor = page.Next; cursor == "" {
				break
			}
			if pages > 300 {
				t.Fatal("the list has no end")
			}
		}
		for i, u := range users {
			if want := map[bool]int{true: 0, false: 1}[i == 7 || i == 8]; seen[u] != want {
				t.Errorf("%s is listed %d times", u, seen[u])
			}
		}
		counts, err := r.Counts(t.Context())
		if err != nil || counts.Users != 298 || counts.Sessions != 299 || len(counts.Gateways) != 2 ||
			counts.Gateways[0].Sessions != 198 || counts.Gateways[1].Sessions != 101 {
			t.Errorf("%+v, %v", counts, err)
		}
		redis.kill("e1")
		watch(t, r, "", users[0])
		if counts, err = r.Counts(t.Context()); err != nil || counts.Users != 101 || counts.Sessions != 101 {
			t.Errorf("after the end of a gateway: %+v, %v", counts, err)
		}
	})
}
