package gateway

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/imcluster/imcluster/gateway/auth"
)

func TestOriginsThatMayConnect(t *testing.T) {
	o, err := parseOrigins([]string{"https://chat.example.com", "https://*.example.org", "http://localhost:3000", "HTTPS://Upper.example.com:443",
		"capacitor://localhost", "http://[::1]:8080"})
	if err != nil {
		t.Fatal(err)
	}
	for origin, want := range map[string]bool{
		"https://chat.example.com":          true,
		"https://CHAT.example.com":          true,
		"https://chat.example.com:443":      true,
		"https://upper.example.com":         true,
		"http://localhost:3000":             true,
		"capacitor://localhost":             true,
		"http://[::1]:8080":                 true,
		"https://a.example.org":             true,
		"https://a.b.example.org":           true,
		"http://chat.example.com":           false,
		"https://chat.example.com:8443":     false,
		"https://chat.example.com.evil.net": false,
		"https://evil-chat.example.com":     false,
		"https://xchat.example.com":         false,
		"https://example.org":               false,
		"https://.example.org":              false,
		"https://evilexample.org":           false,
		"http://a.example.org":              false,
		"https://a.example.org:8443":        false,
		"https://a.example.org@evil.net":    false,
		"https://evil.net/.example.org":     false,
		"https://evil.net?.example.org":     false,
		"https://evil.net#.example.org":     false,
		"http://localhost":                  false,
		"null":                              false,
		"":                                  false,
		"https://":                          false,
		"chat.example.com":                  false,
	} {
		r := &http.Request{Header: http.Header{"Origin": {origin}}}
		if got := o.allow(r); got != want {
			t.Errorf("%q: %v, want %v", origin, got, want)
		}
	}
	if !o.allow(&http.Request{Header: http.Header{}}) {
		t.Error("a program without Origin is held up")
	}
	if o.allow(&http.Request{Header: http.Header{"Origin": {"https://chat.example.com", "https://evil.net"}}}) {
		t.Error("two origins were accepted")
	}
	var none *origins
	if !none.allow(&http.Request{Header: http.Header{"Origin": {"https://evil.net"}}}) {
		t.Error("without a list all may connect")
	}
}

func TestOriginsThatAreNoneAreNamed(t *testing.T) {
	for _, s := range []string{"", "*", "chat.example.com", "https://", "https://a.example.com/", "https://a.*.example.com",
		"https://*example.com", "https://*", "https://*.", "https://u@a.example.com", "https://a.example.com?x", "null"} {
		_, err := New(Config{Auth: auth.Insecure{}, PeerKeys: testKeys{"k"}, AllowedOrigins: []string{s}})
		if err == nil || !strings.Contains(err.Error(), "is not an origin such as https://") {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestPagesOfOtherOriginsGet403(t *testing.T) {
	g := startGateway(t, newWorld(), func(c *Config) { c.AllowedOrigins = []string{"https://*.example.com"} })
	from := func(origin string) http.Header { return http.Header{"Origin": {origin}} }
	dial(t, g, "?token=a", from("https://chat.example.com")).expect(frame{"type": "11", "code": 200})
	dial(t, g, "?token=b", nil).expect(frame{"type": "11", "code": 200})
	_, resp, err := websocket.DefaultDialer.DialContext(t.Context(), "ws://"+g.Addr().String()+"/ws?token=c", from("https://evil.net"))
	if err == nil {
		t.Fatal("a page of another origin connected")
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusForbidden || !strings.Contains(string(text), "pages of this origin may not connect") {
		t.Errorf("answered %d %q, %v", resp.StatusCode, text, err)
	}
	if n := g.metrics.closes[reasonOrigin].Load(); n != 1 {
		t.Errorf("%d are counted", n)
	}
}
