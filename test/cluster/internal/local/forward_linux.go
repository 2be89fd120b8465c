package local

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"time"

	"github.com/imcluster/imcluster/test/cluster/internal/forward"
)

// ForwardCommand is the hidden command that [forward.Serve] is run by.
const ForwardCommand = "serve-forward"

// Forward starts a process that passes connections to 127.0.0.1 on to a Service, unless it runs already.
func (c *Cluster) Forward(ctx context.Context, m forward.Mapping) error {
	if err := c.requireUp(); err != nil {
		return err
	}
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := c.ensureRecord(); err != nil {
		return err
	}
	name := fmt.Sprintf("forward-%d", m.Port)
	link := filepath.Join(c.run, name)
	args := []string{link, ForwardCommand, m.Listen(), m.Target(), c.net.DNS().String()}
	running, ok, err := daemon(c.name, name)
	if err != nil {
		return err
	}
	if ok && slices.Equal(running.args, args) {
		return nil
	}
	if ok {
		if err := stop(ctx, stopGrace, running); err != nil {
			return err
		}
	}
	// The forwarder would fail as well, but only into its log.
	free, err := net.Listen("tcp", m.Listen())
	if err != nil {
		return fmt.Errorf("forward: %w (stop what uses the port, or forward another one)", err)
	}
	free.Close()
	if err := relinkSelf(link); err != nil {
		return err
	}
	if err := start(c.name, c.logFile(name), "", nil, args...); err != nil {
		return err
	}
	return c.await(ctx, "the forwarder", 10*time.Second, []component{{name: name, args: args}}, func() error {
		conn, err := net.DialTimeout("tcp", m.Listen(), time.Second)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}
