package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/imcluster/imcluster/gateway/auth"
	"github.com/imcluster/imcluster/presence/store"
)

// recording asks Insecure, and remembers what it was asked.
type recording struct{ *asked }

func (r recording) Authenticate(ctx context.Context, c auth.Credentials) (auth.Identity, error) {
	r.mu.Lock()
	r.asked.asked = c
	r.mu.Unlock()
	return r.Insecure.Authenticate(ctx, c)
}

const tokenKey = "key-of-tokens-of-thirty-two-bytes"

func withJWT(c *Config) { c.Auth = auth.NewJWT(testKeys{tokenKey}, "", "") }

// tokenOf returns a token that ends so long from now.
func tokenOf(t *testing.T, user, id string, life time.Duration) string {
	t.Helper()
	now := time.Now()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": user, "jti": id, "iat": now.Add(-time.Minute).Unix(), "exp": now.Add(life).Unix()}).SignedString([]byte(tokenKey))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// expired is a token that is accepted only because clocks may differ, for less than a second more.
func expired(t *testing.T, user string) string {
	return tokenOf(t, user, "old", time.Second-auth.Leeway)
}

func TestSessionEndsWithItsToken(t *testing.T) {
	g := startGateway(t, newWorld(), withJWT)
	c := dial(t, g, "?token="+expired(t, "a"), nil)
	f := c.expect(frame{"type": "11", "code": 200})
	if left := f["expiresAt"].(float64) - f["time"].(float64); left <= 0 || left > 1000 {
		t.Errorf("the session is said to end in %v ms", left)
	}
	c.expect(frame{"type": "0", "code": 302})
	c.expectClose(4302)
}

func TestFreshTokenKeepsTheSessionOpen(t *testing.T) {
	w := newWorld()
	g := startGateway(t, w, withJWT)
	c := dial(t, g, "?deviceId=d&token="+expired(t, "a"), nil)
	first := c.expect(frame{"type": "11", "code": 200})
	c.send(`{"type":"10","deviceId":"d","token":%q}`, tokenOf(t, "a", "new", time.Minute))
	renewed := c.expect(frame{"type": "11", "code": 200})
	if renewed["sessionId"] != first["sessionId"] || renewed["expiresAt"].(float64)-first["expiresAt"].(float64) < 50e3 {
		t.Errorf("first %v, renewed %v", first, renewed)
	}
	// The first token ends within a second; the timer looks again then.
	eventually(t, "the first token has ended", func() bool { return time.Now().UnixMilli() > int64(first["expiresAt"].(float64))+200 })
	c.expectSilence()
	if devices := w.devices("a"); len(devices) != 1 {
		t.Errorf("registered: %v", devices)
	}
	if n := g.metrics.logins[loginRenewed].Load(); n != 1 {
		t.Errorf("%d renewals are counted", n)
	}
}

// A session can be told to end sooner, too.
func TestTokenThatEndsSoonerCounts(t *testing.T) {
	g := startGateway(t, newWorld(), withJWT)
	c := dial(t, g, "?token="+tokenOf(t, "a", "long", time.Hour), nil)
	c.expect(frame{"type": "11", "code": 200})
	c.send(`{"type":"10","token":%q}`, expired(t, "a"))
	c.expect(frame{"type": "11", "code": 200})
	c.expectClose(4302)
}

func TestRenewalThatIsRefusedChangesNothing(t *testing.T) {
	w := newWorld()
	g := startGateway(t, w, withJWT)
	c := dial(t, g, "?deviceId=d&token="+tokenOf(t, "a", "one", time.Hour), nil)
	c.expect(frame{"type": "11", "code": 200})
	for _, tc := range []struct {
		name, login string
		code        int
	}{
		{"a bad token", `{"type":"10","deviceId":"d","token":"x"}`, 301},
		{"an expired one", fmt.Sprintf(`{"type":"10","deviceId":"d","token":%q}`, tokenOf(t, "a", "x", -time.Minute)), 302},
		{"another user", fmt.Sprintf(`{"type":"10","deviceId":"d","token":%q}`, tokenOf(t, "b", "x", time.Minute)), 405},
		{"another device", fmt.Sprintf(`{"type":"10","deviceId":"e","token":%q}`, tokenOf(t, "a", "x", time.Minute)), 405},
		{"the default device", fmt.Sprintf(`{"type":"10","token":%q}`, tokenOf(t, "a", "x", time.Minute)), 405},
		{"as somebody else", fmt.Sprintf(`{"type":"10","deviceId":"d","fromId":"b","token":%q}`, tokenOf(t, "a", "x", time.Minute)), 303},
	} {
		c.send("%s", tc.login)
		c.expect(frame{"type": "11", "code": tc.code})
	}
	w.setDown(true)
	c.send(`{"type":"10","deviceId":"d","token":%q}`, tokenOf(t, "a", "two", time.Minute))
	if f := c.expect(frame{"type": "11", "code": 500}); f["delayMs"] == nil {
		t.Errorf("%v does not say when to try again", f)
	}
	w.setDown(false)
	for _, s := range g.all() {
		s.mu.Lock()
		if s.token.id != "one" {
			t.Errorf("the token is %q", s.token.id)
		}
		s.mu.Unlock()
	}
	c.expectSilence()
}

func TestRevokedTokenRenewsNothing(t *testing.T) {
	w := newWorld()
	g := startGateway(t, w, withJWT)
	c := dial(t, g, "?token="+tokenOf(t, "a", "one", time.Hour), nil)
	c.expect(frame{"type": "11", "code": 200})
	w.mu.Lock()
	w.revoked = []store.Revocation{{User: "a", TokenID: "two"}}
	w.mu.Unlock()
	c.send(`{"type":"10","token":%q}`, tokenOf(t, "a", "two", time.Hour))
	c.expect(frame{"type": "11", "code": 305})
	c.expectClose(4305)
	if devices := w.devices("a"); len(devices) != 0 {
		t.Errorf("still registered: %v", devices)
	}
}

func TestRevocationEndsTheSessionsThatItCovers(t *testing.T) {
	w := newWorld()
	g := startGateway(t, w, withJWT, func(c *Config) { c.Store.Grace = time.Minute })
	connect := func(user, device, id string) *client {
		c := dial(t, g, "?deviceId="+device+"&token="+tokenOf(t, user, id, time.Hour), nil)
		c.expect(frame{"type": "11", "code": 200})
		return c
	}
	phone, desk, bob, gone := connect("a", "phone", "t1"), connect("a", "desk", "t2"), connect("b", "phone", "t1"), connect("a", "gone", "t3")
	gone.ws.Close() // its session is in its grace
	eventually(t, "the connection is lost", func() bool { return g.metrics.closes[reasonLost].Load() == 1 })
	l := local{g}
	l.Revoked(store.Revocation{User: "a", Device: "gone"})
	eventually(t, "a session in its grace ends", func() bool { return len(w.devices("a")) == 2 })
	l.Revoked(store.Revocation{User: "a", TokenID: "t1", Reason: "the phone was stolen"})
	phone.expect(frame{"type": "32", "code": 305, "message": "the phone was stolen"})
	phone.expectClose(4305)
	desk.expectSilence()
	bob.expectSilence()
	l.Revoked(store.Revocation{User: "a", Before: time.Now().Add(-time.Hour)}) // the tokens are a minute old
	desk.expectSilence()
	l.Revoked(store.Revocation{User: "a", Before: time.Now()})
	desk.expect(frame{"type": "32", "code": 305})
	desk.expectClose(4305)
	bob.expectSilence()
	eventually(t, "nobody is registered", func() bool { return len(w.devices("a")) == 0 })
}

// later is an authenticator that cannot be asked at first.
type later struct {
	mu     sync.Mutex
	faults int
}

func (l *later) Authenticate(ctx context.Context, c auth.Credentials) (auth.Identity, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.faults--; l.faults >= 0 {
		return auth.Identity{}, errors.New("the auth webhook answered 500, not 200 or 401")
	}
	return auth.Insecure{}.Authenticate(ctx, c)
}

func TestLoginMayBeRepeatedWhileNobodyCanJudgeTokens(t *testing.T) {
	g := startGateway(t, newWorld(), func(c *Config) { c.Auth = &later{faults: 2} })
	c := dial(t, g, "?token=a", nil)
	for range 2 {
		if f := c.expect(frame{"type": "11", "code": 500}); f["delayMs"].(float64) < 1000 {
			t.Errorf("%v asks to come back too soon", f)
		}
		c.send(`{"type":"10","token":"a"}`)
	}
	c.expect(frame{"type": "11", "code": 200})
}

// A token in the handshake must not reach the logs, whatever becomes of the request.
func TestTokensAreKeptOutOfLogs(t *testing.T) {
	var mu sync.Mutex
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(lockedWriter{&mu, &log}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	g := startGateway(t, newWorld(), withJWT, func(c *Config) {
		c.Logger, c.AllowedOrigins = logger, []string{"https://chat.example.com"}
	})
	secret := "SECRET" + tokenOf(t, "a", "id", time.Hour)
	good := tokenOf(t, "a", "SECRET", time.Hour)
	c := dial(t, g, "?token="+secret, nil)
	if f := c.expect(frame{"type": "11", "code": 301}); strings.Contains(fmt.Sprint(f), "SECRET") {
		t.Errorf("the answer %v holds the token", f)
	}
	c.expectClose(4301)
	c = dial(t, g, "?token="+good, nil)
	c.expect(frame{"type": "11", "code": 200})
	c.send(`{"type":"10","token":%q}`, secret)
	c.expect(frame{"type": "11", "code": 301})
	for _, path := range []string{"/ws?token=" + secret, "/elsewhere?token=" + secret} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+g.Addr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+secret)
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	mu.Lock()
	defer mu.Unlock()
	if strings.Contains(log.String(), "SECRET") || strings.Contains(log.String(), good) {
		t.Errorf("the log holds a token:\n%s", log.String())
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	to *bytes.Buffer
}

func (w lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(p)
}
