package gateway

import (
	"context"
	"log"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// stuckAfter is how long the wheel may stand still before the gateway is called dead.
const stuckAfter = 30 * time.Second

// watchWheel records every second that the wheel turns.
func (g *Gateway) watchWheel() {
	g.turned.Store(time.Now().Unix())
	g.wheel.AfterFunc(time.Second, g.watchWheel)
}

// opsRoutes are the probes and metrics. Liveness never depends on Redis; readiness not after the first success.
// Only draining takes it away.
func (g *Gateway) opsRoutes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		if time.Since(time.Unix(g.turned.Load(), 0)) > stuckAfter {
			http.Error(w, "the timers stand still", http.StatusServiceUnavailable)
			return
		}
		writeOK(w)
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !g.Ready() {
			http.Error(w, g.unready(), http.StatusServiceUnavailable)
			return
		}
		writeOK(w)
	})
	if g.cfg.MetricsHandler != nil {
		mux.Handle("GET /metrics", g.cfg.MetricsHandler)
	}
	return mux
}

func writeOK(w http.ResponseWriter) {
	_, _ = w.Write([]byte("ok\n")) // the prober is gone if it fails
}

// quietLogger takes what net/http logs about clients, which is worth a line for those who look only.
func quietLogger(l *slog.Logger) *log.Logger {
	return slog.NewLogLogger(l.Handler(), slog.LevelDebug)
}

// rareLog logs what clients, or an outage, could cause without end: a few lines a second, and how many were left out.
type rareLog struct {
	logger  *slog.Logger
	limiter *rate.Limiter

	mu      sync.Mutex
	skipped int
}

func newRareLog(l *slog.Logger) *rareLog {
	return &rareLog{logger: l, limiter: rate.NewLimiter(1, 5)}
}

func (r *rareLog) log(ctx context.Context, msg string, args ...any) {
	r.mu.Lock()
	if !r.limiter.Allow() {
		r.skipped++
		r.mu.Unlock()
		return
	}
	if r.skipped > 0 {
		args = append(args, "skipped", r.skipped)
		r.skipped = 0
	}
	r.mu.Unlock()
	r.logger.WarnContext(ctx, msg, args...)
}

// panicked records a fault in the handling of a frame.
func (g *Gateway) panicked(fault any, stack []byte) {
	g.metrics.panics.Add(1)
	g.logRare.log(g.ctx, "panic while handling a frame", "fault", fault, "stack", string(stack))
}
