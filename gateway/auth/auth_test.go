package auth

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/internal/secretdir"
)

const (
	current  = "current-key-of-thirty-two-bytes!"
	previous = "previous-key-of-32-bytes-length!"
)

type keys []string

func (k keys) Values() (values [][]byte) {
	for _, v := range k {
		values = append(values, []byte(v))
	}
	return values
}

// claims are good ones, changed.
func claims(change ...func(jwt.MapClaims)) jwt.MapClaims {
	c := jwt.MapClaims{"sub": "alice", "iss": "issuer", "aud": []string{"other", "audience"}, "exp": time.Now().Add(time.Minute).Unix()}
	for _, f := range change {
		f(c)
	}
	return c
}

func set(key string, value any) func(jwt.MapClaims) {
	return func(c jwt.MapClaims) {
		if value == nil {
			delete(c, key)
			return
		}
		c[key] = value
	}
}

func sign(t *testing.T, method jwt.SigningMethod, key any, c jwt.MapClaims) string {
	t.Helper()
	token, err := jwt.NewWithClaims(method, c).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestJWT(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	hs256 := func(key string, c jwt.MapClaims) string { return sign(t, jwt.SigningMethodHS256, []byte(key), c) }
	ago := func(d time.Duration) int64 { return time.Now().Add(-d).Unix() }
	good := hs256(current, claims())
	for _, tc := range []struct {
		name, token string
		code        wire.Code // zero: accepted
	}{
		{"current key", good, 0},
		{"previous key", hs256(previous, claims()), 0},
		{"expired within the leeway", hs256(current, claims(set("exp", ago(2*time.Second)))), 0},
		{"not before within the leeway", hs256(current, claims(set("nbf", ago(-2*time.Second)))), 0},
		{"another key", hs256("another", claims()), wire.CodeInvalidToken},
		{"expired", hs256(current, claims(set("exp", ago(time.Minute)))), wire.CodeTokenExpired},
		{"expired, previous key", hs256(previous, claims(set("exp", ago(time.Minute)))), wire.CodeTokenExpired},
		{"not yet valid", hs256(current, claims(set("nbf", ago(-time.Minute)))), wire.CodeInvalidToken},
		{"no exp", hs256(current, claims(set("exp", nil))), wire.CodeInvalidToken},
		{"exp is text", hs256(current, claims(set("exp", "never"))), wire.CodeInvalidToken},
		{"no sub", hs256(current, claims(set("sub", nil))), wire.CodeInvalidToken},
		{"sub is no user id", hs256(current, claims(set("sub", "a\nb"))), wire.CodeInvalidToken},
		{"sub is too long", hs256(current, claims(set("sub", strings.Repeat("x", 129)))), wire.CodeInvalidToken},
		{"wrong issuer", hs256(current, claims(set("iss", "mallory"))), wire.CodeInvalidToken},
		{"no issuer", hs256(current, claims(set("iss", nil))), wire.CodeInvalidToken},
		{"wrong audience", hs256(current, claims(set("aud", "mallory"))), wire.CodeInvalidToken},
		{"no audience", hs256(current, claims(set("aud", nil))), wire.CodeInvalidToken},
		{"alg HS512", sign(t, jwt.SigningMethodHS512, []byte(current), claims()), wire.CodeInvalidToken},
		{"alg none", sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims()), wire.CodeInvalidToken},
		{"alg RS256", sign(t, jwt.SigningMethodRS256, rsaKey, claims()), wire.CodeInvalidToken},
		{"changed payload", tampered(good), wire.CodeInvalidToken},
		{"no signature", good[:strings.LastIndexByte(good, '.')+1], wire.CodeInvalidToken},
		{"not a token", "alice", wire.CodeInvalidToken},
		{"dots", "..", wire.CodeInvalidToken},
	} {
		t.Run(tc.name, func(t *testing.T) {
			id, err := NewJWT(keys{current, previous}, "issuer", "audience").Authenticate(t.Context(), Credentials{Token: tc.token})
			if tc.code == 0 {
				if err != nil || id.User != "alice" || id.Expires.IsZero() {
					t.Errorf("got %+v, %v", id, err)
				}
				return
			}
			var e *wire.Error
			if !errors.As(err, &e) || e.Code != tc.code {
				t.Fatalf("got %+v, %v, want code %d", id, err, tc.code)
			}
			if strings.Contains(e.Message, tc.token) && len(tc.token) > 10 {
				t.Errorf("the message %q holds the token", e.Message)
			}
		})
	}
}

// tampered exchanges the payload of a token for that of mallory.
func tampered(token string) string {
	parts := strings.Split(token, ".")
	parts[1] = base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"mallory","iss":"issuer","aud":"audience","exp":9999999999}`))
	return strings.Join(parts, ".")
}

// TestKeyRotation: the files of a mounted Secret change under the gateway.
func TestKeyRotation(t *testing.T) {
	dir := t.TempDir()
	write := func(name, value string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	accepts := func(key string) bool {
		secret, err := secretdir.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		token := sign(t, jwt.SigningMethodHS256, []byte(key), claims())
		_, err = NewJWT(secret, "", "").Authenticate(t.Context(), Credentials{Token: token})
		return err == nil
	}
	write("current", previous)
	if !accepts(previous) || accepts(current) {
		t.Error("before the rotation: want the old key only")
	}
	write("current", current)
	write("previous", previous)
	if !accepts(previous) || !accepts(current) {
		t.Error("during the rotation: want both keys")
	}
	if err := os.Remove(filepath.Join(dir, "previous")); err != nil {
		t.Fatal(err)
	}
	if accepts(previous) || !accepts(current) {
		t.Error("after the rotation: want the new key only")
	}
}

func TestInsecure(t *testing.T) {
	if id, err := (Insecure{}).Authenticate(t.Context(), Credentials{Token: "用户"}); err != nil || id.User != "用户" || !id.Expires.IsZero() {
		t.Errorf("got %+v, %v", id, err)
	}
	if _, err := (Insecure{}).Authenticate(t.Context(), Credentials{Token: "a\x00"}); err == nil {
		t.Error("a control character was accepted")
	}
}
