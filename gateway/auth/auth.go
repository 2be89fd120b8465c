// Package auth decides who a client is by the token that it logs in with.
package auth

import (
	"context"
	"errors"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/imcluster/imcluster/api/wire"
)

// Identity is who a token stands for.
type Identity struct {
	User string
	// Expires is when the session must end; zero means that it does not.
	Expires time.Time
}

// Authenticator checks tokens. Errors are of type *[wire.Error] and say what the client should do. Implementations may
// be called concurrently.
type Authenticator interface {
	Authenticate(ctx context.Context, token string) (Identity, error)
}

// Insecure takes the token for the user id. For trying the platform out.
type Insecure struct{}

// Authenticate accepts every token that is a user id.
func (Insecure) Authenticate(_ context.Context, token string) (Identity, error) {
	if err := wire.CheckUserID(token); err != nil {
		return Identity{}, wire.Errorf(wire.CodeInvalidToken, "the token is not a user id: %v", message(err))
	}
	return Identity{User: token}, nil
}

// Leeway is by how much the clocks of a token's issuer and of the gateway may differ.
const Leeway = 5 * time.Second

// Keys yields the secrets that a token may be signed with.
type Keys interface{ Values() [][]byte }

// JWT accepts JSON Web Tokens (RFC 7519) signed with HMAC-SHA256, and no other algorithm. The subject is the user id.
// exp is required: a session ends with its token, so a token without one could never be taken back.
type JWT struct {
	keys   Keys
	parser *jwt.Parser
}

// NewJWT returns a JWT that accepts tokens signed with any of keys. issuer and audience are checked if not empty.
func NewJWT(keys Keys, issuer, audience string) *JWT {
	opts := []jwt.ParserOption{
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
		jwt.WithLeeway(Leeway),
		jwt.WithExpirationRequired(),
	}
	if issuer != "" {
		opts = append(opts, jwt.WithIssuer(issuer))
	}
	if audience != "" {
		opts = append(opts, jwt.WithAudience(audience))
	}
	return &JWT{keys: keys, parser: jwt.NewParser(opts...)}
}

// Authenticate checks the token's signature and claims.
func (j *JWT) Authenticate(_ context.Context, token string) (Identity, error) {
	var claims jwt.RegisteredClaims
	var err error
	for _, key := range j.keys.Values() {
		claims = jwt.RegisteredClaims{}
		_, err = j.parser.ParseWithClaims(token, &claims, func(*jwt.Token) (any, error) { return key, nil })
		if !errors.Is(err, jwt.ErrTokenSignatureInvalid) {
			break // only another key could change the outcome
		}
	}
	if err != nil {
		return Identity{}, refusal(err)
	}
	if err := wire.CheckUserID(claims.Subject); err != nil {
		return Identity{}, wire.Errorf(wire.CodeInvalidToken, "the token's sub is not a user id: %v", message(err))
	}
	return Identity{User: claims.Subject, Expires: claims.ExpiresAt.Add(Leeway)}, nil
}

// refusal says what is wrong with a token, in words of our own: those of the library may quote the token.
func refusal(err error) error {
	for _, r := range []struct {
		is   error
		code wire.Code
		text string
	}{
		{jwt.ErrTokenSignatureInvalid, wire.CodeInvalidToken, "the token's signature is not valid, or its alg is not HS256"},
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

// message is the text of a wire.Error without its code.
func message(err error) string {
	if e, ok := errors.AsType[*wire.Error](err); ok {
		return e.Message
	}
	return err.Error()
}
