package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// proxyIdle is the read timeout of the proxy, that of ingress controllers by default.
const proxyIdle = 60 * time.Second

// nginxConfig proxies WebSockets as Ingress controllers configure nginx.
const nginxConfig = `
daemon off;
worker_processes 1;
pid %[1]s/nginx.pid;
error_log stderr warn;
events { worker_connections 256; }
http {
  access_log off;
  client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;
  map $http_upgrade $connection_upgrade { default upgrade; "" close; }
  server {
    listen %[2]s;
    location / {
      proxy_pass http://%[3]s;
      proxy_http_version 1.1;
      proxy_set_header Host $host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_read_timeout %[4]ds;
      proxy_send_timeout %[4]ds;
    }
  }
}
`

// TestReverseProxyKeepsSilentConnections holds a connection through nginx for longer than nginx's idle timeout, while
// the client sends nothing of its own: the gateway's pings keep it.
func TestReverseProxyKeepsSilentConnections(t *testing.T) {
	p := start(t, newIMCluster(namespace(t), "proxied"))
	addr := nginx(t, upstream(t, p))
	alice, bob := login(t, addr, "alice"), login(t, addr, "bob")

	silent := make(chan error, 1)
	go func() {
		got, err := bob.next(proxyIdle + 30*time.Second)
		if err == nil && got["type"] != "80" {
			err = fmt.Errorf("bob got %v, want a chat", got)
		}
		silent <- err
	}()
	quiet := make(chan error, 1)
	go func() {
		_, err := alice.next(proxyIdle + 15*time.Second) // reads only to answer the gateway's pings
		quiet <- err
	}()
	select {
	case err := <-silent:
		t.Fatalf("bob's connection ended while it was silent: %v", err)
	case err := <-quiet:
		if netErr, ok := err.(net.Error); !ok || !netErr.Timeout() { //nolint:errorlint // the library returns it unwrapped
			t.Fatalf("alice's connection ended while it was silent: %v", err)
		}
	}
	p.waitState(5*time.Second, map[string]string{"alice": "online", "bob": "online"})
	alice.send(`{"type":"80","toId":"bob","content":"still here?"}`)
	if err := <-silent; err != nil {
		t.Error(err)
	}
}

// upstream returns the address of the gateway Service, or, where this machine has no route to it, of one of its pods.
func upstream(t *testing.T, p *platform) string {
	t.Helper()
	service := &corev1.Service{}
	if err := cluster.Get(t.Context(), client.ObjectKey{Namespace: p.key.Namespace, Name: p.key.Name + "-gateway"}, service); err != nil {
		t.Fatal(err)
	}
	addr := net.JoinHostPort(service.Spec.ClusterIP, "80")
	if conn, err := net.DialTimeout("tcp", addr, 2*time.Second); err == nil {
		conn.Close()
		return addr
	}
	t.Logf("no route to the Service at %s; the proxy uses one pod", addr)
	return forward(t, p.pods("gateway")[0], 8080)
}

// nginx starts a reverse proxy to the upstream and returns its address.
func nginx(t *testing.T, upstream string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil { // its worker gives up root
		t.Fatal(err)
	}
	path := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(path, fmt.Appendf(nil, nginxConfig, dir, addr, upstream, int(proxyIdle.Seconds())), 0o600); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	cmd := exec.CommandContext(t.Context(), envOr("NGINX", "nginx"), "-p", dir, "-c", path, "-e", "stderr")
	cmd.Stderr = &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if err := cmd.Start(); err != nil {
		t.Fatalf("start nginx: %v; on Debian: apt-get install nginx-light", err)
	}
	t.Cleanup(func() { _ = cmd.Wait() })
	eventually(t, 10*time.Second, func() error {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			return fmt.Errorf("nginx does not listen: %w\n%s", err, log.String())
		}
		return conn.Close()
	})
	return addr
}
