package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gorilla/websocket"
)

// serveCmd is one measured server. It ends when its standard input does.
type serveCmd struct {
	Kind  string `arg:"" enum:"naive,tuned,gateway,presence,centrifuge,relay" help:"naive or tuned: a bare gorilla/websocket server; gateway and presence: ours."`
	Redis string `help:"Address of the Redis that the server uses."`
	Peer  string `help:"Address of the other relay."`
	// Presence is where the gateway finds presence.
	Presence string `help:"Address of presence, for gRPC."`
	Uncached bool   `help:"Have presence ask Redis for everybody."`
	// Unlimited lifts the limits of what one client may send, and believes the user id that comes as a token.
	Unlimited bool `help:"Take as much as comes, from anybody."`
}

func (c *serveCmd) Run(ctx context.Context) error {
	var addr, rpc string
	var err error
	switch c.Kind {
	case "gateway":
		addr, err = serveGateway(ctx, c.Redis, c.Presence, c.Unlimited)
	case "presence":
		addr, rpc, err = servePresence(ctx, c.Redis, c.Uncached)
	case "relay":
		addr, err = serveRelay(ctx, c.Peer)
	case "centrifuge":
		addr, err = serveCentrifuge(ctx, c.Redis)
	default:
		addr, err = serveBare(c.Kind == "tuned")
	}
	if err != nil {
		return err
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		switch what, path, _ := strings.Cut(in.Text(), " "); what {
		case "sample":
			debug.FreeOSMemory()
			debug.FreeOSMemory() // the second one returns what finalizers let go of
		case "profile":
			f, err := os.Create(path)
			if err != nil {
				return err
			}
			if err := pprof.StartCPUProfile(f); err != nil {
				return err
			}
		case "profiled":
			pprof.StopCPUProfile()
		}
		out, err := json.Marshal(measure(addr, rpc))
		if err != nil {
			return err
		}
		fmt.Println(string(out))
	}
	return nil
}

func measure(addr, rpc string) sample {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return sample{
		Addr: addr, RPC: rpc, RSS: rss(), Stack: int64(m.StackInuse), Heap: int64(m.HeapAlloc), Goroutines: runtime.NumGoroutine(),
		CPUMicros: (u.Utime.Sec+u.Stime.Sec)*1e6 + u.Utime.Usec + u.Stime.Usec,
	}
}

// rss returns the resident set of this process in bytes, 0 where /proc does not tell.
func rss() int64 {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(statm))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// serveBare is the yardstick: it answers every message with the same message. Naive is what the examples of
// gorilla/websocket do, without a second goroutine: the loop runs in the handler with default buffers, which keeps
// net/http's buffers alive. Tuned returns from the handler, pools write buffers and reads through 1 KiB.
func serveBare(tuned bool) (string, error) {
	up := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	if tuned {
		up.ReadBufferSize, up.WriteBufferSize, up.WriteBufferPool = 1024, 1024, &sync.Pool{}
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := up.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		if tuned {
			go echo(conn)
			return
		}
		echo(conn)
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = srv.Serve(l) }()
	return l.Addr().String(), nil
}

func echo(conn *websocket.Conn) {
	defer conn.Close()
	for {
		kind, data, err := conn.ReadMessage()
		if err != nil {
			return
		}
		if conn.WriteMessage(kind, data) != nil {
			return
		}
	}
}
