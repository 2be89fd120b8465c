package auth

import (
	"context"
	"errors"
	"time"

	"github.com/imcluster/imcluster/api/wire"
)

// Credentials are what a client logs in with. Only Token proves anything.
type Credentials struct {
	// Token is what the client was given by the back end of its application. It must not be logged.
	Token string
	// DeviceID and Platform are what the client calls itself. DeviceID is never empty.
	DeviceID, Platform string
	// Address is the IP address of the client.
	Address string
}

// Identity is who a token stands for.
type Identity struct {
	User string
	// Expires is when the session must end; zero means that it does not.
	Expires time.Time
	// Issued is when the token was made, and TokenID what its issuer calls it: sessions are revoked by them. Zero and
	// empty mean that they are not known.
	Issued  time.Time
	TokenID string
}

// Authenticator checks tokens. Errors of type *[wire.Error] are final and say what the client should do; any other error
// means that the token could not be judged now, and the client may try again. Implementations may be called concurrently.
type Authenticator interface {
	Authenticate(ctx context.Context, c Credentials) (Identity, error)
}

// Insecure takes the token for the user id. For trying the platform out. Each login counts as a token that was issued just
// then: who is disconnected can come back at once, as with a fresh token.
type Insecure struct{}

// Authenticate accepts every token that is a user id.
func (Insecure) Authenticate(_ context.Context, c Credentials) (Identity, error) {
	if err := wire.CheckUserID(c.Token); err != nil {
		return Identity{}, wire.Errorf(wire.CodeInvalidToken, "the token is not a user id: %v", message(err))
	}
	return Identity{User: c.Token, Issued: time.Now()}, nil
}

// maxTokenID is the size of the longest token id, in bytes. Sessions remember theirs.
const maxTokenID = 128

// check finds what no session can have. who says in the error who gave the identity.
func (id *Identity) check(who string) error {
	if err := wire.CheckUserID(id.User); err != nil {
		return wire.Errorf(wire.CodeInvalidToken, "%s gives no user id: %v", who, message(err))
	}
	if len(id.TokenID) > maxTokenID {
		return wire.Errorf(wire.CodeInvalidToken, "%s has an id of more than %d bytes", who, maxTokenID)
	}
	return nil
}

// message is the text of a wire.Error without its code.
func message(err error) string {
	if e, ok := errors.AsType[*wire.Error](err); ok {
		return e.Message
	}
	return err.Error()
}
