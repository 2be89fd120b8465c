package local

import (
	"context"
	"fmt"
	"net"
	"strings"
)

// ensureLink connects the host with the cluster's network namespace by a pair of interfaces, and routes the cluster's
// addresses there: that one route and interface is all that the host's network sees of a cluster.
func (c *Cluster) ensureLink(ctx context.Context) error {
	// The route is made last, so if it is there everything is.
	if route, err := c.runner().Run(ctx, "ip", "route", "show", c.net.All().String(), "dev", c.name); err == nil && route != "" {
		return nil
	}
	if err := c.deleteLink(ctx); err != nil {
		return err
	}
	outside := func(format string, args ...any) []string {
		return append([]string{"ip"}, strings.Fields(fmt.Sprintf(format, args...))...)
	}
	inside := func(format string, args ...any) []string { return c.inside(outside(format, args...)...) }
	for _, line := range [][]string{
		outside("link add %s type veth peer name eth0 netns %d", c.name, c.holder),
		outside("address add %s/%d dev %s", c.net.Host(), linkBits, c.name),
		outside("link set %s up", c.name),
		inside("address add %s/%d dev eth0", c.net.Node(), linkBits),
		inside("link set eth0 up"),
		inside("route add default via %s", c.net.Host()),
		outside("route add %s via %s dev %s", c.net.All(), c.net.Node(), c.name),
	} {
		if _, err := c.runner().Run(ctx, line[0], line[1:]...); err != nil {
			return fmt.Errorf("connect the cluster: %w", err)
		}
	}
	return nil
}

// deleteLink removes the cluster's interface, with which its peer and its routes go.
func (c *Cluster) deleteLink(ctx context.Context) error {
	if !hasLink(c.name) {
		return nil
	}
	// It also goes by itself, with the namespace that its peer is in, perhaps at this moment.
	if _, err := c.runner().Run(ctx, "ip", "link", "delete", c.name); err != nil && hasLink(c.name) {
		return err
	}
	return nil
}

func hasLink(name string) bool {
	_, err := net.InterfaceByName(name)
	return err == nil
}
