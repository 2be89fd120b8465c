package presence

import (
	"errors"
	"net/http"
	"time"

	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/presence/store"
)

const (
	// defaultRevocation is for how long tokens are refused unless the request says: most are good for less.
	defaultRevocation = 24 * time.Hour
	// maxRevocation bounds what revocations leave in Redis.
	maxRevocation = 366 * 24 * time.Hour
	maxTokenID    = 128 // as gateways have it
	maxReason     = 256
	// maxDisconnectBytes bounds the body: every byte of its strings escaped.
	maxDisconnectBytes = 8 << 10
)

// disconnectRequest is the body of POST /v1/users/{user}/disconnect; all of it may be left out.
type disconnectRequest struct {
	Device  *string `json:"device"`
	TokenID *string `json:"tokenId"`
	Until   *string `json:"until"`
	Reason  string  `json:"reason"`
}

func (s *Server) disconnect(w http.ResponseWriter, r *http.Request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	user := r.PathValue("user")
	if err := checkUser("user", user); err != nil {
		return err
	}
	body, err := readBody(w, r, maxDisconnectBytes)
	if err != nil {
		return err
	}
	var q disconnectRequest
	if len(body) > 0 {
		if err := parseObject(body, &q, "{}"); err != nil {
			return err
		}
	}
	revocation, ttl, err := q.revocation(user, time.Now())
	if err != nil {
		return err
	}
	err = s.model.Revoke(r.Context(), revocation, ttl)
	s.telem.revoked(r.Context(), revocation, err)
	if errors.Is(err, store.ErrTooManyRevocations) {
		return &requestError{http.StatusConflict, codeTooManyRevoked,
			"so many devices and tokens of this user are revoked one by one that the user has to be: leave out device and tokenId"}
	}
	if err != nil {
		return err
	}
	return respondValue(w, struct{}{})
}

// revocation checks a request and returns what it asks for.
func (q *disconnectRequest) revocation(user string, now time.Time) (r store.Revocation, ttl time.Duration, err error) {
	r, ttl = store.Revocation{User: user, Reason: q.Reason}, defaultRevocation
	switch {
	case q.Device != nil && q.TokenID != nil:
		return r, 0, invalid("device and tokenId: send at most one of the two")
	case q.Device != nil:
		if e, ok := errors.AsType[*wire.Error](wire.CheckDeviceID(*q.Device)); ok {
			return r, 0, invalid("device: %s", e.Message)
		}
		r.Device = *q.Device
	case q.TokenID != nil:
		if n := len(*q.TokenID); n < 1 || n > maxTokenID {
			return r, 0, invalid("tokenId: must have 1 to %d bytes", maxTokenID)
		}
		r.TokenID = *q.TokenID
	}
	if len(q.Reason) > maxReason {
		return r, 0, invalid("reason: must have at most %d bytes", maxReason)
	}
	if q.Until != nil {
		until, err := time.Parse(time.RFC3339, *q.Until)
		if err != nil {
			return r, 0, invalid("until: must be a time as RFC 3339 has it, such as 2026-03-01T12:00:00Z")
		}
		// A time that has passed ends the sessions and refuses nothing.
		if ttl = max(0, until.Sub(now)); ttl > maxRevocation {
			return r, 0, invalid("until: must be within %d days", int(maxRevocation.Hours()/24))
		}
	}
	return r, ttl, nil
}

func (s *Server) reinstate(w http.ResponseWriter, r *http.Request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	user := r.PathValue("user")
	if err := checkUser("user", user); err != nil {
		return err
	}
	if err := s.model.Reinstate(r.Context(), user); err != nil {
		return err
	}
	return respondValue(w, struct{}{})
}
