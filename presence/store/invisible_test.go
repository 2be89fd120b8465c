package store

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/imcluster/imcluster/presence/feed"
)

// life is a user who connects and disconnects, hides and shows up.
type life struct {
	t         *testing.T
	g         *gateway
	id        string
	session   *Session
	hidden    bool
	connected bool
	// seen is the answer that others must get while they can see nothing happen.
	seen *User
}

// toggleConnection logs in or out. The time of the logout is one that nobody can have seen otherwise.
func (l *life) toggleConnection(step int) {
	if l.connected {
		l.g.mu.Lock()
		delete(l.g.sessions, l.session.Conn)
		l.g.mu.Unlock()
		l.g.member.Unregister(*l.session, time.Now().Add(time.Duration(step+1)*time.Minute), feed.CauseLogout)
		l.g.flush()
	} else {
		s, _ := l.g.login(l.id, "d")
		l.session = &s
	}
	l.connected = !l.connected
}

// toggleVisibility hides or shows up: by the API, by the gateway, or with a login, if there is one.
func (l *life) toggleVisibility(step int) {
	l.t.Helper()
	status := Status{Show: feed.ShowInvisible, Text: "hush"}
	if l.hidden {
		status = Status{Show: feed.ShowOnline}
	}
	var err error
	switch {
	case l.connected && step%3 == 0:
		_, err = l.g.member.SetStatus(context.Background(), *l.session, status)
	case l.connected && step%3 == 1:
		s := *l.session
		s.Conn += 1 << 32
		s.Status = &status
		var login Login
		if login, err = l.g.member.Register(context.Background(), s); err == nil {
			s.Since, s.Status = login.Since, nil
			l.session = &s
		}
	default:
		_, err = l.g.store.SetStatus(context.Background(), l.id, status)
	}
	if err != nil {
		l.t.Fatal(err)
	}
	l.hidden = !l.hidden
}

// check looks at the user as others do. While nothing may be seen of the user, the answer stays the same, to the byte.
func (l *life) check(what string) {
	l.t.Helper()
	now := user(l.t, l.g.store, l.id)
	visible := l.connected && !l.hidden
	switch {
	case visible:
		if now.State != Online || now.Status != feed.ShowOnline || len(now.Devices) != 1 {
			l.t.Fatalf("%s: %s is not online: %+v", what, l.id, now)
		}
		l.seen = nil
		return
	case l.seen == nil:
		if now.State != Offline || now.LastSeen.IsZero() || !reflect.DeepEqual(now, User{ID: l.id, State: Offline, LastSeen: now.LastSeen}) {
			l.t.Fatalf("%s: %s is not plainly offline: %+v", what, l.id, now)
		}
		l.seen = &now
	}
	if !reflect.DeepEqual(now, *l.seen) {
		l.t.Fatalf("%s: others saw %+v before, and now %+v", what, *l.seen, now)
	}
}

// All orders of six and of seven steps, each a login or logout, or hiding or showing up: who hides is connected after six, and
// not after seven.
func TestInvisibleUsersCannotBeToldFromOfflineOnes(t *testing.T) {
	r := startRedis(t)
	g := startGateway(t, Config{LeaseTTL: 15 * time.Second}, "gw-1", r.Addr)
	keep(t, g.store)
	f := follow(t, g.store)
	var ids, online, hidden []string
	for n := range 1<<6 + 1<<7 {
		steps, order := 6, n
		if n >= 1<<6 {
			steps, order = 7, n-1<<6
		}
		id := fmt.Sprintf("user-%03d", n)
		l := &life{t: t, g: g, id: id, seen: &User{ID: id, State: Unknown, Reason: NeverSeen}}
		story := ""
		for step := range steps {
			if order>>step&1 == 0 {
				l.toggleConnection(step)
				story += "C"
			} else {
				l.toggleVisibility(step)
				story += "V"
			}
			l.check(story)
		}
		ids = append(ids, id)
		if l.connected && !l.hidden {
			online = append(online, id)
		} else if l.connected {
			hidden = append(hidden, id)
		}
	}
	slices.Sort(online)
	// Who has left must not be on the list of those who hide, which a later login would not be taken off.
	var kept []string
	for p := range Partitions {
		for _, v := range r.MustDo("HKEYS", g.store.keys.hidden[p]).([]any) {
			kept = append(kept, textOf(v))
		}
	}
	slices.Sort(kept)
	slices.Sort(hidden)
	if !slices.Equal(kept, hidden) {
		t.Errorf("kept as invisible: %v, want %v", kept, hidden)
	}
	page, err := g.store.Online(t.Context(), "", 1000)
	slices.Sort(page.Users)
	if err != nil || !slices.Equal(page.Users, online) {
		t.Errorf("listed: %v, %v, want %v", page.Users, err, online)
	}
	counts, err := g.store.count(t.Context())
	want := Counts{Users: len(online), Sessions: len(online), Gateways: []GatewayCount{{"gw-1", len(online)}}, AsOf: counts.AsOf}
	if err != nil || !reflect.DeepEqual(counts, want) {
		t.Errorf("counts %+v, %v, want %+v", counts, err, want)
	}
	eventually(t, func() error { return f.agrees(ids) })
}

