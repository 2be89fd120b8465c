package presence

import (
	"cmp"
	"context"
	"net/http"
	"time"

	peerv1 "github.com/imcluster/imcluster/api/peer/v1"
	"github.com/imcluster/imcluster/presence/feed"
	"github.com/imcluster/imcluster/presence/store"
)

// statusAnswer is what a user has set.
type statusAnswer struct {
	Status string    `json:"status"`
	Text   string    `json:"text,omitempty"`
	Since  time.Time `json:"since,omitzero"`
}

func answerStatus(s *feed.Standing) statusAnswer {
	a := statusAnswer{Status: cmp.Or(s.Show, feed.ShowOnline), Text: s.Text}
	if s.Set != 0 {
		a.Since = inUTC(time.UnixMilli(s.Set))
	}
	return a
}

// getStatus tells what a user has set, also if that is invisible: it is for the user's own settings, not for others.
func (s *Server) getStatus(w http.ResponseWriter, r *http.Request) error {
	user, err := pathUser(r)
	if err != nil {
		return err
	}
	status, err := s.model.Status(r.Context(), user)
	if err != nil {
		return err
	}
	return respondValue(w, answerStatus(&status))
}

// maxStatusBytes bounds the body of a status: every byte of its text escaped.
const maxStatusBytes = 6*feed.MaxTextBytes + 1<<10

// setStatus sets what a user shows. Who is not connected shows it at the next login.
func (s *Server) setStatus(w http.ResponseWriter, r *http.Request) error {
	user, err := pathUser(r)
	if err != nil {
		return err
	}
	body, err := readBody(w, r, maxStatusBytes)
	if err != nil {
		return err
	}
	var q statusRequest
	if err := parseObject(body, &q, `{"status":"away"}`); err != nil {
		return err
	}
	if q.Status == "" {
		return invalid("status: is missing; it is online, away, busy or invisible")
	}
	status := store.Status{Show: q.Status, Text: q.Text}
	if err := status.Check(); err != nil {
		return invalid("%v", err)
	}
	if err := s.changeStatus(r.Context(), user, status); err != nil {
		return err
	}
	return respondValue(w, struct{}{})
}

// tellTimeout is how long who sets a status waits until the gateways are told.
const tellTimeout = 500 * time.Millisecond

// changeStatus sets the status of a user, and has the gateways that the user is connected to told of it: they put back what they
// know if Redis loses its data. One gateway is asked to tell the others; it is best effort.
func (s *Server) changeStatus(ctx context.Context, user string, status store.Status) error {
	change, err := s.model.SetStatus(ctx, user, status)
	if err != nil || s.publisher == nil || len(change.Gateways) == 0 {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, tellTimeout)
	defer cancel()
	told := &peerv1.Publish{Status: &peerv1.StatusSet{User: user, Show: status.Show, Text: status.Text, Set: change.Set}}
	for _, epoch := range change.Gateways {
		told.Gateways = append(told.Gateways, string(epoch))
	}
	if _, err := s.publisher.Publish(ctx, told); err != nil {
		s.log.DebugContext(ctx, "gateways were not told of a status; they know an older one", "error", err)
	}
	return nil
}

// statusRequest is the body of PUT /v1/users/{user}/status.
type statusRequest struct {
	Status string `json:"status"`
	Text   string `json:"text"`
}
