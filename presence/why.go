package presence

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/imcluster/imcluster/presence/feed"
	"github.com/imcluster/imcluster/presence/store"
)

// explanation answers GET /v1/users/{user}/why.
type explanation struct {
	User string `json:"user"`
	// Answer is what everybody else is told.
	Answer json.RawMessage `json:"answer"`
	// AnsweredFrom is memory, or redis if this pod does not know for certain.
	AnsweredFrom string             `json:"answeredFrom"`
	Status       statusAnswer       `json:"status"`
	Sessions     []explainedSession `json:"sessions"`
	Transitions  []explainedChange  `json:"transitions"`
	Partition    explainedPartition `json:"partition"`
	AsOf         time.Time          `json:"asOf"`
}

type explainedSession struct {
	Device     string    `json:"device"`
	Platform   string    `json:"platform,omitempty"`
	LoginTime  time.Time `json:"loginTime"`
	Connection uint64    `json:"connection"`
	Epoch      string    `json:"epoch"`
	// State is that of the gateway's lease: alive, ended, or unknown if there is none.
	State   string            `json:"state"`
	Gateway *explainedGateway `json:"gateway,omitempty"`
}

type explainedGateway struct {
	Pod      string `json:"pod"`
	PodUID   string `json:"podUID"`
	Address  string `json:"address"`
	Draining bool   `json:"draining,omitempty"`
	Fenced   bool   `json:"fenced,omitempty"`
	// LastHeartbeat is when the gateway last renewed its lease.
	LastHeartbeat time.Time `json:"lastHeartbeat,omitzero"`
	LeaseLeftMs   int64     `json:"leaseLeftMs"`
}

// explainedChange is a fact that the feed still holds.
type explainedChange struct {
	Revision uint64    `json:"revision"`
	Time     time.Time `json:"time,omitzero"`
	// Event is login, ended, status, or gateway_ended.
	Event    string        `json:"event"`
	Device   string        `json:"device,omitempty"`
	Platform string        `json:"platform,omitempty"`
	Epoch    string        `json:"epoch,omitempty"`
	Address  string        `json:"address,omitempty"`
	Cause    string        `json:"cause,omitempty"`
	Status   *statusAnswer `json:"status,omitempty"`
}

type explainedPartition struct {
	Number     int    `json:"number"`
	Generation string `json:"generation,omitempty"`
	Revision   uint64 `json:"revision"`
	// Complete: who is not found is not there. Settled: all gateways that are alive are known.
	Complete bool `json:"complete"`
	Settled  bool `json:"settled"`
}

// explainer is what the store knows of a user beyond what others may see.
type explainer interface {
	Explain(ctx context.Context, user string) (*store.Explanation, error)
	Status(ctx context.Context, user string) (feed.Standing, error)
}

// why tells people why a user is shown as online, offline or unknown.
func (s *Server) why(w http.ResponseWriter, r *http.Request) error {
	user, err := pathUser(r)
	if err != nil {
		return err
	}
	e, err := s.model.Explain(r.Context(), user)
	if err != nil {
		return err
	}
	users, asOf, degraded := s.model.Users(r.Context(), []string{user})
	from := "redis"
	if _, inMemory := s.replica.OnlineIn(e.Partition); inMemory {
		from = "memory"
	}
	return respondValue(w, explain(user, e, appendUserAnswer(nil, &users[0], asOf, degraded), from))
}

// pathUser returns the user of the path of a request without parameters.
func pathUser(r *http.Request) (string, error) {
	if _, err := parameters(r); err != nil {
		return "", err
	}
	user := r.PathValue("user")
	return user, checkUser("user", user)
}

func explain(user string, e *store.Explanation, answer []byte, from string) explanation {
	out := explanation{
		User: user, Answer: answer, AnsweredFrom: from, Status: answerStatus(&e.Status), AsOf: inUTC(e.AsOf),
		Sessions: make([]explainedSession, len(e.Sessions)), Transitions: make([]explainedChange, len(e.Transitions)),
		Partition: explainedPartition{e.Partition, e.Generation, e.Revision, e.Complete, e.Settled},
	}
	for i := range e.Sessions {
		out.Sessions[i] = explainSession(&e.Sessions[i])
	}
	for i := range e.Transitions {
		out.Transitions[i] = explainChange(&e.Transitions[i])
	}
	return out
}

func explainSession(s *store.ExplainedSession) explainedSession {
	out := explainedSession{
		Device: s.Device, Platform: s.Platform, LoginTime: inUTC(s.LoginTime()), Connection: s.Conn, Epoch: string(s.Epoch), State: "unknown"}
	l := &s.Lease
	if !l.Known {
		return out
	}
	out.State = "ended"
	if l.Left > 0 {
		out.State = "alive"
	}
	out.Gateway = &explainedGateway{
		Pod: l.Gateway, PodUID: l.PodUID, Address: l.Address, Draining: l.Draining, Fenced: l.Fenced,
		LastHeartbeat: inUTC(l.Renewed), LeaseLeftMs: l.Left.Milliseconds(),
	}
	return out
}

func explainChange(f *feed.Fact) explainedChange {
	out := explainedChange{Revision: f.Revision, Cause: string(f.Cause), Device: f.Session.Device, Platform: f.Session.Platform, Address: f.Session.Addr}
	switch f.Kind {
	case feed.Put:
		out.Event, out.Time, out.Epoch = "login", f.Session.LoginTime(), string(f.Session.Epoch)
	case feed.Ended:
		out.Event, out.Time = "ended", f.At
	case feed.EpochDead:
		out.Event, out.Time, out.Epoch = "gateway_ended", f.At, string(f.Epoch)
	case feed.StatusSet:
		status := answerStatus(&f.Status)
		out.Event, out.Time, out.Status = "status", time.UnixMilli(f.Status.Set), &status
		if f.Status.Set == 0 {
			out.Time = time.Time{}
		}
	case feed.EpochDone: // of no user
	}
	out.Time = inUTC(out.Time)
	return out
}

// inUTC is a time as answers have it.
func inUTC(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
