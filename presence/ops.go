package presence

import (
	"io"
	"net/http"
)

// opsHandler serves the probes, and the metrics if there are any. Liveness says that the process serves HTTP and nothing
// else: restarting it would not heal Redis.
func (s *Server) opsHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) { probe(w, true, "alive") })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		switch {
		case s.stopping.Load():
			probe(w, false, "stopping")
		case !s.model.opened():
			probe(w, false, "waiting for Redis; the log says what is wrong")
		default:
			probe(w, true, "ready")
		}
	})
	if s.cfg.Metrics != nil {
		mux.Handle("/metrics", s.cfg.Metrics)
	}
	return mux
}

func probe(w http.ResponseWriter, ok bool, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if !ok {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = io.WriteString(w, text+"\n")
}
