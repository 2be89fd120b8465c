package chaos

import (
	"math/rand/v2"
	"time"
)

// Setting is what random schedules may use.
type Setting struct {
	Gateways int
	// Cluster says that Redis is a Redis Cluster with replicas: its nodes fail over, they do not come back with their data.
	Cluster bool
	// Calm says that nothing happens but what clients do.
	Calm bool
	// Flood has users send more than a mailbox holds.
	Flood bool
}

// weighted is a verb with how often it is chosen.
type weighted struct {
	verb   Verb
	weight int
}

// chats is what clients do in every schedule.
var chats = []weighted{
	{Login, 14}, {SendTo, 26}, {SendGroup, 7}, {Resend, 6}, {Forge, 1}, {Outsider, 1}, {Join, 1}, {Part, 1},
	{AckAll, 5}, {AckLate, 3}, {AckSome, 3}, {AckNone, 2},
	{Logout, 2}, {Close, 3}, {Cut, 4}, {Blackhole, 2}, {Mute, 2}, {Thaw, 2},
}

// moods are what else happens. A schedule has one of them, so that each kind of trouble is also seen alone.
var moods = [][]weighted{
	nil,
	{{KillGateway, 5}, {LoseGateway, 2}},
	{{StopGateway, 6}},
	{{DrainGateway, 5}},
	{{PauseRedis, 4}},
	{{KillRedis, 3}},
	{{KillGateway, 3}, {LoseGateway, 1}, {StopGateway, 3}, {DrainGateway, 2}, {PauseRedis, 2}, {KillRedis, 2}, {ForgetRedis, 1}},
}

var clusterMoods = [][]weighted{
	{{FailOver, 2}},
	{{FailOver, 2}, {KillGateway, 2}, {StopGateway, 2}, {DrainGateway, 1}, {ForgetRedis, 1}},
}

// Random makes the schedule of a seed: 20 to 60 steps in about a second.
func Random(seed uint64, set Setting) Schedule {
	rng := rand.New(rand.NewPCG(seed, 0))
	s := Schedule{Seed: seed, Users: 3 + rng.IntN(3)}
	table := moods[rng.IntN(len(moods))]
	switch {
	case set.Calm:
		table = nil
	case set.Cluster:
		table = clusterMoods[rng.IntN(len(clusterMoods))]
	}
	verbs := append(append([]weighted{}, chats...), table...)
	for u := range s.Users { // most are there from the start
		if rng.IntN(4) > 0 {
			s.Steps = append(s.Steps, Step{Verb: Login, Dev: Device{User: u}, Gateway: rng.IntN(set.Gateways)})
		}
	}
	d := &drawing{rng: rng, set: set, users: s.Users, online: map[Device]bool{}}
	for _, step := range s.Steps {
		d.note(step)
	}
	for range 20 + rng.IntN(40) {
		step := d.step(pick(rng, verbs))
		if step.Verb == FailOver && d.failedOver { // one replica takes over, once
			continue
		}
		d.note(step)
		s.Steps = append(s.Steps, step)
	}
	return s
}

// drawing is a schedule while it is drawn.
type drawing struct {
	rng        *rand.Rand
	set        Setting
	users      int
	online     map[Device]bool // by the steps so far, if nothing else happens
	failedOver bool
}

func (d *drawing) note(s Step) {
	switch s.Verb {
	case Login:
		d.online[s.Dev] = true
	case Logout, Close, Cut, Blackhole:
		delete(d.online, s.Dev)
	case FailOver:
		d.failedOver = true
	}
}

// device picks one of those that are online, mostly, or any one.
func (d *drawing) device() Device {
	var list []Device
	for u := range d.users {
		for n := range devicesOfUser {
			if dev := (Device{u, n}); d.online[dev] {
				list = append(list, dev)
			}
		}
	}
	if len(list) == 0 || d.rng.IntN(8) == 0 {
		return d.anyDevice()
	}
	return list[d.rng.IntN(len(list))]
}

const devicesOfUser = 3

// anyDevice picks a device, the first one of a user more often.
func (d *drawing) anyDevice() Device {
	dev := Device{User: d.rng.IntN(d.users)}
	if d.rng.IntN(2) == 0 {
		dev.Device = 1 + d.rng.IntN(devicesOfUser-1)
	}
	return dev
}

func pick(rng *rand.Rand, verbs []weighted) Verb {
	sum := 0
	for _, v := range verbs {
		sum += v.weight
	}
	n := rng.IntN(sum)
	for _, v := range verbs {
		if n -= v.weight; n < 0 {
			return v.verb
		}
	}
	return verbs[0].verb
}

func (d *drawing) step(v Verb) Step {
	rng, set := d.rng, d.set
	s := Step{
		Verb: v, After: time.Duration(rng.IntN(50)) * time.Millisecond,
		Dev: d.device(), To: rng.IntN(d.users), Gateway: rng.IntN(set.Gateways), N: 1,
	}
	switch v {
	case Login:
		s.Dev = d.anyDevice()
	case Join:
		s.Dev.User = 0
	}
	if s.To == s.Dev.User {
		s.To = (s.To + 1) % d.users
	}
	switch v {
	case SendTo, SendGroup, Resend:
		s.N = 1 + rng.IntN(4)
		if set.Flood {
			s.N = 1 + rng.IntN(12)
		}
	case AckLate:
		s.For = time.Duration(20+rng.IntN(400)) * time.Millisecond
	case KillGateway, LoseGateway, KillRedis:
		s.For = time.Duration(rng.IntN(400)) * time.Millisecond
	case StopGateway, PauseRedis:
		s.For = time.Duration(50+rng.IntN(800)) * time.Millisecond
		if rng.IntN(8) == 0 { // longer than the lease
			s.For = 2500 * time.Millisecond
		}
	case FailOver:
		s.N = rng.IntN(3)
	}
	return s
}
