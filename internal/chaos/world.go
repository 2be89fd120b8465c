package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/imcluster/imcluster/internal/chaos/check"
	"github.com/imcluster/imcluster/internal/chaos/proc"
)

// Redis is what gateways keep their data in, and what a schedule does to it. Its methods return when they are done.
type Redis interface {
	// Flags are how gateways are told of it.
	Flags() []string
	// Pause stops it for a while.
	Pause(node int, d time.Duration)
	// Kill ends it, and starts it again after a while. In a cluster, that is when the replica has taken over.
	Kill(node int, d time.Duration)
	// Forget drops its connections and its scripts.
	Forget()
}

// WorldConfig says what a world consists of.
type WorldConfig struct {
	// Program is the path of the gateway.
	Program  string
	Gateways int
	Redis    Redis
	// Lease, Grace and Idle are the gateways' own settings. Zero means 1.5 s, 300 ms and 2 s.
	Lease, Grace, Idle time.Duration
	// Delivery is how long after the death of a gateway was noticed everything must have arrived. Zero means 5 s.
	Delivery time.Duration
	// Args are further flags of gateways.
	Args []string
}

// World is some gateways on one Redis. One schedule at a time runs in it.
type World struct {
	cfg   WorldConfig
	keys  string
	slots []*slot
	redis sync.Mutex // held while something is done to Redis
	async sync.WaitGroup

	mu    sync.Mutex
	rec   *recorder // of the schedule that runs; guarded by mu
	errs  []error   // guarded by mu
	names int       // guarded by mu
}

// slot is a place for a gateway.
type slot struct {
	number int
	busy   sync.Mutex // held while something is done to it

	mu   sync.Mutex
	p    *proc.Process // nil: none runs; guarded by mu
	runs int           // guarded by mu
	pods int           // guarded by mu
}

// NewWorld starts the gateways. They end with the test.
func NewWorld(tb testing.TB, cfg WorldConfig) *World {
	tb.Helper()
	orElse := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	orElse(&cfg.Lease, 1500*time.Millisecond)
	orElse(&cfg.Grace, 300*time.Millisecond)
	orElse(&cfg.Idle, 2*time.Second)
	orElse(&cfg.Delivery, 5*time.Second)
	w := &World{cfg: cfg, keys: tb.TempDir(), rec: newRecorder()}
	if err := os.WriteFile(filepath.Join(w.keys, "current"), []byte("peer key"), 0o600); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(w.end)
	for i := range cfg.Gateways {
		w.slots = append(w.slots, &slot{number: i})
	}
	for _, s := range w.slots {
		w.start(s, false)
	}
	if err := w.failed(); err != nil {
		tb.Fatal(err)
	}
	return w
}

// end stops everything that runs.
func (w *World) end() {
	w.async.Wait()
	for _, s := range w.slots {
		if p := s.process(); p != nil {
			p.Kill()
		}
	}
}

func (s *slot) process() *proc.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.p
}

// start runs a gateway in a slot: a new container of the pod that was there, or another pod.
func (w *World) start(s *slot, pod bool) {
	s.mu.Lock()
	s.runs++
	if pod {
		s.pods++
	}
	label, uid := fmt.Sprintf("g%d.%d", s.number, s.runs), fmt.Sprintf("uid-%d-%d", s.number, s.pods)
	s.mu.Unlock()
	args := append(append([]string{
		"--cluster-uid", "cluster", "--auth-mode", "insecure", "--peer-key-dir", w.keys,
		"--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0", "--ops-listen", "", "--pod-name", fmt.Sprintf("g%d", s.number), "--pod-uid", uid,
		"--lease-ttl", w.cfg.Lease.String(), "--grace", w.cfg.Grace.String(), "--idle-timeout", w.cfg.Idle.String(),
		"--shutdown-delay", "20ms", "--drain-window", "1s", "--drain-max-reconnects-per-second", "1000",
		"--max-frames-per-second=-1", "--max-bytes-per-second=-1",
	}, w.cfg.Redis.Flags()...), w.cfg.Args...)
	p, err := proc.Start(proc.Config{Path: w.cfg.Program, Args: args, Label: label, Ready: "joined the cluster"})
	if err != nil {
		w.fail(err)
	}
	s.mu.Lock()
	s.p = p
	s.mu.Unlock()
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

// record notes something that is done to the servers.
func (w *World) record(k check.Kind, label string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rec.add(check.Event{Kind: k, Gateway: label})
}

// begin makes a recorder that sees what happens to the servers from now on, and a name that no schedule in this world has
// had.
func (w *World) begin() (*recorder, string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rec = newRecorder()
	w.names++
	return w.rec, fmt.Sprintf("s%d", w.names)
}

// do runs what a step does to servers in the background, unless something is being done to the same one.
func (w *World) do(step Step) {
	switch step.Verb {
	case PauseRedis, KillRedis, ForgetRedis, FailOver:
		if w.redis.TryLock() {
			w.async.Go(func() {
				defer w.redis.Unlock()
				w.doRedis(step)
			})
		}
	case KillGateway, LoseGateway, StopGateway, DrainGateway:
		if s := w.slots[step.Gateway]; s.busy.TryLock() {
			w.async.Go(func() {
				defer s.busy.Unlock()
				w.doGateway(s, step)
			})
		}
	}
}

func (w *World) doRedis(step Step) {
	w.record(check.RedisHit, "")
	defer w.record(check.RedisUp, "")
	switch step.Verb {
	case PauseRedis:
		w.cfg.Redis.Pause(step.N, step.For)
	case KillRedis, FailOver:
		w.record(check.RedisDied, "")
		w.cfg.Redis.Kill(step.N, step.For)
	case ForgetRedis:
		w.cfg.Redis.Forget()
	}
}

func (w *World) doGateway(s *slot, step Step) {
	p := s.process()
	if p == nil {
		return
	}
	switch step.Verb {
	case KillGateway, LoseGateway:
		w.record(check.GatewayHit, p.Label)
		p.Kill()
		if err := p.Crashed(); err != nil {
			w.fail(err)
		}
		pause(step.For)
		w.start(s, step.Verb == LoseGateway)
	case StopGateway:
		w.record(check.GatewayHit, p.Label)
		p.Signal(syscall.SIGSTOP)
		pause(step.For)
		p.Signal(syscall.SIGCONT)
		w.record(check.GatewayUp, p.Label)
	case DrainGateway:
		p.Signal(syscall.SIGTERM)
		<-p.Ended
		if err := p.Crashed(); err != nil {
			w.fail(err)
		}
		w.start(s, true)
	}
}

// pause lets time pass that a schedule asks for.
func pause(d time.Duration) { <-time.After(d) }

// heal waits until everything that was done to servers is over.
func (w *World) heal() error {
	w.async.Wait()
	for _, s := range w.slots {
		if p := s.process(); p != nil {
			if err := p.Crashed(); err != nil {
				w.fail(err)
			}
		}
	}
	w.record(check.Healed, "")
	return w.failed()
}

// address returns where a gateway listens, and the name of the run; empty if there is none.
func (w *World) address(gateway int) (addr, label string) {
	if p := w.slots[gateway%len(w.slots)].process(); p != nil {
		return p.Listen, p.Label
	}
	return "", ""
}

// Logs returns the latest log lines of all gateways.
func (w *World) Logs() string {
	var text strings.Builder
	for _, s := range w.slots {
		if p := s.process(); p != nil {
			fmt.Fprintf(&text, "== %s\n%s\n", p.Label, p.Tail())
		}
	}
	return text.String()
}
