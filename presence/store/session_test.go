package store

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestLoginAndLogout(t *testing.T) {
	r := startRedis(t)
	g := startGateway(t, Config{}, "gw-1", r.Addr)
	s := openStore(t, Config{}, r.Addr)
	keep(t, s)

	if u := user(t, s, "alice"); u.State != Unknown || u.Reason != NeverSeen {
		t.Fatalf("before the first login: %+v", u)
	}
	before := time.Now().Add(-time.Second)
	session, prev := g.login("alice", "phone")
	if prev != nil {
		t.Fatalf("a first login replaced %+v", prev)
	}
	if session.Since.Before(before) || session.Since.After(time.Now().Add(time.Second)) {
		t.Fatalf("login time %s", session.Since)
	}
	u := user(t, s, "alice")
	if u.State != Online || len(u.Devices) != 1 {
		t.Fatalf("after the login: %+v", u)
	}
	if d := u.Devices[0]; d.ID != "phone" || d.Platform != "web" || d.Gateway != "gw-1" || !d.LoginTime.Equal(session.Since) {
		t.Fatalf("device %+v", d)
	}
	g.logout(session)
	g.flush()
	u = user(t, s, "alice")
	if u.State != Offline || time.Since(u.LastSeen) > 5*time.Second || len(u.Devices) != 0 {
		t.Fatalf("after the logout: %+v", u)
	}
}

func TestOtherDeviceKeepsUserOnline(t *testing.T) {
	r := startRedis(t)
	g := startGateway(t, Config{}, "gw-1", r.Addr)
	h := startGateway(t, Config{}, "gw-2", r.Addr)
	phone, _ := g.login("alice", "phone")
	laptop, _ := h.login("alice", "laptop")
	if got := g.locate("alice"); len(got) != 2 {
		t.Fatalf("located %+v", got)
	}
	g.logout(phone)
	g.flush()
	is(t, g.store, "alice", Online)
	h.logout(laptop)
	h.flush()
	is(t, g.store, "alice", Offline)
}

func TestSameDeviceElsewhereReplaces(t *testing.T) {
	r := startRedis(t)
	g := startGateway(t, Config{}, "gw-1", r.Addr)
	h := startGateway(t, Config{}, "gw-2", r.Addr)
	old, _ := g.login("alice", "phone")
	fresh, prev := h.login("alice", "phone")
	if prev == nil || prev.Epoch != g.member.Epoch() || prev.Conn != old.Conn || !prev.Since.Equal(old.Since) || prev.Platform != "web" {
		t.Fatalf("the login replaced %+v", prev)
	}
	if !fresh.Since.After(old.Since) {
		t.Fatalf("login times %s and %s", old.Since, fresh.Since)
	}
	// The kick comes late: what it unregisters is not there any more.
	g.logout(old)
	g.flush()
	is(t, g.store, "alice", Online)
	if got := g.locate("alice"); len(got) != 1 || got[0].Epoch != h.member.Epoch() {
		t.Fatalf("located %+v", got)
	}
	if p, ok := g.member.Peer(h.member.Epoch()); !ok || p.Address != "gw-2:9091" {
		t.Fatalf("peer %+v %v", p, ok)
	}
	c, err := g.store.Counts(t.Context())
	if err != nil || c.Users != 1 || c.Sessions != 1 {
		t.Fatalf("counts %+v %v", c, err)
	}
}

func TestSameDeviceOnSameGatewayReplaces(t *testing.T) {
	r := startRedis(t)
	g := startGateway(t, Config{}, "gw-1", r.Addr)
	old, _ := g.login("alice", "phone")
	_, prev := g.login("alice", "phone")
	if prev == nil || prev.Epoch != g.member.Epoch() || prev.Conn != old.Conn {
		t.Fatalf("the login replaced %+v", prev)
	}
	g.logout(old)
	g.flush()
	is(t, g.store, "alice", Online)
}

func TestAnyID(t *testing.T) {
	r := startRedis(t)
	g := startGateway(t, Config{KeyPrefix: "imc:"}, "gw-1", r.Addr)
	ids := []string{
		"a:disconnect", "{x}", "{}", "}{", "*", "a b", "a.b.c", "%s", "s", `"\`, strings.Repeat("🙂", 32), strings.Repeat("x", 128),
		"用户", "0", "-1", "x:AAAAAAAA",
	}
	for _, id := range ids {
		phone, _ := g.login(id, "default")
		device := strings.Repeat("é", 32)
		g.login(id, device)
		u := user(t, g.store, id)
		if u.State != Online || len(u.Devices) != 2 || u.Devices[1].ID != device {
			t.Fatalf("user %q: %+v", id, u)
		}
		g.logout(phone)
	}
	g.flush()
	page, err := g.store.Online(t.Context(), "", 1000)
	if err != nil || len(page.Users) != len(ids) {
		t.Fatalf("online: %+v %v", page, err)
	}
	for _, s := range g.all() {
		g.logout(s)
	}
	g.flush()
	for _, id := range ids {
		is(t, g.store, id, Offline)
	}
}

// all returns all sessions.
func (g *gateway) all() []Session {
	g.mu.Lock()
	defer g.mu.Unlock()
	var list []Session
	for _, s := range g.sessions {
		list = append(list, s)
	}
	return list
}

func TestUserHasAtMostSoManyDevices(t *testing.T) {
	r := startRedis(t)
	g := startGateway(t, Config{MaxDevices: 2}, "gw-1", r.Addr)
	one, _ := g.signIn("alice", "one")
	g.signIn("alice", "two")
	if _, _, err := g.tryLogin(t.Context(), "alice", "three"); !errors.Is(err, ErrTooManyDevices) {
		t.Fatalf("a third device: %v", err)
	}
	g.signIn("alice", "two") // takes the place of itself
	g.logout(one)
	g.signIn("alice", "three")
}
