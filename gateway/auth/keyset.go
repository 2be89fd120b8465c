package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"

	"github.com/imcluster/imcluster/api/wire"
)

const (
	// keySetAge is how old a key set may get before it is fetched again, so that keys that were withdrawn are
	// forgotten. Nobody waits for it but the login that finds it too old.
	keySetAge = 5 * time.Minute
	// fetchPause is how long the key set is left alone after it was asked for. Tokens with invented key ids must not
	// make a gateway flood the identity provider.
	fetchPause = 5 * time.Second
	// fetchTimeout bounds a fetch. Logins wait for it.
	fetchTimeout = 3 * time.Second
	// maxKeySetBytes and maxKeys bound what is read. A key of 4,096 bits is 0.8 KB, with its certificates 5 KB.
	maxKeySetBytes = 512 << 10
	maxKeys        = 64
	// minRSABits is the least size of a key for RS256 (RFC 7518, section 3.3). Keys above maxRSABits cost more to check
	// than they are worth.
	minRSABits, maxRSABits = 2048, 8192
)

// KeySetConfig says where the public keys of an identity provider are.
type KeySetConfig struct {
	// URL of the JSON Web Key Set, such as https://id.example.com/.well-known/jwks.json. Required. Redirects are not
	// followed.
	URL string
	Service
	// Logger; nil means no logs.
	Logger *slog.Logger

	now func() time.Time // nil: time.Now
}

// KeySet are the public keys that an identity provider publishes (RFC 7517). They are fetched when first needed, when they
// are older than 5 minutes, and when a token names a key that is not among them, at most once in 5 seconds. If they cannot be
// fetched the last ones stay in use, however old.
type KeySet struct {
	// Fixed after construction.
	url    string
	caller *caller
	logger *slog.Logger
	now    func() time.Time

	mu       sync.Mutex
	keys     []publicKey
	fetched  time.Time     // when the keys were asked for; zero: never
	asked    time.Time     // of the last attempt
	attempts int           // to fetch
	newest   int           // the attempt that the keys come from
	fetching chan struct{} // closed at the end of the fetch that is under way; nil: none
	failing  bool
}

// publicKey is a key that can verify tokens.
type publicKey struct {
	id, algorithm string
	key           any
}

// NewKeySet returns a key set. Nothing is fetched yet.
func NewKeySet(cfg KeySetConfig) (*KeySet, error) {
	if err := checkURL(cfg.URL); err != nil {
		return nil, fmt.Errorf("the URL of the key set: %w", err)
	}
	caller, err := newCaller(cfg.Service, "jwks", fetchTimeout, 0)
	if err != nil {
		return nil, err
	}
	s := &KeySet{url: cfg.URL, caller: caller, logger: cfg.Logger, now: cfg.now}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s, nil
}

func (*KeySet) algorithms() []string {
	return []string{jwt.SigningMethodRS256.Alg(), jwt.SigningMethodES256.Alg()}
}

// find returns the keys of the token's algorithm that have the id that it names, all if it names none.
func (s *KeySet) find(ctx context.Context, token *jwt.Token) (jwt.VerificationKeySet, error) {
	kid, named := token.Header["kid"].(string)
	if !named && token.Header["kid"] != nil {
		return jwt.VerificationKeySet{}, wire.Errorf(wire.CodeInvalidToken, "the token's kid is not text")
	}
	alg := token.Method.Alg()
	set, known, err := s.lookUp(ctx, func(k publicKey) bool { return k.algorithm == alg && (!named || k.id == kid) })
	switch {
	case err != nil:
		return jwt.VerificationKeySet{}, unjudged{err}
	case len(set.Keys) == 0 && known:
		return jwt.VerificationKeySet{}, wire.Errorf(wire.CodeInvalidToken,
			"the token's key (kid) is not one of the identity provider's for its alg")
	case len(set.Keys) == 0:
		return jwt.VerificationKeySet{}, unjudged{errKeyNotKnown}
	}
	return set, nil
}

