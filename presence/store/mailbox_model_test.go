package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

// modelBox is a mailbox as it should be, without an idea of how it is stored: everything that was accepted, in order, and of
// each known device how much of it is behind it.
type modelBox struct {
	accepted []string
	dropped  int            // from the front, by the cap, before it was acknowledged by all
	freed    int            // from the front, in all
	read     map[string]int // known devices → how many of accepted they have acknowledged
	online   map[string]Session
	senders  []string // of accepted
}

// due is what a device gets at login.
func (b *modelBox) due(device string) []string { return b.accepted[max(b.read[device], b.freed):] }

// login makes a device known: a new one begins after what any device has acknowledged.
func (b *modelBox) login(device string) {
	if _, ok := b.read[device]; ok {
		return
	}
	begin := 0
	for _, n := range b.read {
		begin = max(begin, n)
	}
	b.read[device] = max(begin, b.freedByAll())
}

// freedByAll is where a device begins when none has acknowledged anything: with the oldest that was not freed by all.
func (b *modelBox) freedByAll() int { return b.freed - b.dropped }

// ack notes an acknowledgement, and frees what every known device has acknowledged.
func (b *modelBox) ack(device string, n int) {
	if n <= b.read[device] {
		return
	}
	b.read[device] = n
	least := slices.Min(slices.Collect(maps.Values(b.read)))
	if least > b.freed {
		b.freed, b.dropped = least, 0
	}
}

// refuses tells whether a message of a sender is refused, and drops what it takes the place of.
func (b *modelBox) refuses(sender string, most int) bool {
	if len(b.accepted)-b.freed < most {
		return false
	}
	read := 0
	for _, n := range b.read {
		read = max(read, n)
	}
	last := append(slices.Clone(b.senders[max(0, len(b.senders)-127):]), sender)
	count := 0
	for _, s := range last {
		if s == sender {
			count++
		}
	}
	if b.freed >= read && count*4 > len(last) {
		return true
	}
	b.freed++
	b.dropped++
	return false
}

// TestMailboxIsAsTheModelSays compares random appends, resends, acknowledgements, logins, logouts and deaths of gateways of a
// few devices with the model. IMC_TEST_SEED repeats a run.
func TestMailboxIsAsTheModelSays(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("IMC_TEST_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("IMC_TEST_SEED=%d", seed)
	const most = 12
	r := startRedis(t)
	g := joinGateway(t, openStore(t, Config{LeaseTTL: time.Hour, Mailbox: MailboxConfig{MaxMessages: most}}, r.Addr), "gw-1")
	rng := rand.New(rand.NewPCG(seed, 3))
	for n := range 60 {
		g.compare(fmt.Sprint("user-", n), most, rng)
		if t.Failed() {
			return
		}
	}
}

// compare runs one user through random steps.
func (g *gateway) compare(user string, most int, rng *rand.Rand) {
	t := g.t
	b := &modelBox{read: map[string]int{}, online: map[string]Session{}}
	devices := []string{"phone", "laptop", "tablet"}
	number := map[uint64]int{} // of a message → its place in accepted
	var history []string
	for step := range 150 {
		device := devices[rng.IntN(len(devices))]
		s, on := b.online[device]
		switch action := rng.IntN(10); {
		case action < 4:
			sender := fmt.Sprint("sender", rng.IntN(6))
			text := fmt.Sprint(sender, " ", step)
			history = append(history, "append "+text)
			a, err := g.tryAppend(user, letter(sender, text))
			if refused := b.refuses(sender, most); refused != errors.Is(err, ErrMailboxFull) || !refused && err != nil {
				t.Fatalf("append %q: %v, and the model says refused: %v\n%q", text, err, refused, history)
			} else if refused {
				continue
			}
			b.accepted, b.senders = append(b.accepted, text), append(b.senders, sender)
			number[a.Seq] = len(b.accepted)
			if a.Duplicate || a.Tail != a.Seq || len(a.Holders) != len(b.online) {
				t.Fatalf("appended %+v with %d online\n%q", a, len(b.online), history)
			}
		case action == 4 && len(b.accepted) > 0:
			i := max(0, len(b.accepted)-1-rng.IntN(100))
			history = append(history, "resend "+b.accepted[i])
			a, err := g.tryAppend(user, letter(b.senders[i], b.accepted[i]))
			if err != nil || !a.Duplicate {
				t.Fatalf("resend of %q: %+v, %v\n%q", b.accepted[i], a, err, history)
			}
		case action < 7 && !on:
			history = append(history, "login "+device)
			b.login(device)
			g.checkLogin(user, device, b, history)
		case action < 9 && on:
			m, err := g.member.Read(context.Background(), user, device, 0, 1000, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			if len(m.Records) == 0 {
				continue
			}
			n := rng.IntN(len(m.Records))
			seq := m.First + uint64(n)
			history = append(history, fmt.Sprint("ack ", device, " ", number[seq]))
			g.ack(s, seq)
			b.ack(device, number[seq])
		case on:
			history = append(history, "logout "+device)
			delete(b.online, device)
			g.logout(s)
			g.flush()
		}
	}
}

// checkLogin logs a device in and compares what waits with what is due.
func (g *gateway) checkLogin(user, device string, b *modelBox, history []string) {
	t := g.t
	s, login := g.signIn(user, device)
	b.online[device] = s
	due := b.due(device)
	if waits := int(login.Tail+1) - int(login.Next); waits != len(due) {
		t.Fatalf("%s: %d messages wait, and %d are due\n%q", device, waits, len(due), history)
	}
	m, err := g.member.Read(context.Background(), user, device, login.Next, 1000, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if got := textsOf(m); fmt.Sprint(got) != fmt.Sprint(due) {
		t.Fatalf("%s reads %q, and due is %q\n%q", device, got, due, history)
	}
	if missed := max(0, b.freed-b.read[device]); login.Missed != missed {
		t.Fatalf("%s missed %d, and the model says %d\n%q", device, login.Missed, missed, history)
	}
}
