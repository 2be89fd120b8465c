package presencechaos

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/imcluster/imcluster/client"
	"github.com/imcluster/imcluster/internal/chaos/proc"
	"github.com/imcluster/imcluster/presence/store"
)

// Config says what a world consists of.
type Config struct {
	// GatewayProgram and PresenceProgram are the paths of the programs.
	GatewayProgram, PresenceProgram string
	// Gateways and Pods are how many there are. Zero means 3 gateways and 2 presence pods.
	Gateways, Pods int
	Redis          Redis
	// Lease and Grace are those of gateways. Zero means 3 s and 500 ms.
	Lease, Grace time.Duration
}

// World is gateways and presence pods on one Redis, and a receiver of hooks.
type World struct {
	cfg      Config
	dir      string
	hooks    *receiver
	balancer *balancer
	gateways []*gateway
	pods     []*pod
	devices  *devices
	rec      *recorder

	redis sync.Mutex // held while something is done to Redis
	async sync.WaitGroup

	mu   sync.Mutex
	errs []error // guarded by mu
}

// place is where a process runs.
type place struct {
	busy sync.Mutex // held while something is done to it

	mu   sync.Mutex
	p    *proc.Process // guarded by mu
	runs int           // guarded by mu
}

type gateway struct {
	place
	number int
	uids   int // how many pods there were; held busy
}

type pod struct {
	place
	number               int
	http, grpc, internal string // addresses, the same for every run
}

func (s *place) process() *proc.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.p
}

func (s *place) set(p *proc.Process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.p = p
	s.runs++
}

// Keys of the world.
const (
	apiKey  = "api key"
	peerKey = "peer key"
	hookKey = "hook key"
	appID   = "app"
)

// NewWorld starts everything. It ends with the test.
func NewWorld(tb testing.TB, cfg Config) *World {
	tb.Helper()
	for d, v := range map[*time.Duration]time.Duration{&cfg.Lease: 3 * time.Second, &cfg.Grace: 500 * time.Millisecond} {
		if *d == 0 {
			*d = v
		}
	}
	for n, v := range map[*int]int{&cfg.Gateways: 3, &cfg.Pods: 2} {
		if *n == 0 {
			*n = v
		}
	}
	w := &World{cfg: cfg, dir: tb.TempDir(), rec: &recorder{}, devices: newDevices()}
	for name, key := range map[string]string{"api": apiKey, "peer": peerKey, "hook": hookKey} {
		if err := errors.Join(os.Mkdir(filepath.Join(w.dir, name), 0o700), os.WriteFile(filepath.Join(w.dir, name, "current"), []byte(key), 0o600)); err != nil {
			tb.Fatal(err)
		}
	}
	w.hooks = newReceiver(tb, w.rec)
	tb.Cleanup(w.end)
	for i := range cfg.Pods {
		w.pods = append(w.pods, &pod{number: i, http: freeAddr(tb), grpc: freeAddr(tb), internal: freeAddr(tb)})
	}
	w.balancer = newBalancer(tb, w.pods)
	for i := range cfg.Gateways {
		w.gateways = append(w.gateways, &gateway{number: i})
	}
	var starting sync.WaitGroup
	for _, p := range w.pods {
		starting.Go(func() { w.startPod(p) })
	}
	for _, g := range w.gateways {
		starting.Go(func() { w.startGateway(g, true) })
	}
	starting.Wait()
	if err := w.failed(); err != nil {
		tb.Fatal(err)
	}
	return w
}

