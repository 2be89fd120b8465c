package store

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/imcluster/imcluster/internal/testredis"
	"github.com/imcluster/imcluster/presence/feed"
)

// register begins a session that remembers the status as a gateway does.
func (g *gateway) register(user, device string, status *Status) Session {
	g.t.Helper()
	g.mu.Lock()
	g.conns++
	s := Session{User: user, Device: device, Conn: g.conns, Status: status}
	g.mu.Unlock()
	login, err := g.member.Register(g.t.Context(), s)
	if err != nil {
		g.t.Fatal(err)
	}
	s.Since, s.Status, s.StatusSet = login.Since, &login.Status, login.StatusSet
	g.remember(s)
	return s
}

func (g *gateway) remember(s Session) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sessions[s.Conn] = s
}

// setStatus sets a status by a session, which remembers it. The other sessions of the user do not.
func (g *gateway) setStatus(s Session, status Status) StatusChange {
	g.t.Helper()
	change, err := g.member.SetStatus(g.t.Context(), s, status)
	if err != nil {
		g.t.Fatal(err)
	}
	s.Status, s.StatusSet = &status, change.Set
	g.remember(s)
	return change
}

// change is a status that one gateway knows, and a later one that another knows.
type change struct{ user, old, new, text string }

func statusChanges() (list []change) {
	shows := []string{feed.ShowOnline, feed.ShowAway, feed.ShowBusy, feed.ShowInvisible}
	for _, old := range shows {
		for _, to := range shows {
			list = append(list, change{old + " to " + to, old, to, ""}, change{old + " to " + to + " with a text", old, to, "back at 5.30"})
		}
	}
	return list
}

// Whoever registers its sessions again first after a loss, the status that was set last holds, online without text as well.
func TestNewestStatusIsPutBackInWhateverOrder(t *testing.T) {
	for _, olderFirst := range []bool{true, false} {
		t.Run(map[bool]string{true: "older first", false: "newer first"}[olderFirst], func(t *testing.T) {
			r := startRedis(t)
			older, newer := startGateway(t, Config{LeaseTTL: 4 * testTTL}, "gw-1", r.Addr), startGateway(t, Config{LeaseTTL: 4 * testTTL}, "gw-2", r.Addr)
			keep(t, older.store)
			f := follow(t, older.store)
			ids, set := []string{"plain"}, map[string]int64{}
			older.register("plain", "1", nil)
			newer.register("plain", "2", nil)
			for _, c := range statusChanges() {
				ids = append(ids, c.user)
				older.register(c.user, "1", &Status{Show: c.old})
				change := newer.setStatus(newer.register(c.user, "2", nil), Status{Show: c.new, Text: c.text})
				if !slices.Equal(change.Gateways, []Epoch{older.member.Epoch()}) {
					t.Errorf("%s: to be told: %v, want the other gateway", c.user, change.Gateways)
				}
				set[c.user] = change.Set
			}
			first, second, devices := older, newer, "12"
			if !olderFirst {
				first, second, devices = newer, older, "21"
			}
			release := second.hold()
			r.MustDo("FLUSHALL")
			eventually(t, func() error { return registered(r, first.store, ids, devices[:1]) })
			release()
			eventually(t, func() error { return registered(r, first.store, ids, devices) })
			if text := rawStatus(r, first.store, "plain"); text != "" {
				t.Errorf("of who never set a status %q is kept", text)
			}
			for _, c := range statusChanges() {
				got, err := feed.ParseStanding(rawStatus(r, first.store, c.user))
				if err != nil || got.Status != (Status{Show: c.new, Text: c.text}) || got.Set != set[c.user] {
					t.Errorf("%s: status %+v, %v, want that of %d", c.user, got, err, set[c.user])
				}
			}
			// The facts, the list and the counts say the same.
			eventually(t, func() error { return f.agrees(ids) })
			eventually(t, func() error { return listsVisible(t, first.store) })
		})
	}
}

// registered tells whether users have sessions of devices.
func registered(r *testredis.Server, s *Store, ids []string, devices string) error {
	for _, id := range ids {
		for _, d := range devices {
			if r.MustDo("HEXISTS", s.keys.userKey(Partition(id), id), "s"+string(d)).(int64) == 0 {
				return fmt.Errorf("%s has no device %c", id, d)
			}
		}
	}
	return nil
}

func rawStatus(r *testredis.Server, s *Store, id string) string {
	return textOf(r.MustDo("HGET", s.keys.userKey(Partition(id), id), "t"))
}

// listsVisible tells whether list and counts have exactly who was to be visible after [statusChanges], and "plain".
func listsVisible(t *testing.T, s *Store) error {
	want := []string{"plain"}
	for _, c := range statusChanges() {
		if c.new != feed.ShowInvisible {
			want = append(want, c.user)
		}
	}
	slices.Sort(want)
	page, err := s.Online(t.Context(), "", 1000)
	if err != nil {
		return err
	}
	slices.Sort(page.Users)
	if !slices.Equal(page.Users, want) {
		return fmt.Errorf("listed: %v, want %v", page.Users, want)
	}
	counts, err := s.Counts(t.Context())
	if err != nil || counts.Users != len(want) || counts.Sessions != 2*len(want) {
		return fmt.Errorf("counts %+v, %w, want %d users", counts, err, len(want))
	}
	return nil
}

