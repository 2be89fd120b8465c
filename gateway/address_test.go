package gateway

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

func TestAddressOfTheClientBehindProxies(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, tc := range []struct {
		name, remote string
		forwarded    []string
		want         string
	}{
		{"no proxy", "192.0.2.1:1234", nil, "192.0.2.1"},
		{"a header that the client invented", "192.0.2.1:1234", []string{"198.51.100.7"}, "192.0.2.1"},
		{"one proxy", "10.1.1.1:80", []string{"198.51.100.7"}, "198.51.100.7"},
		{"two proxies", "10.1.1.1:80", []string{"198.51.100.7, 10.2.2.2"}, "198.51.100.7"},
		{"two proxies, two headers", "10.1.1.1:80", []string{"198.51.100.7", "10.2.2.2"}, "198.51.100.7"},
		{"an invented first hop", "10.1.1.1:80", []string{"203.0.113.9, 198.51.100.7, 10.2.2.2"}, "198.51.100.7"},
		{"invented trusted hops", "10.1.1.1:80", []string{"203.0.113.9, 10.9.9.9, 198.51.100.7"}, "198.51.100.7"},
		{"only proxies", "10.1.1.1:80", []string{"10.3.3.3, 10.2.2.2"}, "10.3.3.3"},
		{"no header from the proxy", "10.1.1.1:80", nil, "10.1.1.1"},
		{"nonsense", "10.1.1.1:80", []string{"unknown"}, "10.1.1.1"},
		{"nonsense in the middle", "10.1.1.1:80", []string{"198.51.100.7, <script>, 10.2.2.2"}, "10.2.2.2"},
		{"with ports", "10.1.1.1:80", []string{"198.51.100.7:5555"}, "198.51.100.7"},
		{"IPv6", "[fd00::1]:80", []string{"2001:db8::7"}, "2001:db8::7"},
		{"IPv6 with port", "[fd00::1]:80", []string{"[2001:db8::7]:5555"}, "2001:db8::7"},
		{"IPv4 in IPv6", "[::ffff:10.1.1.1]:80", []string{"::ffff:198.51.100.7"}, "198.51.100.7"},
		{"more hops than anybody has", "10.1.1.1:80", []string{strings.Repeat("10.2.2.2,", 1000) + "10.2.2.2"}, "10.2.2.2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := &http.Request{RemoteAddr: tc.remote, Header: http.Header{"X-Forwarded-For": tc.forwarded}}
			if got := clientAddress(r, trusted).String(); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestCustomerOfANetworkIsOneAddress(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::", "2001:db8:1:2:ffff::": "2001:db8:1:2::",
	} {
		if got := customer(netip.MustParseAddr(address)).String(); got != want {
			t.Errorf("%s counts as %s, want %s", address, got, want)
		}
	}
}