func freeAddr(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// end stops everything that runs.
func (w *World) end() {
	w.async.Wait()
	for _, g := range w.gateways {
		if p := g.process(); p != nil {
			p.Kill()
		}
	}
	for _, s := range w.pods {
		if p := s.process(); p != nil {
			p.Kill()
		}
	}
}

// startGateway runs a gateway: as a new container of the pod that was there, or as another pod.
func (w *World) startGateway(g *gateway, another bool) {
	if another {
		g.uids++
	}
	name := fmt.Sprintf("g%d", g.number)
	w.start(&g.place, name, w.cfg.GatewayProgram, "joined the cluster", []string{
		"--auth-mode", "insecure", "--presence-address", "dns:///" + w.balancer.addr, "--peer-key-dir", filepath.Join(w.dir, "peer"),
		"--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0", "--ops-listen", "",
		"--pod-name", name, "--pod-uid", fmt.Sprintf("uid-%d-%d", g.number, g.uids),
		"--shutdown-delay", "20ms", "--drain-window", "1s", "--drain-max-reconnects-per-second", "1000", "--store-timeout", "2s",
		"--max-frames-per-second=-1",
	})
}

func (w *World) startPod(s *pod) {
	w.start(&s.place, fmt.Sprintf("p%d", s.number), w.cfg.PresenceProgram, "Redis is in use", []string{
		"--listen", s.http, "--grpc-listen", s.grpc, "--internal-listen", s.internal, "--ops-listen", "127.0.0.1:0",
		"--api-key-dir", filepath.Join(w.dir, "api"), "--peer-key-dir", filepath.Join(w.dir, "peer"),
		"--hooks-url", w.hooks.url, "--hooks-secret-dir", filepath.Join(w.dir, "hook"),
		"--leancloud-app-id", appID, "--leancloud-app-key-dir", filepath.Join(w.dir, "api"),
		"--shutdown-delay", "20ms",
	})
}

func (w *World) start(s *place, name, program, ready string, args []string) {
	args = append(args, "--cluster-uid", "cluster", "--lease-ttl", w.cfg.Lease.String(), "--grace", w.cfg.Grace.String())
	s.mu.Lock()
	label := fmt.Sprintf("%s.%d", name, s.runs+1)
	s.mu.Unlock()
	p, err := proc.Start(proc.Config{Path: program, Args: append(args, w.cfg.Redis.Flags()...), Label: label, Ready: ready})
	if err != nil {
		w.fail(err)
	}
	s.set(p)
}

func (w *World) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.errs = append(w.errs, err)
}

// failed returns the first thing that went wrong with the processes themselves.
func (w *World) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.errs) > 0 {
		return w.errs[0]
	}
	return nil
}

// address returns where a gateway listens, and the name of the run; empty if there is none.
func (w *World) address(n int) (addr, label string) {
	if p := w.gateways[n%len(w.gateways)].process(); p != nil {
		return p.Listen, p.Label
	}
	return "", ""
}

// presence asks a presence pod.
func (w *World) presence(n int) *client.Presence {
	return &client.Presence{URL: "http://" + w.pods[n%len(w.pods)].http, Key: apiKey, HTTP: asking}
}

// open opens the store, as another presence pod would.
func (w *World) open(tb testing.TB) *store.Store {
	tb.Helper()
	cfg := w.cfg.Redis.Config()
	cfg.LeaseTTL, cfg.Grace, cfg.Owner = w.cfg.Lease, w.cfg.Grace, "cluster"
	s, err := store.Open(tb.Context(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

// Logs returns the latest log lines of all processes.
func (w *World) Logs() string {
	var text strings.Builder
	add := func(s *place) {
		if p := s.process(); p != nil {
			fmt.Fprintf(&text, "== %s\n%s\n", p.Label, p.Tail())
		}
	}
	for _, g := range w.gateways {
		add(&g.place)
	}
	for _, p := range w.pods {
		add(&p.place)
	}
	return text.String()
}

// heal waits until everything that was done to servers is over.
func (w *World) heal() error {
	w.async.Wait()
	var places []*place
	for _, g := range w.gateways {
		places = append(places, &g.place)
	}
	for _, p := range w.pods {
		places = append(places, &p.place)
	}
	for _, s := range places {
		if p := s.process(); p != nil {
			if err := p.Crashed(); err != nil {
				w.fail(err)
			}
			p.Signal(syscall.SIGCONT)
		}
	}
	w.rec.add(Event{Kind: Healed})
	return w.failed()
}
