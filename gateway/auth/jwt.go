package auth

import (
	"context"
	"errors"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/imcluster/imcluster/api/wire"
)

// Leeway is by how much the clocks of a token's issuer and of the gateway may differ.
const Leeway = 5 * time.Second

// Keys yields the secrets that a token may be signed with.
type Keys interface{ Values() [][]byte }

// keySource finds the keys that a token may be verified with, by what its header says, which nobody vouches for.
type keySource interface {
	// algorithms are those that the keys are for. No others are accepted: a public key must never be taken for the
	// secret of an HMAC.
	algorithms() []string
	find(ctx context.Context, token *jwt.Token) (jwt.VerificationKeySet, error)
}

// JWT accepts JSON Web Tokens (RFC 7519). The subject is the user id. exp is required: a session ends with its token, so a
// token without one could never be taken back. iat and jti are remembered if they are there, for revocation.
type JWT struct {
	source keySource
	parser *jwt.Parser
}

// NewJWT returns a JWT that accepts tokens signed with HMAC-SHA256 and any of keys. issuer and audience are checked if not
// empty.
func NewJWT(keys Keys, issuer, audience string) *JWT {
	return newJWT(shared{keys}, time.Now, issuer, audience)
}

// NewPublicJWT returns a JWT that accepts tokens signed with RS256 or ES256 by a key of the set. issuer and audience are
// checked if not empty.
func NewPublicJWT(keys *KeySet, issuer, audience string) *JWT {
	return newJWT(keys, time.Now, issuer, audience)
}

func newJWT(source keySource, now func() time.Time, issuer, audience string) *JWT {
	opts := []jwt.ParserOption{
		jwt.WithValidMethods(source.algorithms()),
		jwt.WithLeeway(Leeway),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(), // one in the future would outlive every revocation until then
		jwt.WithTimeFunc(now),
	}
	if issuer != "" {
		opts = append(opts, jwt.WithIssuer(issuer))
	}
	if audience != "" {
		opts = append(opts, jwt.WithAudience(audience))
	}
	return &JWT{source: source, parser: jwt.NewParser(opts...)}
}

// shared are secrets for HMAC-SHA256.
type shared struct{ keys Keys }

func (shared) algorithms() []string { return []string{jwt.SigningMethodHS256.Alg()} }

func (s shared) find(context.Context, *jwt.Token) (set jwt.VerificationKeySet, _ error) {
	for _, key := range s.keys.Values() {
		set.Keys = append(set.Keys, key)
	}
	return set, nil
}

// Authenticate checks the token's signature and claims.
func (j *JWT) Authenticate(ctx context.Context, c Credentials) (Identity, error) {
	var claims jwt.RegisteredClaims
	_, err := j.parser.ParseWithClaims(c.Token, &claims, func(t *jwt.Token) (any, error) {
		return j.source.find(ctx, t)
	})
	if err != nil {
		return Identity{}, refusal(err)
	}
	id := Identity{User: claims.Subject, Expires: claims.ExpiresAt.Add(Leeway), TokenID: claims.ID}
	if claims.IssuedAt != nil {
		id.Issued = claims.IssuedAt.Time
	}
	if err := id.check("the token"); err != nil {
		return Identity{}, err
	}
	return id, nil
}

// unjudged is why a token could not be judged now.
type unjudged struct{ error }

func (u unjudged) Unwrap() error { return u.error }

// refusal says what is wrong with a token, in words of our own: those of the library may quote the token.
func refusal(err error) error {
	if u, ok := errors.AsType[unjudged](err); ok {
		return u.error
	}
	if e, ok := errors.AsType[*wire.Error](err); ok {
		return e
	}
	for _, r := range []struct {
		is   error
		code wire.Code
		text string
	}{
		{jwt.ErrTokenSignatureInvalid, wire.CodeInvalidToken, "the token's signature is not valid, or its alg is not one that is accepted here"},
		{jwt.ErrTokenExpired, wire.CodeTokenExpired, "the token has expired; log in with a fresh one"},
		{jwt.ErrTokenNotValidYet, wire.CodeInvalidToken, "the token is not valid yet; are the clocks right?"},
		{jwt.ErrTokenUsedBeforeIssued, wire.CodeInvalidToken, "the token was issued in the future; are the clocks right?"},
		{jwt.ErrTokenInvalidIssuer, wire.CodeInvalidToken, "the token's iss is not the expected issuer"},
		{jwt.ErrTokenInvalidAudience, wire.CodeInvalidToken, "the token's aud is not the expected audience"},
		{jwt.ErrTokenRequiredClaimMissing, wire.CodeInvalidToken, "the token lacks a required claim: exp, or the expected iss or aud"},
		{jwt.ErrTokenMalformed, wire.CodeInvalidToken, "the token is not a JSON Web Token"},
	} {
		if errors.Is(err, r.is) {
			return wire.Errorf(r.code, "%s", r.text)
		}
	}
	return wire.Errorf(wire.CodeInvalidToken, "the token is not valid")
}
