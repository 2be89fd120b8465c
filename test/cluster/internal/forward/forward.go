// Package forward passes connections to a port of 127.0.0.1 on to a Service of a cluster.
package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"regexp"
	"strconv"
	"sync"
	"time"
)

// Mapping is one forwarded port.
type Mapping struct {
	Port      int // of 127.0.0.1
	Service   string
	Namespace string
	// ServicePort is the port's number.
	ServicePort int
}

var mappingPattern = regexp.MustCompile(`^(\d+)=([a-z0-9-]+)\.([a-z0-9-]+):(\d+)$`)

// Parse reads "18080=service.namespace:80".
func Parse(s string) (Mapping, error) {
	parts := mappingPattern.FindStringSubmatch(s)
	if parts == nil {
		return Mapping{}, fmt.Errorf("%q is not of the form <port>=<service>.<namespace>:<port>, such as 18080=gateway.default:80", s)
	}
	m := Mapping{Service: parts[2], Namespace: parts[3]}
	for _, port := range []struct {
		text string
		to   *int
	}{{parts[1], &m.Port}, {parts[4], &m.ServicePort}} {
		n, err := strconv.ParseUint(port.text, 10, 16)
		if err != nil || n == 0 {
			return Mapping{}, fmt.Errorf("%q: %s is no port number", s, port.text)
		}
		*port.to = int(n)
	}
	return m, nil
}

// Listen is the address that is forwarded.
func (m Mapping) Listen() string { return fmt.Sprintf("127.0.0.1:%d", m.Port) }

// Target is the address of the Service within the cluster.
func (m Mapping) Target() string {
	return fmt.Sprintf("%s.%s.svc.cluster.local.:%d", m.Service, m.Namespace, m.ServicePort)
}

// dialTimeout bounds how long a client waits for a Service without ready pods.
const dialTimeout = 5 * time.Second

// Serve forwards until ctx ends. It asks the cluster's DNS server for target at each connection, so a Service may be
// made after the forwarder, or made again with another address.
func Serve(ctx context.Context, listen, target, dns string) error {
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("forward to %s: %w", target, err)
	}
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	dialer := &net.Dialer{
		Timeout: dialTimeout,
		Resolver: &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort(dns, "53"))
		}},
	}
	var connections sync.WaitGroup
	defer connections.Wait()
	for {
		client, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return ctx.Err()
		} else if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		connections.Go(func() {
			if err := relay(ctx, dialer, client, target); err != nil {
				log.Printf("%s: %v", target, err)
			}
		})
	}
}

// relay copies both ways until both are done or ctx ends.
func relay(ctx context.Context, dialer *net.Dialer, client net.Conn, target string) error {
	defer client.Close()
	server, err := dialer.DialContext(ctx, "tcp", target)
	if err != nil {
		return err
	}
	defer server.Close()
	stop := context.AfterFunc(ctx, func() {
		client.Close()
		server.Close()
	})
	defer stop()
	var sides sync.WaitGroup
	for _, side := range [][2]net.Conn{{client, server}, {server, client}} {
		sides.Go(func() {
			from, to := side[0], side[1]
			_, _ = io.Copy(to, from) // how a connection ends is the two sides' affair
			_ = to.(*net.TCPConn).CloseWrite()
		})
	}
	sides.Wait()
	return nil
}
