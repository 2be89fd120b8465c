package forward

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	m, err := Parse("18080=gateway.chat:80")
	if err != nil {
		t.Fatal(err)
	}
	if want := (Mapping{Port: 18080, Service: "gateway", Namespace: "chat", ServicePort: 80}); m != want {
		t.Errorf("got %+v, want %+v", m, want)
	}
	if got, want := m.Target(), "gateway.chat.svc.cluster.local.:80"; got != want {
		t.Errorf("target %q, want %q", got, want)
	}
	for _, bad := range []string{"", "18080", "18080=gateway:80", "18080=gateway.chat", "0=a.b:80", "99999=a.b:80", "x=a.b:80"} {
		if m, err := Parse(bad); err == nil {
			t.Errorf("Parse(%q) = %+v, want an error", bad, m)
		}
	}
}

func TestServePassesBytesAndEndsBothWays(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() { // answers when the client has finished
		conn, err := server.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		question, _ := io.ReadAll(conn)
		fmt.Fprintf(conn, "you said %s", question)
	}()

	listen := freeAddress(t)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, listen, server.Addr().String(), "127.0.0.1") }()
	client := dial(t, listen)
	defer client.Close()
	if _, err := client.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(bufio.NewReader(client))
	if err != nil || string(answer) != "you said hello" {
		t.Errorf("answer %q, %v", answer, err)
	}
	cancel()
	if err := <-served; err == nil {
		t.Error("Serve ended without an error; want that of its context")
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func dial(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err == nil {
			return conn.(*net.TCPConn)
		}
		select {
		case <-ctx.Done():
			t.Fatal(err)
		case <-tick.C:
		}
	}
}
