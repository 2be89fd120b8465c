package auth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// userAgent is what requests to the user's own services say.
const userAgent = "imcluster-gateway"

// maxConnsPerHost bounds the connections to one service.
const maxConnsPerHost = 256

// Service says how a service of the user is asked. The zero value trusts the authorities of the system, and measures nothing.
type Service struct {
	// CAs are the authorities that certificates must come from; nil means those of the system.
	CAs *x509.CertPool
	// Meters get the duration of requests; nil means none.
	Meters metric.MeterProvider
}

// scope names the instruments.
const scope = "github.com/imcluster/imcluster/gateway/auth"

// caller asks one service.
type caller struct {
	client *http.Client
	what   string // for the metric
	took   metric.Float64Histogram
}

// newCaller returns a caller that follows no redirects: they could lead anywhere, with the token in the request. It keeps
// idle connections for the next requests.
func newCaller(s Service, what string, timeout time.Duration, idle int) (*caller, error) {
	if s.Meters == nil {
		s.Meters = noop.NewMeterProvider()
	}
	took, err := s.Meters.Meter(scope).Float64Histogram("imcluster.gateway.auth.request.duration", metric.WithUnit("s"),
		metric.WithDescription("Time that the identity provider's keys, or the auth webhook, took to answer, by result."),
		metric.WithExplicitBucketBoundaries(.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10))
	if err != nil {
		return nil, fmt.Errorf("create metrics: %w", err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: s.CAs}
	transport.MaxConnsPerHost, transport.MaxIdleConnsPerHost, transport.MaxIdleConns = maxConnsPerHost, idle, idle
	transport.DisableKeepAlives = idle == 0
	transport.IdleConnTimeout = 30 * time.Second
	transport.MaxResponseHeaderBytes = 16 << 10
	return &caller{what: what, took: took, client: &http.Client{
		Transport:     transport,
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// do returns the status and the body of an answer, which must not have more than limit bytes. Its errors do not quote the
// URL, which may hold a secret.
func (c *caller) do(req *http.Request, limit int64) (status int, body []byte, err error) {
	start := time.Now()
	status, body, err = c.ask(req, limit)
	result := strconv.Itoa(status)
	if err != nil {
		result = "failed"
	}
	c.took.Record(context.WithoutCancel(req.Context()), time.Since(start).Seconds(),
		metric.WithAttributes(attribute.String("service", c.what), attribute.String("result", result)))
	return status, body, err
}

func (c *caller) ask(req *http.Request, limit int64) (status int, body []byte, err error) {
	req.Header.Set("User-Agent", userAgent)
	resp, err := c.client.Do(req)
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
