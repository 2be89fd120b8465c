package gateway

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// origins are the origins (RFC 6454) of web pages that may connect. Clients prove who they are by a token, not by cookies,
// so pages of others cannot act for a user; the list keeps them from using the service at all.
type origins struct {
	exact    map[string]struct{}
	suffixes []origin // with host from the dot on
}

type origin struct{ scheme, host, port string }

func (o origin) String() string { return o.scheme + "://" + o.host + ":" + o.port }

// parseOrigins returns nil for an empty list, which allows all.
func parseOrigins(list []string) (*origins, error) {
	if len(list) == 0 {
		return nil, nil
	}
	o := &origins{exact: map[string]struct{}{}}
	for _, s := range list {
		parsed, ok := parseOrigin(s)
		host, wildcard := strings.CutPrefix(parsed.host, "*")
		switch {
		case !ok || strings.Contains(host, "*") || wildcard && !strings.HasPrefix(host, ".") || host == ".":
			return nil, fmt.Errorf("%q is not an origin such as https://chat.example.com or https://*.example.com", s)
		case wildcard:
			parsed.host = host
			o.suffixes = append(o.suffixes, parsed)
		default:
			o.exact[parsed.String()] = struct{}{}
		}
	}
	return o, nil
}

// parseOrigin reads scheme://host[:port], and nothing after it.
func parseOrigin(s string) (origin, bool) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return origin{}, false
	}
	o := origin{scheme: strings.ToLower(u.Scheme), host: strings.ToLower(u.Hostname()), port: u.Port()}
	if o.host == "" || o.scheme == "" {
		return origin{}, false
	}
	if o.port == "" {
		o.port = map[string]string{"https": "443", "http": "80"}[o.scheme]
	}
	return o, true
}

// allow tells whether the page that makes a request may connect. Requests without Origin are not made by pages.
func (o *origins) allow(r *http.Request) bool {
	values := r.Header.Values("Origin")
	if o == nil || len(values) == 0 {
		return true
	}
	if len(values) > 1 {
		return false
	}
	asks, ok := parseOrigin(values[0])
	if !ok {
		return false // "null" among others: a page from a file, or one in a sandbox
	}
	if _, ok := o.exact[asks.String()]; ok {
		return true
	}
	for _, s := range o.suffixes {
		if asks.scheme == s.scheme && asks.port == s.port && len(asks.host) > len(s.host) && strings.HasSuffix(asks.host, s.host) {
			return true
		}
	}
	return false
}
