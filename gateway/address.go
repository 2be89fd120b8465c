package gateway

import (
	"net/http"
	"net/netip"
	"strings"
)

// remoteAddress is the address of the other end of a TCP connection, invalid if it is none.
func remoteAddress(hostPort string) netip.Addr {
	a, err := netip.ParseAddrPort(hostPort)
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap().WithZone("")
}

// maxForwarded is how many addresses of X-Forwarded-For are looked at.
const maxForwarded = 32

// clientAddress is the address of the client that made a request: of those that forwarded it, the last one that is not a
// trusted proxy. What stands before that in X-Forwarded-For the client may have invented.
func clientAddress(r *http.Request, trusted []netip.Prefix) netip.Addr {
	address := remoteAddress(r.RemoteAddr)
	if !isTrusted(address, trusted) {
		return address
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= max(0, len(hops)-maxForwarded); i-- {
		hop, ok := parseHop(hops[i])
		if !ok {
			break
		}
		address = hop
		if !isTrusted(address, trusted) {
			break
		}
	}
	return address
}

// parseHop reads an entry of X-Forwarded-For, which some proxies write with the port.
func parseHop(s string) (netip.Addr, bool) {
	s = strings.TrimSpace(s)
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return a.Unmap().WithZone(""), true
	}
	a := remoteAddress(s)
	return a, a.IsValid()
}

func isTrusted(a netip.Addr, trusted []netip.Prefix) bool {
	for _, p := range trusted {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// customerBits is how much of an IPv6 address counts: a customer of a network gets at least the 64 bits that follow
// (RFC 6177).
const customerBits = 64

// customer is what limits for an address go by.
func customer(a netip.Addr) netip.Addr {
	if !a.Is6() {
		return a
	}
	p, err := a.Prefix(customerBits)
	if err != nil {
		return a
	}
	return p.Addr()
}

// address is the client's IP address, for people and webhooks.
func (c *conn) address() string {
	a := remoteAddress(c.sock.RemoteAddr().String())
	if c.quota != nil {
		a = c.quota.address
	}
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
