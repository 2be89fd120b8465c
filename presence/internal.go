package presence

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/imcluster/imcluster/presence/internalapi"
	"github.com/imcluster/imcluster/presence/store"
)

// maxFenceBytes bounds a fence request: 10,000 epochs with pod UIDs.
const maxFenceBytes = 1 << 20

func (s *Server) internalHandler() http.Handler {
	return s.serve(s.cfg.PeerKey,
		keyed(http.MethodGet, internalapi.IncarnationsPath, s.listIncarnations),
		keyed(http.MethodPost, internalapi.FencePath, s.fence),
		keyed(http.MethodGet, internalapi.HooksPath, s.hookDelivery),
	)
}

func (s *Server) listIncarnations(w http.ResponseWriter, r *http.Request) error {
	list, degraded, err := s.model.Incarnations(r.Context())
	if err != nil {
		return err
	}
	counts, err := s.model.Counts(r.Context())
	if err != nil {
		return err
	}
	answer := internalapi.IncarnationList{
		AsOf:         counts.AsOf.UTC().Truncate(time.Millisecond),
		Degraded:     degraded || counts.Degraded,
		OnlineUsers:  int64(counts.Users),
		Incarnations: make([]internalapi.Incarnation, 0, len(list)),
	}
	for _, in := range list {
		state := internalapi.StateActive
		if in.Draining {
			state = internalapi.StateDraining
		}
		if in.LeaseRemaining > 0 {
			answer.Connections += int64(in.Sessions)
		}
		answer.Incarnations = append(answer.Incarnations, internalapi.Incarnation{
			Epoch: string(in.Epoch), PodName: in.PodName, PodUID: in.PodUID, Address: in.Address, State: state,
			LeaseRemainingMs: in.LeaseRemaining.Milliseconds(), Connections: int64(in.Sessions),
		})
	}
	return respondValue(w, answer)
}

func (s *Server) fence(w http.ResponseWriter, r *http.Request) error {
	body, err := readBody(w, r, maxFenceBytes)
	if err != nil {
		return err
	}
	// Unknown fields are ignored: the operator may be newer.
	var request internalapi.FenceRequest
	if err := json.Unmarshal(body, &request); err != nil {
		return invalid("the body is not a fence request: %v", err)
	}
	epochs := make([]store.Epoch, len(request.Epochs))
	for i, e := range request.Epochs {
		if e == "" {
			return invalid("epochs[%d]: is empty", i)
		}
		epochs[i] = store.Epoch(e)
	}
	for i, uid := range request.BanPodUIDs {
		if uid == "" {
			return invalid("banPodUIDs[%d]: is empty", i)
		}
	}
	fenced, unknown, err := s.model.Fence(r.Context(), epochs, request.BanPodUIDs)
	if err != nil {
		return err
	}
	if len(fenced) > 0 || len(request.BanPodUIDs) > 0 {
		s.log.Info("the operator fenced gateways", "epochs", fenced, "bannedPods", request.BanPodUIDs)
	}
	return respondValue(w, internalapi.FenceResponse{Fenced: epochStrings(fenced), Unknown: epochStrings(unknown)})
}

func epochStrings(epochs []store.Epoch) []string {
	out := make([]string, len(epochs))
	for i, e := range epochs {
		out[i] = string(e)
	}
	return out
}

func respondValue(w http.ResponseWriter, v any) error {
	body, err := json.Marshal(v)
	if err == nil {
		writeJSON(w, http.StatusOK, body)
	}
	return err
}
