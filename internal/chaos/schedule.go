package chaos

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Verb is what a step does.
type Verb string

// Verbs. A step names what it needs of: dev (user.device), to (user), n (how many, or which), gw (gateway), for (how long).
const (
	Login     Verb = "login"     // dev, gw: a new connection; what the device had before is left to the server
	SendTo    Verb = "send"      // dev, to, n: n messages at once
	SendGroup Verb = "group"     // dev, n: n messages at once to everybody's group
	Resend    Verb = "resend"    // dev, n: the last n messages of the user, once more
	Forge     Verb = "forge"     // dev, to: a message in somebody else's name
	Outsider  Verb = "outsider"  // dev: a message to a group that the user is not in
	Join      Verb = "join"      // dev, to: the owner of the group, user 0, adds a user
	Part      Verb = "part"      // dev: the user leaves the group
	AckAll    Verb = "ack"       // dev: acknowledge everything received, and from now on at once
	AckLate   Verb = "ack-late"  // dev, for: from now on that late
	AckSome   Verb = "ack-some"  // dev: from now on one of two
	AckNone   Verb = "ack-none"  // dev: from now on nothing
	Logout    Verb = "logout"    // dev
	Close     Verb = "close"     // dev: a clean close
	Cut       Verb = "cut"       // dev: a TCP reset
	Blackhole Verb = "blackhole" // dev: the connection stays open, and nothing passes
	Mute      Verb = "mute"      // dev: nothing is read any more; what the client sends passes
	Thaw      Verb = "thaw"      // dev: everything that is held on its connections passes

	KillGateway  Verb = "kill"  // gw, for: SIGKILL, and another process of the same pod after a while
	LoseGateway  Verb = "lose"  // gw, for: SIGKILL, and another pod after a while
	StopGateway  Verb = "stop"  // gw, for: SIGSTOP, SIGCONT
	DrainGateway Verb = "drain" // gw: SIGTERM, and another pod when it ended

	PauseRedis  Verb = "redis-pause"  // for: SIGSTOP, SIGCONT
	KillRedis   Verb = "redis-kill"   // for: SIGKILL, and a new start
	ForgetRedis Verb = "redis-forget" // drop all connections and scripts
	FailOver    Verb = "redis-over"   // n: kill a primary for good, and start it again once its replica has taken over
)

// Device is a device of a user, both by number.
type Device struct{ User, Device int }

// Step is one thing that happens.
type Step struct {
	// After is how long after the step before it.
	After   time.Duration
	Verb    Verb
	Dev     Device
	To, N   int
	Gateway int
	For     time.Duration
}

// String returns the step as one line, which [ParseStep] reads.
func (s Step) String() string {
	return fmt.Sprintf("%dms %s dev=%d.%d to=%d n=%d gw=%d for=%dms",
		s.After.Milliseconds(), s.Verb, s.Dev.User, s.Dev.Device, s.To, s.N, s.Gateway, s.For.Milliseconds())
}

// ParseStep reads what [Step.String] writes.
func ParseStep(line string) (Step, error) {
	var s Step
	var after, long int64
	_, err := fmt.Sscanf(line, "%dms %s dev=%d.%d to=%d n=%d gw=%d for=%dms",
		&after, &s.Verb, &s.Dev.User, &s.Dev.Device, &s.To, &s.N, &s.Gateway, &long)
	if err != nil {
		return s, fmt.Errorf("%q is not a step: %w", line, err)
	}
	s.After, s.For = time.Duration(after)*time.Millisecond, time.Duration(long)*time.Millisecond
	return s, nil
}

// Schedule is what happens to users and servers, in order.
type Schedule struct {
	Seed uint64
	// Users are in one group, which the first one owns. The last one is not in it.
	Users int
	Steps []Step
}

// String returns the schedule as lines, which [ParseSchedule] reads.
func (s Schedule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed=%d users=%d\n", s.Seed, s.Users)
	for _, step := range s.Steps {
		b.WriteString(step.String() + "\n")
	}
	return b.String()
}

// ParseSchedule reads what [Schedule.String] writes.
func ParseSchedule(text string) (Schedule, error) {
	var s Schedule
	head, rest, _ := strings.Cut(strings.TrimSpace(text), "\n")
	for f := range strings.FieldsSeq(head) {
		name, value, _ := strings.Cut(f, "=")
		n, err := strconv.ParseUint(value, 10, 64)
		switch {
		case err != nil:
			return s, fmt.Errorf("%q is not the head of a schedule: %w", head, err)
		case name == "seed":
			s.Seed = n
		case name == "users":
			s.Users = int(n)
		}
	}
	for line := range strings.Lines(rest) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		step, err := ParseStep(line)
		if err != nil {
			return s, err
		}
		s.Steps = append(s.Steps, step)
	}
	return s, nil
}
