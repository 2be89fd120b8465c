package gateway

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/imcluster/imcluster/gateway/auth"
)

// serverEnv makes the test binary a gateway on a registry in memory instead of running tests.
const serverEnv = "IMCLUSTER_TEST_GATEWAY"

// footprint is what the server process says of itself.
type footprint struct {
	Addr                 string
	RSS, Stack, Heap     int64
	Goroutines, Sessions int
}

// TestIdleConnectionIsCheap measures the slope of resident memory of a gateway in a process of its own, whose clients
// have logged in and sent a chat each. The bar is 7 KB. The benchmark in test/bench measures up to 10,000
// connections.
func TestIdleConnectionIsCheap(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Log("resident memory is read from /proc; only goroutines are checked")
	}
	ask := startServerProcess(t)
	base := ask("sample")
	const low, high = 500, 3500
	connectRaw(t, base.Addr, 0, low)
	a := ask("sample")
	connectRaw(t, base.Addr, low, high)
	b := ask("sample")
	n := float64(high - low)
	slope := float64(b.RSS-a.RSS) / n / 1024
	t.Logf("%.2f KB a connection (stack %.2f, heap %.2f), %.3f goroutines", slope,
		float64(b.Stack-a.Stack)/n/1024, float64(b.Heap-a.Heap)/n/1024, float64(b.Goroutines-a.Goroutines)/n)
	if raceEnabled {
		return // the race detector's memory is measured here
	}
	if slope > 7 {
		t.Errorf("an idle connection costs %.2f KB, want at most 7", slope)
	}
	if extra := b.Goroutines - high; extra > 100 {
		t.Errorf("%d goroutines for %d connections", b.Goroutines, high)
	}
	if b.Sessions != high {
		t.Errorf("%d sessions, want %d", b.Sessions, high)
	}
}

// startServerProcess runs this test binary as a gateway. ask sends it a command and returns its footprint.
func startServerProcess(t *testing.T) (ask func(string) footprint) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), serverEnv+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); _ = cmd.Wait() })
	lines := bufio.NewScanner(out)
	return func(command string) (f footprint) {
		t.Helper()
		if _, err := fmt.Fprintln(in, command); err != nil {
			t.Fatal(err)
		}
		if !lines.Scan() {
			t.Fatalf("the server process ended: %v", lines.Err())
		}
		mustUnmarshal(t, lines.Text(), &f)
		return f
	}
}

// connectRaw opens connections that cost the client little: no library, and one masked frame each.
func connectRaw(t *testing.T, addr string, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		_, err = fmt.Fprintf(conn, "GET /ws?token=user%d HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", i)
		if err != nil {
			t.Fatal(err)
		}
		await(t, conn, `"type":"11","code":200`)
		frame := fmt.Appendf(nil, `{"type":"80","toId":"user%d","content":{"body":"hello"}}`, i)
		if _, err := conn.Write(append([]byte{0x81, 0x80 | byte(len(frame)), 0, 0, 0, 0}, frame...)); err != nil {
			t.Fatal(err)
		}
		await(t, conn, `"type":"81"`)
	}
}

// await reads until the text was received.
func await(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(testTimeout))
	var got []byte
	buf := make([]byte, 1024)
	for !bytes.Contains(got, []byte(text)) {
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatalf("read %q: %v", got, err)
		}
		got = append(got, buf[:n]...)
	}
}

// serveProcess is the server process: a gateway that ends with its standard input.
func serveProcess() int {
	w := newWorld()
	w.forgetful = true
	g, err := New(Config{
		PodName: "gateway", Auth: auth.Insecure{}, PeerKeys: testKeys{"peer key"}, DrainWindow: time.Second,
		Listen: "127.0.0.1:0", PeerListen: "127.0.0.1:0", join: w.join,
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		runtime.GC()
		debug.FreeOSMemory()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		statm, _ := os.ReadFile("/proc/self/statm")
		pages := int64(0)
		if fields := strings.Fields(string(statm)); len(fields) > 1 {
			pages, _ = strconv.ParseInt(fields[1], 10, 64)
		}
		out, _ := json.Marshal(footprint{Addr: g.Addr().String(), RSS: pages * int64(os.Getpagesize()), Stack: int64(m.StackInuse),
			Heap: int64(m.HeapAlloc), Goroutines: runtime.NumGoroutine(), Sessions: int(g.table.count.Load())})
		fmt.Println(string(out))
	}
	cancel()
	if err := <-done; err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
