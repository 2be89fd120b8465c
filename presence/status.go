package presence

import (
	"cmp"
	"net/http"
	"time"

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
	if err := s.model.SetStatus(r.Context(), user, status); err != nil {
		return err
	}
	return respondValue(w, struct{}{})
}

// statusRequest is the body of PUT /v1/users/{user}/status.
type statusRequest struct {
	Status string `json:"status"`
	Text   string `json:"text"`
}
