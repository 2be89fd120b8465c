package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/imcluster/imcluster/client"
	"github.com/imcluster/imcluster/internal/cli"
	"github.com/imcluster/imcluster/internal/secretdir"
)

// hooksCommand is a receiver of hooks, to try them out and to see what a back end is told.
type hooksCommand struct {
	Listen     string `default:"127.0.0.1:8090" placeholder:"ADDRESS" help:"Where to take them: any path, by POST. Default: ${default}"`
	SecretFile string `placeholder:"FILE" help:"File with the secret that they are signed with."`
	SecretDir  string `placeholder:"DIR" help:"The same as a mounted Secret, with files 'current' and, optionally, 'previous'."`
}

// Limits of the receiver.
const (
	hookReadTimeout = 5 * time.Second
	hookStopTimeout = 2 * time.Second
)

// Run takes hooks until ctx ends.
func (c *hooksCommand) Run(ctx context.Context, p *printer) error {
	secret, err := c.secret()
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("listen for hooks: %w", err)
	}
	r := &hookReceiver{p: p, secret: secret, seen: map[string]int64{}}
	server := &http.Server{Handler: r, ReadHeaderTimeout: hookReadTimeout, ReadTimeout: hookReadTimeout}
	p.warn("Waiting for hooks at http://%s/, until Ctrl-C.", listener.Addr())
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err = <-failed:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hookStopTimeout)
	defer cancel()
	return server.Shutdown(ctx)
}

func (c *hooksCommand) secret() (*secretdir.Secret, error) {
	switch {
	case (c.SecretDir == "") == (c.SecretFile == ""):
		return nil, cli.Configf("give one of --secret-file and --secret-dir: only what is signed is believed")
	case c.SecretDir != "":
		secret, err := secretdir.Open(c.SecretDir)
		if err != nil {
			return nil, cli.Configf("--secret-dir: %w", err)
		}
		return secret, nil
	}
	data, err := os.ReadFile(c.SecretFile)
	if err != nil {
		return nil, cli.Configf("--secret-file: %w", err)
	}
	value := strings.TrimSpace(string(data))
	if value == "" {
		return nil, cli.Configf("--secret-file: %s is empty", c.SecretFile)
	}
	return secretdir.Static([]byte(value)), nil
}

// hookReceiver prints what it is told.
type hookReceiver struct {
	p      *printer
	secret *secretdir.Secret

	mu   sync.Mutex
	seen map[string]int64 // newest seq by user
}

func (r *hookReceiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	events, err := client.ReadHooks(req, r.secret.Values()...)
	switch {
	case errors.Is(err, client.ErrNotSigned):
		r.p.warn("Refused a request from %s: %v.", req.RemoteAddr, err)
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range events {
		r.show(e)
	}
	w.WriteHeader(http.StatusNoContent)
}

// show prints an event, and whether it is an old one.
func (r *hookReceiver) show(e client.HookEvent) {
	old := e.Seq <= r.seen[e.PeerID]
	if !old {
		r.seen[e.PeerID] = e.Seq
	}
	if r.p.json {
		_ = r.p.value(e) // nobody to tell if the output is gone
		return
	}
	text := "came online"
	if e.Hook == client.ClientOffline {
		text = "went offline"
	}
	if e.SourceIP != "" {
		text += ", from " + e.SourceIP
	}
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	if old {
		text += " (told before)"
	}
	r.p.line("%s  %s %s", time.UnixMilli(e.Timestamp).Format("15:04:05.000"), printable(e.PeerID), text)
}