func TestInvisibleUserOfAGatewayThatDies(t *testing.T) {
	r := startRedis(t)
	cfg := Config{LeaseTTL: 2 * testTTL}
	s := openStore(t, cfg, r.Addr)
	keep(t, s)
	keep(t, openStore(t, cfg, r.Addr))
	g := startGateway(t, cfg, "gw-1", r.Addr)
	f := follow(t, s)
	g.login("anna", "d")
	g.login("bert", "d")
	setStatus(t, s, "anna", feed.ShowInvisible, "")
	before := user(t, s, "anna")
	sleep(t, 1100*time.Millisecond) // when the lease ends is another second
	g.stop()
	becomes(t, s, "bert", Offline, Unknown)
	if now := user(t, s, "anna"); !reflect.DeepEqual(now, before) {
		t.Fatalf("anna was %+v, and when the gateway was dead %+v", before, now)
	}
	setStatus(t, s, "anna", feed.ShowOnline, "")
	if now := user(t, s, "anna"); !reflect.DeepEqual(now, before) {
		t.Fatalf("anna was %+v, and after showing up without being there %+v", before, now)
	}
	eventually(t, func() error { return f.agrees([]string{"anna", "bert"}) })
}

// With the data goes the status; who hides must not be seen when the sessions come back.
func TestInvisibleUsersStaySoWhenRedisIsEmptied(t *testing.T) {
	r := startRedis(t)
	g := startGateway(t, Config{}, "gw-1", r.Addr)
	keep(t, g.store)
	for i, show := range []string{feed.ShowInvisible, feed.ShowBusy} {
		s := Session{User: show, Device: "d", Conn: uint64(i + 1), Status: &Status{Show: show}}
		login, err := g.member.Register(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		s.Since, s.Status, s.StatusSet = login.Since, &login.Status, login.StatusSet
		g.mu.Lock()
		g.sessions[s.Conn] = s
		g.mu.Unlock()
	}
	seen := background(t, func(ctx context.Context) error {
		for pause(ctx, time.Millisecond) == nil {
			if u := user(t, g.store, feed.ShowInvisible); u.State == Online {
				return fmt.Errorf("an invisible user was seen: %+v", u)
			}
		}
		return nil
	})
	r.MustDo("FLUSHALL")
	becomes(t, g.store, feed.ShowBusy, Online, Offline)
	if u := user(t, g.store, feed.ShowBusy); u.Status != feed.ShowBusy {
		t.Errorf("the status is lost: %+v", u)
	}
	eventually(t, func() error {
		if u := user(t, g.store, feed.ShowInvisible); u.Reason != NeverSeen {
			return fmt.Errorf("%+v", u)
		}
		return nil
	})
	seen()
	if n := len(g.all()); n != 2 {
		t.Errorf("%d sessions are left", n)
	}
}

// A new epoch after a pause is no loss: a status that was set meanwhile stays as it is.
func TestStatusOfALoginIsNotPutBackWithoutALoss(t *testing.T) {
	r := startRedis(t)
	g := startGateway(t, Config{LeaseTTL: 15 * time.Second}, "gw-1", r.Addr)
	s := Session{User: "anna", Device: "d", Conn: 1, Status: &Status{Show: feed.ShowInvisible}}
	login, err := g.member.Register(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	s.Since, s.StatusSet = login.Since, login.StatusSet
	g.mu.Lock()
	g.sessions[s.Conn] = s
	g.mu.Unlock()
	setStatus(t, g.store, "anna", feed.ShowOnline, "")
	old := g.member.Epoch()
	if _, _, err := g.store.Fence(t.Context(), []Epoch{old}, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		puts := factsAbout(t, g.store, "anna", "S")
		if last := puts[len(puts)-1]; last.Session.Epoch == old {
			return errNotYet
		} else if last.Status.Invisible() {
			t.Fatal("the status of the login is back")
		}
		return nil
	})
}

func TestStatusIsSet(t *testing.T) {
	r := startRedis(t)
	g := startGateway(t, Config{LeaseTTL: 15 * time.Second}, "gw-1", r.Addr)
	s, _ := g.login("anna", "d")
	setStatus(t, g.store, "anna", feed.ShowAway, "2.5 h. Back soon")
	if u := user(t, g.store, "anna"); u.Status != feed.ShowAway || u.Text != "2.5 h. Back soon" {
		t.Errorf("%+v", u)
	}
	// A device that is named like nothing else must not be taken for the status, nor the other way round.
	for _, device := range []string{"t", "", "st"} {
		if device != "" {
			g.login("anna", device)
		}
	}
	if u := user(t, g.store, "anna"); len(u.Devices) != 3 || u.Status != feed.ShowAway {
		t.Errorf("%+v", u)
	}
	// It persists, and comes back with the next login.
	for _, s := range g.all() {
		g.logout(s)
	}
	g.flush()
	again := Session{User: "anna", Device: "d", Conn: 1000}
	login, err := g.member.Register(t.Context(), again)
	if err != nil || login.Status != (Status{Show: feed.ShowAway, Text: "2.5 h. Back soon"}) {
		t.Errorf("login %+v, %v", login, err)
	}
	if _, err := g.member.SetStatus(t.Context(), s, Status{}); !errors.Is(err, ErrNoSession) {
		t.Errorf("a session that has ended sets a status: %v", err)
	}
	if _, err := g.member.SetStatus(t.Context(), again, Status{Show: "gone"}); !errors.Is(err, ErrInvalidStatus) {
		t.Errorf("a bad status: %v", err)
	}
	if _, err := g.store.SetStatus(t.Context(), "anna", Status{Text: "\n"}); !errors.Is(err, ErrInvalidStatus) {
		t.Errorf("a bad text: %v", err)
	}
	again.Status = &Status{Show: "x"}
	if _, err := g.member.Register(t.Context(), again); !errors.Is(err, ErrInvalidStatus) {
		t.Errorf("login with a bad status: %v", err)
	}
	if _, err := g.member.SetStatus(t.Context(), again, Status{}); err != nil {
		t.Error(err)
	}
	if u := user(t, g.store, "anna"); u.Status != feed.ShowOnline || u.Text != "" {
		t.Errorf("%+v", u)
	}
}

func TestStatusIsKeptWithoutSessions(t *testing.T) {
	r := startRedis(t)
	g := startGateway(t, Config{LeaseTTL: 15 * time.Second}, "gw-1", r.Addr)
	exists := func(user string) bool {
		return r.MustDo("EXISTS", g.store.keys.userKey(Partition(user), user)).(int64) == 1
	}
	for i, show := range []string{feed.ShowAway, feed.ShowOnline} {
		s, _ := g.login("anna", "d")
		setStatus(t, g.store, "anna", show, "")
		g.logout(s)
		g.flush()
		if kept := exists("anna"); kept != (i == 0) {
			t.Errorf("of who logged out %s something is kept: %v", show, kept)
		}
	}
	// Of who was never there a status is kept too, for a time.
	setStatus(t, g.store, "bert", feed.ShowInvisible, "")
	if ttl := r.MustDo("PTTL", g.store.keys.userKey(Partition("bert"), "bert")).(int64); ttl <= g.store.cfg.Retention.Milliseconds() {
		t.Errorf("expires in %d ms", ttl)
	}
	if u := user(t, g.store, "bert"); u.Reason != NeverSeen {
		t.Errorf("%+v", u)
	}
}