// What is set after a loss holds, though the gateway with the older status comes after it: by a session, a login, or the API.
func TestStatusThatIsSetAmongReRegistrationsHolds(t *testing.T) {
	r := startRedis(t)
	cfg := Config{LeaseTTL: 15 * time.Second}
	g, late := startGateway(t, cfg, "gw-1", r.Addr), startGateway(t, cfg, "gw-2", r.Addr)
	ids := []string{"by a session", "by a login", "by the API", "by the API, alone"}
	sessions := map[string]Session{}
	for _, id := range ids {
		late.register(id, "2", &Status{Show: feed.ShowInvisible})
	}
	for _, id := range ids[:3] {
		sessions[id] = g.register(id, "1", nil)
	}
	release := late.hold()
	r.MustDo("FLUSHALL")
	eventually(t, func() error { return registered(r, g.store, ids[:3], "1") })
	g.setStatus(sessions["by a session"], Status{Show: feed.ShowOnline})
	g.register("by a login", "3", &Status{Show: feed.ShowOnline})
	setStatus(t, g.store, "by the API", feed.ShowOnline, "")
	setStatus(t, g.store, "by the API, alone", feed.ShowOnline, "")
	release()
	eventually(t, func() error { return registered(r, g.store, ids, "2") })
	for _, id := range ids {
		if got, err := feed.ParseStanding(rawStatus(r, g.store, id)); err != nil || got.Show != feed.ShowOnline {
			t.Errorf("%s: %+v, %v", id, got, err)
		}
	}
	// Nothing is kept of it when they have gone.
	for _, g := range []*gateway{g, late} {
		for _, s := range g.all() {
			g.logout(s)
		}
		g.flush()
	}
	for _, id := range ids {
		if fields := r.MustDo("HGETALL", g.store.keys.userKey(Partition(id), id)).([]any); slices.Contains(fields, any("t")) {
			t.Errorf("%s: kept %v", id, fields)
		}
	}
}

// Whoever sets a status with a login has to tell the gateways that know an older one, also if the first reply was lost.
func TestLoginWithAStatusNamesTheOtherGateways(t *testing.T) {
	r := startRedis(t)
	other, g := startGateway(t, Config{}, "gw-1", r.Addr), startGateway(t, Config{}, "gw-2", r.Addr)
	other.register("anna", "phone", &Status{Show: feed.ShowInvisible})
	other.register("anna", "tablet", nil)
	g.register("anna", "watch", nil)
	s := Session{User: "anna", Device: "laptop", Conn: 100}
	login := func() Login {
		t.Helper()
		l, err := g.member.Register(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	if l := login(); l.Gateways != nil || l.Status.Show != feed.ShowInvisible {
		t.Errorf("without a status: %+v", l)
	}
	s.Conn, s.Status = 101, &Status{Show: feed.ShowBusy, Text: "back at 5"}
	for _, when := range []string{"once", "repeated"} {
		if l := login(); !slices.Equal(l.Gateways, []Epoch{other.member.Epoch()}) || l.Status != *s.Status {
			t.Errorf("%s: %+v, want the other gateway", when, l)
		}
	}
}

// That who is not there has no status is forgotten soon: it is for gateways that come late.
func TestPlainStatusOfWhoIsNotThereIsKeptShortly(t *testing.T) {
	r := startRedis(t)
	s := openStore(t, Config{}, r.Addr)
	ttl := func() int64 { return r.MustDo("PTTL", s.keys.userKey(Partition("anna"), "anna")).(int64) }
	setStatus(t, s, "anna", feed.ShowAway, "")
	if ms := ttl(); ms <= s.cfg.Retention.Milliseconds() {
		t.Errorf("a status is kept for %d ms", ms)
	}
	setStatus(t, s, "anna", feed.ShowOnline, "")
	if ms := ttl(); ms < 1 || ms > time.Minute.Milliseconds() {
		t.Errorf("that there is none is kept for %d ms", ms)
	}
}

// hold has the gateway not register its sessions again until release.
func (g *gateway) hold() (release func()) {
	held := make(chan struct{})
	g.mu.Lock()
	g.held = held
	g.mu.Unlock()
	released := false
	release = func() {
		if !released {
			released = true
			close(held)
		}
	}
	g.t.Cleanup(release) // or the gateway would not stop
	return release
}

// The keys of the script are in one slot.
func TestStatusIsSetOnRedisCluster(t *testing.T) {
	g := startGateway(t, Config{Mode: Cluster, LeaseTTL: 15 * time.Second}, "gw-1", testredis.StartCluster(t, 3).Addrs()...)
	g.setStatus(g.register("anna", "d", nil), Status{Show: feed.ShowBusy})
	if u := user(t, g.store, "anna"); u.Status != feed.ShowBusy {
		t.Errorf("%+v", u)
	}
}
