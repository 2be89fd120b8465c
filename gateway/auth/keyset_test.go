package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"

	"github.com/imcluster/imcluster/api/wire"
)

// Keys are made once: 2,048 bits take a while under the race detector.
var rsaKey, otherRSAKey, ecKey = sync.OnceValue(newRSAKey(2048)), sync.OnceValue(newRSAKey(2048)), sync.OnceValue(newECKey(elliptic.P256()))

func newRSAKey(bits int) func() *rsa.PrivateKey {
	return func() *rsa.PrivateKey {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			panic(err)
		}
		return key
	}
}

func newECKey(curve elliptic.Curve) func() *ecdsa.PrivateKey {
	return func() *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			panic(err)
		}
		return key
	}
}

// provider is an identity provider: a server of a key set.
type provider struct {
	*httptest.Server
	asked atomic.Int32
	clock *clock

	mu     sync.Mutex
	answer http.HandlerFunc
}

type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func newClock() *clock { return &clock{t: time.Now()} }

func newProvider(t *testing.T, keys ...jose.JSONWebKey) *provider {
	t.Helper()
	p := &provider{clock: newClock()}
	p.publish(keys...)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.asked.Add(1)
		p.mu.Lock()
		answer := p.answer
		p.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *provider) behave(answer http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = answer
}

func (p *provider) publish(keys ...jose.JSONWebKey) {
	body, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	if err != nil {
		panic(err)
	}
	p.behave(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })
}