var errKeyNotKnown = errors.New("the token names a key that is not known, and the key set was asked for just now")

// lookUp returns the keys that match, of a set that is fresh enough. If there are none, known tells whether that is for
// sure: the set was asked for after the call began.
func (s *KeySet) lookUp(ctx context.Context, match func(publicKey) bool) (set jwt.VerificationKeySet, known bool, err error) {
	s.mu.Lock()
	before := s.attempts
	for {
		set.Keys = set.Keys[:0]
		for _, k := range s.keys {
			if match(k) {
				set.Keys = append(set.Keys, k.key)
			}
		}
		fresh := !s.fetched.IsZero() && s.now().Sub(s.fetched) < keySetAge
		known = s.newest > before
		found := len(set.Keys) > 0
		switch {
		case found && (fresh || s.fetching != nil || s.now().Sub(s.asked) < fetchPause), known:
			s.mu.Unlock()
			return set, known, nil
		case s.fetching != nil:
			done := s.fetching
			s.mu.Unlock()
			select {
			case <-done:
			case <-ctx.Done():
				return set, false, context.Cause(ctx)
			}
			s.mu.Lock()
		case !s.asked.IsZero() && s.now().Sub(s.asked) < fetchPause:
			never := s.fetched.IsZero()
			s.mu.Unlock()
			if never {
				return set, false, errNeverFetched
			}
			return set, false, nil
		default:
			s.fetchLocked(ctx)
		}
	}
}

var errNeverFetched = errors.New("the key set of the identity provider could not be fetched yet")

// fetchLocked replaces the keys, or leaves them as they are if they cannot be fetched. s.mu is released meanwhile.
func (s *KeySet) fetchLocked(ctx context.Context) {
	done := make(chan struct{})
	s.fetching, s.asked = done, s.now()
	s.attempts++
	s.mu.Unlock()
	keys, err := s.fetch(ctx)
	s.mu.Lock()
	s.fetching = nil
	close(done)
	if err == nil {
		s.keys, s.fetched, s.newest = keys, s.asked, s.attempts
	}
	if failing := err != nil; failing != s.failing {
		s.failing = failing
		if failing {
			s.logger.Warn("the key set of the identity provider cannot be fetched; going on with the keys that are known",
				"url", withoutQuery(s.url), "keys", len(s.keys), "error", err)
		} else {
			s.logger.Info("the key set of the identity provider was fetched again", "url", withoutQuery(s.url), "keys", len(s.keys))
		}
	}
}

func (s *KeySet) fetch(ctx context.Context) ([]publicKey, error) {
	// The end of the login that happens to wait must not fail the others.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return nil, errors.New("the URL cannot be used")
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	status, body, err := s.caller.do(req, maxKeySetBytes)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("it answered %d", status)
	}
	return parseKeySet(body)
}

// parseKeySet returns the keys of a JSON Web Key Set that are for RS256 or ES256. Others are left out, as RFC 7517 §5 asks.
// A set without any is an error: rather the keys of before than none.
func parseKeySet(body []byte) ([]publicKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, errors.New("it answered with something else than a JSON Web Key Set")
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("it has more than %d keys", maxKeys)
	}
	var keys []publicKey
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		if err := k.UnmarshalJSON(raw); err != nil || k.Use != "" && k.Use != "sig" {
			continue
		}
		alg := algorithmOf(k.Key)
		if alg != "" && (k.Algorithm == "" || k.Algorithm == alg) {
			keys = append(keys, publicKey{id: k.KeyID, algorithm: alg, key: k.Key})
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("none of its %d keys is a public key for RS256 or ES256", len(set.Keys))
	}
	return keys, nil
}

// algorithmOf returns what a public key is for, empty for one that is not accepted.
func algorithmOf(key any) string {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits >= minRSABits && bits <= maxRSABits {
			return jwt.SigningMethodRS256.Alg()
		}
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return jwt.SigningMethodES256.Alg()
		}
	}
	return ""
}
