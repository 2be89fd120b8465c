package presencechaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"
)

// Trouble is what can be done to servers.
type Trouble string

// Troubles.
const (
	KillGateway  Trouble = "kill gateway"  // its container starts again
	LoseGateway  Trouble = "lose gateway"  // another pod starts
	StopGateway  Trouble = "stop gateway"  // SIGSTOP, and SIGCONT after a while
	DrainGateway Trouble = "drain gateway" // SIGTERM
	KillPod      Trouble = "kill presence"
	StopPod      Trouble = "stop presence"
	PauseRedis   Trouble = "stop redis"
	RestartRedis Trouble = "restart redis empty"
	FlushAll     Trouble = "flush redis"
	FlushShard   Trouble = "flush shard"
	Forget       Trouble = "drop connections and scripts of redis"
	CutWatchers  Trouble = "cut watchers"
)

// Step is one thing that is done.
type Step struct {
	After   time.Duration // since the step before
	Trouble Trouble
	N       int           // which one
	For     time.Duration // how long it lasts
}

func (s Step) String() string {
	return fmt.Sprintf("+%v %s %d for %v", s.After, s.Trouble, s.N, s.For)
}

// Random makes a schedule of faults.
func Random(seed uint64, cluster bool) (list []Step) {
	r := rand.New(rand.NewPCG(seed, 4))
	troubles := []Trouble{KillGateway, LoseGateway, StopGateway, StopGateway, DrainGateway, KillPod, StopPod, PauseRedis, RestartRedis, FlushAll, Forget, CutWatchers, CutWatchers}
	if cluster {
		troubles = append(troubles, FlushShard, FlushShard)
	}
	ms := func(from, to int) time.Duration { return time.Duration(from+r.IntN(to-from)) * time.Millisecond }
	for range 2 + r.IntN(6) {
		s := Step{After: ms(0, 700), Trouble: troubles[r.IntN(len(troubles))], N: r.IntN(6)}
		switch s.Trouble {
		case KillGateway, LoseGateway, KillPod, RestartRedis:
			s.For = ms(0, 800)
		case StopGateway:
			s.For = ms(200, 5000)
		case StopPod, PauseRedis:
			s.For = ms(200, 3000)
		case DrainGateway, FlushAll, FlushShard, Forget, CutWatchers:
		}
		list = append(list, s)
	}
	return possible(list)
}

// possible leaves presence pods alive that nobody else could stand in for: if Redis loses its data within 5 s after a pod died,
// before another one took over its hooks, nobody knows what their receiver was told.
func possible(list []Step) []Step {
	if !slices.ContainsFunc(list, func(s Step) bool {
		return s.Trouble == RestartRedis || s.Trouble == FlushAll || s.Trouble == FlushShard
	}) {
		return list
	}
	for i, s := range list {
		if s.Trouble == KillPod {
			list[i].Trouble = StopPod
		}
	}
	return list
}

// do does a step in the background, unless something is being done to the same server.
func (w *World) do(s Step, watchers []*watcher) {
	switch s.Trouble {
	case CutWatchers:
		w.rec.add(Event{Kind: Fault, Note: s.String()})
		for i, watcher := range watchers {
			if (i+s.N)%2 == 0 {
				watcher.cut()
			}
		}
	case PauseRedis, RestartRedis, FlushAll, FlushShard, Forget:
		if w.redis.TryLock() {
			w.async.Go(func() {
				defer w.redis.Unlock()
				defer w.fault(s)()
				w.doRedis(s)
			})
		}
	case KillPod, StopPod:
		if p := w.pods[s.N%len(w.pods)]; p.busy.TryLock() {
			w.async.Go(func() {
				defer p.busy.Unlock()
				defer w.fault(s)()
				w.doPod(p, s)
			})
		}
	case KillGateway, LoseGateway, StopGateway, DrainGateway:
		if g := w.gateways[s.N%len(w.gateways)]; g.busy.TryLock() {
			w.async.Go(func() {
				defer g.busy.Unlock()
				defer w.fault(s)()
				w.doGateway(g, s)
			})
		}
	}
}

// fault records that something is being done, and then, that it is over.
func (w *World) fault(s Step) (over func()) {
	w.rec.add(Event{Kind: Fault, Note: s.String()})
	return func() { w.rec.add(Event{Kind: Fault, Note: "over: " + s.String()}) }
}

func (w *World) doRedis(s Step) {
	switch s.Trouble {
	case PauseRedis:
		n := s.N
		if n%2 == 0 {
			n = -1 // all of them
		}
		w.cfg.Redis.pause(n, s.For)
	case RestartRedis:
		w.cfg.Redis.restart(s.N, s.For)
	case FlushAll:
		w.cfg.Redis.flush(-1)
	case FlushShard:
		w.cfg.Redis.flush(s.N)
	default:
		w.cfg.Redis.forget(s.N)
	}
}

func (w *World) doPod(p *pod, s Step) {
	running := p.process()
	if s.Trouble == StopPod {
		running.Signal(syscall.SIGSTOP)
		wait(s.For)
		running.Signal(syscall.SIGCONT)
		return
	}
	running.Kill()
	if err := running.Crashed(); err != nil {
		w.fail(err)
	}
	wait(s.For)
	w.startPod(p)
}

func (w *World) doGateway(g *gateway, s Step) {
	running := g.process()
	switch s.Trouble {
	case StopGateway:
		w.devices.hit(running.Label)
		running.Signal(syscall.SIGSTOP)
		wait(s.For)
		running.Signal(syscall.SIGCONT)
		return
	case DrainGateway:
		running.Signal(syscall.SIGTERM)
		<-running.Ended
	default:
		w.devices.hit(running.Label)
		running.Kill()
	}
	if err := running.Crashed(); err != nil {
		w.fail(err)
	}
	wait(s.For)
	w.startGateway(g, s.Trouble != KillGateway)
}