func (p *provider) authenticator(t *testing.T) *JWT {
	t.Helper()
	set, err := NewKeySet(KeySetConfig{URL: p.URL + "/jwks.json?client=im", now: p.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	return newJWT(set, p.clock.now, "", "")
}

func public(kid string, key crypto.Signer) jose.JSONWebKey {
	return jose.JSONWebKey{Key: key.Public(), KeyID: kid, Use: "sig"}
}

// signed returns a token with the key's id in its header, if it is not empty.
func signed(t *testing.T, method jwt.SigningMethod, kid any, key any, change ...func(jwt.MapClaims)) string {
	t.Helper()
	hour := set("exp", time.Now().Add(time.Hour).Unix())
	token := jwt.NewWithClaims(method, claims(append([]func(jwt.MapClaims){hour}, change...)...))
	if kid != nil {
		token.Header["kid"] = kid
	}
	s, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// outcome is "" for a token that is accepted, a code for one that is refused, and "later" for one to try again.
func outcome(t *testing.T, a Authenticator, token string) string {
	t.Helper()
	id, err := a.Authenticate(t.Context(), Credentials{Token: token, DeviceID: "d"})
	var e *wire.Error
	switch {
	case err == nil && id.User != "alice":
		t.Fatalf("accepted as %+v", id)
	case err == nil:
		return ""
	case strings.Contains(err.Error(), token):
		t.Fatalf("the error %q holds the token", err)
	case errors.As(err, &e):
		return fmt.Sprint(int(e.Code))
	}
	return "later"
}

func TestPublicKeys(t *testing.T) {
	r, e := rsaKey(), ecKey()
	der, err := x509.MarshalPKIXPublicKey(r.Public())
	if err != nil {
		t.Fatal(err)
	}
	asPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	p := newProvider(t, public("r", r), public("e", e),
		jose.JSONWebKey{Key: newECKey(elliptic.P384())().Public(), KeyID: "p384"},
		jose.JSONWebKey{Key: newRSAKey(1024)().Public(), KeyID: "short"},
		jose.JSONWebKey{Key: otherRSAKey().Public(), KeyID: "enc", Use: "enc"},
		jose.JSONWebKey{Key: otherRSAKey().Public(), KeyID: "ps", Algorithm: "PS256"},
		jose.JSONWebKey{Key: otherRSAKey(), KeyID: "private"},
		jose.JSONWebKey{Key: []byte(current), KeyID: "shared"},
	)
	a := p.authenticator(t)
	rs, es, hs := jwt.SigningMethodRS256, jwt.SigningMethodES256, jwt.SigningMethodHS256
	for _, tc := range []struct{ name, token, want string }{
		{"RS256", signed(t, rs, "r", r), ""},
		{"ES256", signed(t, es, "e", e), ""},
		{"RS256 without kid", signed(t, rs, nil, r), ""},
		{"ES256 without kid", signed(t, es, nil, e), ""},
		{"expired", signed(t, rs, "r", r, set("exp", time.Now().Add(-time.Minute).Unix())), "302"},
		{"issued in the future", signed(t, rs, "r", r, set("iat", time.Now().Add(time.Minute).Unix())), "301"},
		{"issued within the leeway", signed(t, rs, "r", r, set("iat", time.Now().Add(2*time.Second).Unix())), ""},
		{"a jti that is too long", signed(t, rs, "r", r, set("jti", strings.Repeat("x", 129))), "301"},
		{"signed by somebody else", signed(t, rs, "r", otherRSAKey()), "301"},
		{"none", signed(t, jwt.SigningMethodNone, "r", jwt.UnsafeAllowNoneSignatureType), "301"},
		{"HS256 with the public key as PEM", signed(t, hs, "r", asPEM), "301"},
		{"HS256 with the public key as DER", signed(t, hs, "r", der), "301"},
		{"HS256 with the modulus", signed(t, hs, "r", r.N.Bytes()), "301"},
		{"HS256 with the symmetric key of the set", signed(t, hs, "shared", []byte(current)), "301"},
		{"PS256", signed(t, jwt.SigningMethodPS256, "r", r), "301"},
		{"RS512", signed(t, jwt.SigningMethodRS512, "r", r), "301"},
		{"alg of another key's type", signed(t, rs, "e", r), "301"},
		{"kid is a path", signed(t, rs, "../../etc/passwd", r), "301"},
		{"kid is a number", signed(t, rs, 7, r), "301"},
		{"kid is null", signed(t, rs, json.RawMessage("null"), r), ""}, // as none
		{"kid is empty", signed(t, rs, "", r), "301"},
		{"a key for encryption", signed(t, rs, "enc", otherRSAKey()), "301"},
		{"a key for another alg", signed(t, rs, "ps", otherRSAKey()), "301"},
		{"a private key that was published", signed(t, rs, "private", otherRSAKey()), "301"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p.clock.advance(fetchPause) // so that unknown keys are looked for
			if got := outcome(t, a, tc.token); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// A header of the token must not make the gateway ask anybody.
func TestNoKeyIsFetchedFromWhereTheTokenSays(t *testing.T) {
	p, mallory := newProvider(t, public("r", rsaKey())), newProvider(t, public("m", otherRSAKey()))
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, claims())
	token.Header["kid"], token.Header["jku"], token.Header["x5u"] = "m", mallory.URL, mallory.URL
	token.Header["jwk"] = public("m", otherRSAKey())
	s, err := token.SignedString(otherRSAKey())
	if err != nil {
		t.Fatal(err)
	}
	if got := outcome(t, p.authenticator(t), s); got != "301" || mallory.asked.Load() != 0 {
		t.Errorf("got %q, and mallory was asked %d times", got, mallory.asked.Load())
	}
}

func TestRotationIsFollowedAndTheProviderNotFlooded(t *testing.T) {
	old, next := rsaKey(), otherRSAKey()
	p := newProvider(t, public("old", old))
	a := p.authenticator(t)
	oldToken, nextToken := signed(t, jwt.SigningMethodRS256, "old", old), signed(t, jwt.SigningMethodRS256, "next", next)
	expect := func(what, token, want string, asked int32) {
		t.Helper()
		if got := outcome(t, a, token); got != want || p.asked.Load() != asked {
			t.Errorf("%s: got %q after %d requests, want %q after %d", what, got, p.asked.Load(), want, asked)
		}
	}
	expect("the first login", oldToken, "", 1)
	expect("the second one", oldToken, "", 1)
	// Within the pause nobody knows whether the key is not there yet or invented.
	expect("a key that is not published yet", nextToken, "later", 1)
	p.clock.advance(fetchPause)
	expect("a key that is not published yet, after the pause", nextToken, "301", 2)
	p.publish(public("old", old), public("next", next))
	expect("a new key within the pause", nextToken, "later", 2)
	expect("an old one meanwhile", oldToken, "", 2)
	p.clock.advance(fetchPause)
	expect("a new key after the pause", nextToken, "", 3)
	p.publish(public("next", next))
	expect("a withdrawn key, for a while", oldToken, "", 3)
	p.clock.advance(keySetAge - time.Second)
	expect("a withdrawn key, a second before", oldToken, "", 3)
	p.clock.advance(time.Second)
	expect("a withdrawn key", oldToken, "301", 4)
	for i := range 100 {
		_ = outcome(t, a, signed(t, jwt.SigningMethodRS256, fmt.Sprint("invented", i), next))
	}
	if asked := p.asked.Load(); asked != 4 {
		t.Errorf("invented keys made it ask %d times", asked-4)
	}
}

// What a provider does while it fails; the keys that are known stay in use, and no key is forgotten.
func TestProviderThatFailsTakesNobodysLoginAway(t *testing.T) {
	huge := `{"keys":[{"kty":"RSA","kid":"x","n":"` + strings.Repeat("A", maxKeySetBytes) + `","e":"AQAB"}]}`
	many := `{"keys":[` + strings.Repeat(`{"kty":"oct","k":"AA"},`, maxKeys) + `{"kty":"oct","k":"AA"}]}`
	text := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	for name, answer := range map[string]http.HandlerFunc{
		"500":           text(500, "oops"),
		"404":           text(404, `{"keys":[]}`),
		"a redirect":    func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"HTML":          text(200, "<html>"),
		"no keys":       text(200, `{"keys":[]}`),
		"a huge answer": text(200, huge),
		"many keys":     text(200, many),
		"a broken line": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"an endless answer": func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t, public("k", rsaKey()))
			a := p.authenticator(t)
			token := func(kid string) string { return signed(t, jwt.SigningMethodRS256, kid, rsaKey()) }
			p.behave(answer)
			if got := outcome(t, a, token("k")); got != "later" {
				t.Errorf("before the keys were ever fetched: %q", got)
			}
			p.clock.advance(fetchPause)
			p.publish(public("k", rsaKey()))
			if got := outcome(t, a, token("k")); got != "" {
				t.Errorf("the provider works: %q", got)
			}
			p.behave(answer)
			for range 3 {
				p.clock.advance(keySetAge)
				if got := outcome(t, a, token("k")); got != "" {
					t.Errorf("a known key while the provider fails: %q", got)
				}
				if got := outcome(t, a, token("new")); got != "later" {
					t.Errorf("an unknown key while the provider fails: %q", got)
				}
			}
			p.clock.advance(fetchPause)
			p.publish(public("new", rsaKey()))
			if got := outcome(t, a, token("new")); got != "" {
				t.Errorf("after the provider failed: %q", got)
			}
		})
	}
}

// Those who come while the keys are being fetched share the fetch; those whose keys are known do not wait for it.
func TestSlowProviderHoldsUpNobodyWhoseKeyIsKnown(t *testing.T) {
	p := newProvider(t, public("k", rsaKey()))
	a := p.authenticator(t)
	known := signed(t, jwt.SigningMethodRS256, "k", rsaKey())
	if got := outcome(t, a, known); got != "" {
		t.Fatal(got)
	}
	p.clock.advance(fetchPause)
	entered, release := make(chan struct{}), make(chan struct{})
	body, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{public("k", rsaKey()), public("new", otherRSAKey())}})
	if err != nil {
		t.Fatal(err)
	}
	p.behave(func(w http.ResponseWriter, _ *http.Request) {
		entered <- struct{}{}
		<-release
		_, _ = w.Write(body)
	})
	fresh := signed(t, jwt.SigningMethodRS256, "new", otherRSAKey())
	results := make(chan error, 20)
	for range 20 {
		go func() {
			_, err := a.Authenticate(t.Context(), Credentials{Token: fresh})
			results <- err
		}()
	}
	<-entered
	if got := outcome(t, a, known); got != "" {
		t.Errorf("a known key during the fetch: %q", got)
	}
	close(release)
	for range 20 {
		if err := <-results; err != nil {
			t.Errorf("a new key: %v", err)
		}
	}
	if asked := p.asked.Load(); asked != 2 {
		t.Errorf("%d requests, want one for each fetch", asked)
	}
}

func TestURLsThatCannotBeAskedAreRefused(t *testing.T) {
	for _, u := range []string{"", "jwks.json", "//host/jwks", "file:///etc/passwd", "ftp://host/x", "https://", ":", "http:///x"} {
		if _, err := NewKeySet(KeySetConfig{URL: u}); err == nil {
			t.Errorf("key set at %q", u)
		}
		if _, err := NewWebhook(WebhookConfig{URL: u}); err == nil {
			t.Errorf("webhook at %q", u)
		}
	}
}

func TestFactsOfTheTokenAreRemembered(t *testing.T) {
	issued, expires := time.Now().Add(-time.Minute).Truncate(time.Second), time.Now().Add(time.Minute).Truncate(time.Second)
	token := sign(t, jwt.SigningMethodHS256, []byte(current), claims(set("iat", issued.Unix()), set("exp", expires.Unix()), set("jti", "id7")))
	id, err := NewJWT(keys{current}, "", "").Authenticate(t.Context(), Credentials{Token: token})
	if err != nil || !id.Issued.Equal(issued) || !id.Expires.Equal(expires.Add(Leeway)) || id.TokenID != "id7" {
		t.Errorf("got %+v, %v", id, err)
	}
}
