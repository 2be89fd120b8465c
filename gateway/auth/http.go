package auth

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// userAgent is what requests to the user's own services say.
const userAgent = "imcluster-gateway"

// maxConnsPerHost bounds the connections to one service.
const maxConnsPerHost = 256

// newClient returns a client that follows no redirects: they could lead anywhere, with the token in the request. It keeps
// idle connections for the next requests.
func newClient(timeout time.Duration, idle int) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxConnsPerHost, transport.MaxIdleConnsPerHost, transport.MaxIdleConns = maxConnsPerHost, idle, idle
	transport.DisableKeepAlives = idle == 0
	transport.IdleConnTimeout = 30 * time.Second
	transport.MaxResponseHeaderBytes = 16 << 10
	return &http.Client{
		Transport:     transport,
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// do returns the status and the body of an answer, which must not have more than limit bytes. Its errors do not quote the
// URL, which may hold a secret.
func do(client *http.Client, req *http.Request, limit int64) (status int, body []byte, err error) {
	req.Header.Set("User-Agent", userAgent)
	resp, err := client.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err
		}
		return 0, nil, err
	}
	defer resp.Body.Close()
	if body, err = io.ReadAll(io.LimitReader(resp.Body, limit+1)); err != nil {
		return 0, nil, fmt.Errorf("read the answer: %w", err)
	}
	if int64(len(body)) > limit {
		return 0, nil, fmt.Errorf("the answer has more than %d bytes", limit)
	}
	return resp.StatusCode, body, nil
}

// checkURL finds out whether s is an absolute URL for HTTP.
func checkURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return errors.New("it is not a URL") // the library's error quotes it
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return errors.New("it must start with https:// or http:// and name a host")
	}
	return nil
}

// withoutQuery returns a URL for logs.
func withoutQuery(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return ""
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}
