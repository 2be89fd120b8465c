package gateway

import (
	"net/http"

	"github.com/imcluster/imcluster/api/wire"
)

// excess says why a connection is one too many.
type excess struct {
	reason closeReason
	err    *wire.Error
}

var (
	gatewayFull = &excess{reasonFull, wire.Errorf(wire.CodeTooManyConns, "this gateway is full; connect again after delayMs")}
	addressFull = &excess{reasonAddressLimit, wire.Errorf(wire.CodeAddressLimit, "too many connections from this address; connect again after delayMs")}
)

// admit decides whether a request may become a connection. If not it has answered. over is not nil for a client that is to
// be told by a frame, which programs in browsers can read, that there are too many connections; if there are far too many
// it is told by HTTP, which costs less.
func (g *Gateway) admit(w http.ResponseWriter, r *http.Request) (q *quota, over *excess, ok bool) {
	if !g.origins.allow(r) {
		g.metrics.closes[reasonOrigin].Add(1)
		http.Error(w, "pages of this origin may not connect here; the operator of this service has to allow the origin",
			http.StatusForbidden)
		return nil, nil, false
	}
	n, most := g.connections(), g.cfg.MaxConnections
	if n >= most+max(most/10, 16) {
		g.tooMany(w, http.StatusServiceUnavailable, gatewayFull)
		return nil, nil, false
	}
	if n >= most {
		over = gatewayFull
	}
	q, connections := g.newQuota(clientAddress(r, g.cfg.TrustedProxies))
	if most := g.cfg.MaxConnectionsPerAddress; most > 0 && connections > most {
		if connections > most+max(most/10, 4) {
			g.release(q)
			g.tooMany(w, http.StatusTooManyRequests, addressFull)
			return nil, nil, false
		}
		over = addressFull
	}
	return q, over, true
}

func (g *Gateway) tooMany(w http.ResponseWriter, status int, why *excess) {
	g.metrics.closes[why.reason].Add(1)
	w.Header().Set("Retry-After", "10")
	http.Error(w, why.err.Message, status)
}
