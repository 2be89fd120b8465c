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

	"github.com/imcluster/imcluster/internal/testredis"
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

	old   int             // so many of accepted are older than the retention, and not in the ring any more
	stale map[string]bool // devices that were not seen for as long; the next message forgets them
}

// due is what a device gets at login.
func (b *modelBox) due(device string) []string { return b.accepted[max(b.read[device], b.freed):] }

// login makes a device known: a new one begins after what any device has acknowledged.
func (b *modelBox) login(device string) {
	delete(b.stale, device)
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

// append makes room for a message of a sender and adds it, or tells that it is refused.
func (b *modelBox) append(sender, text string, most int) (refused bool) {
	for device := range b.stale {
		delete(b.read, device)
	}
	clear(b.stale)
	if gone := b.old - b.freed; gone > 0 {
		b.freed += gone
		b.dropped += gone
	}
	if b.refuses(sender, most) {
		return true
	}
	b.accepted, b.senders = append(b.accepted, text), append(b.senders, sender)
	return false
}

// grow lets more days pass than anything is kept. A user without sessions is forgotten then.
func (b *modelBox) grow() {
	b.old = len(b.accepted)
	if len(b.online) == 0 {
		b.read, b.stale, b.freed, b.dropped = map[string]int{}, map[string]bool{}, b.old, 0
		return
	}
	for device := range b.read {
		if _, on := b.online[device]; !on {
			b.stale[device] = true
		}
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
	last := append(slices.Clone(b.senders[max(b.old, len(b.senders)-127):]), sender)
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

// TestMailboxIsAsTheModelSays compares random appends, resends, acknowledgements, logins, logouts, deaths of the gateway and days
// of a few devices with the model. IMC_TEST_SEED repeats a run.
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
		g.compare(r, fmt.Sprint("user-", n), most, rng)
		if t.Failed() {
			return
		}
	}
}

// comparison is one user on a gateway and in the model.
type comparison struct {
	*gateway
	redis   *testredis.Server
	user    string
	most    int
	model   *modelBox
	number  map[uint64]int // of a message → its place in accepted
	history []string
}

// compare runs one user through random steps.
func (g *gateway) compare(r *testredis.Server, user string, most int, rng *rand.Rand) {
	c := &comparison{gateway: g, redis: r, user: user, most: most, number: map[uint64]int{},
		model: &modelBox{read: map[string]int{}, online: map[string]Session{}, stale: map[string]bool{}}}
	devices := []string{"phone", "laptop", "tablet"}
	nextDay := false
	for step := range 150 {
		device := devices[rng.IntN(len(devices))]
		s, on := c.model.online[device]
		switch action := rng.IntN(100); {
		case action < 40:
			sender := fmt.Sprint("sender", rng.IntN(6))
			c.append(sender, fmt.Sprint(sender, " ", step))
		case action < 50:
			c.resend(rng)
		case action < 54:
			c.die()
		case action < 57 && !nextDay: // once: with the second the ring may end
			nextDay = true
			c.age(1)
		case action < 59:
			nextDay = false
			c.model.grow()
			c.age(10)
		case action < 75 && !on:
			c.note("login " + device)
			c.model.login(device)
			c.login(device)
		case action < 90 && on:
			c.ack(s, rng)
		case on:
			c.note("logout " + device)
			delete(c.model.online, device)
			g.logout(s)
			g.flush()
		}
	}
}

func (c *comparison) note(what string) { c.history = append(c.history, what) }

func (c *comparison) append(sender, text string) {
	c.note("append " + text)
	a, err := c.tryAppend(c.user, letter(sender, text))
	if refused := c.model.append(sender, text, c.most); refused != errors.Is(err, ErrMailboxFull) || !refused && err != nil {
		c.t.Fatalf("append %q: %v, and the model says refused: %v\n%q", text, err, refused, c.history)
	} else if refused {
		return
	}
	c.number[a.Seq] = len(c.model.accepted)
	if a.Duplicate || a.Tail != a.Seq || len(a.Holders) != len(c.model.online) {
		c.t.Fatalf("appended %+v with %d online\n%q", a, len(c.model.online), c.history)
	}
}

// resend appends one of the last 100 messages again, unless that was too many days ago.
func (c *comparison) resend(rng *rand.Rand) {
	i := len(c.model.accepted) - 1 - rng.IntN(100)
	if i < c.model.old {
		return
	}
	text := c.model.accepted[i]
	c.note("resend " + text)
	a, err := c.tryAppend(c.user, letter(c.model.senders[i], text))
	if err != nil || !a.Duplicate {
		c.t.Fatalf("resend of %q: %+v, %v\n%q", text, a, err, c.history)
	}
}

func (c *comparison) ack(s Session, rng *rand.Rand) {
	m, err := c.member.Read(context.Background(), c.user, s.Device, 0, 1000, 1<<20)
	if err != nil {
		c.t.Fatal(err)
	}
	if len(m.Records) == 0 {
		return
	}
	seq := m.First + uint64(rng.IntN(len(m.Records)))
	c.note(fmt.Sprint("ack ", s.Device, " ", c.number[seq]))
	c.gateway.ack(s, seq)
	c.model.ack(s.Device, c.number[seq])
}

// die takes the user's sessions as the reaper does those of a gateway that died.
func (c *comparison) die() {
	c.note("death")
	bury(c.t, c.store, c.member.Epoch(), time.Now())
	for device, s := range c.model.online {
		delete(c.model.online, device)
		delete(c.sessions, s.Conn)
	}
}

// ageScript makes everything that is kept of a user so many days older.
const ageScript = `
local days = tonumber(ARGV[1])
local function older(record)
  local a, b, c, d = string.byte(record, 17, 20)
  local t = ((a * 256 + b) * 256 + c) * 256 + d - days * 86400
  local bytes = {}
  for i = 4, 1, -1 do bytes[i] = t % 256; t = math.floor(t / 256) end
  return string.sub(record, 1, 16) .. string.char(unpack(bytes)) .. string.sub(record, 21)
end
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  local kind, value = string.sub(fields[i], 1, 1), fields[i + 1]
  if kind == 'd' then
    value = string.gsub(value, '%d+$', function(day) return tonumber(day) - days end)
  elseif kind == 'x' then
    value = string.gsub(value, '^%d+', function(day) return tonumber(day) - days end)
  end
  redis.call('HSET', KEYS[1], fields[i], value)
end
if redis.call('TYPE', KEYS[2]).ok == 'list' then
  for i, record in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do redis.call('LSET', KEYS[2], i - 1, older(record)) end
else
  local packed = redis.call('GET', KEYS[2])
  if packed then
    local at, out = string.find(packed, ' ') + 1
    out = string.sub(packed, 1, at - 1)
    while at < #packed do
      local high, low = string.byte(packed, at, at + 1)
      local last = at + 3 + high * 256 + low
      out = out .. string.sub(packed, at, at + 3) .. older(string.sub(packed, at + 4, last))
      at = last + 1
    end
    redis.call('SET', KEYS[2], out, 'KEEPTTL')
  end
end
local seen = redis.call('HGET', KEYS[4], ARGV[2])
if seen then
  local a, b, c = string.byte(seen, 1, 3)
  local t = (a * 65536 + b * 256 + c - days * 86400) % 16777216
  redis.call('HSET', KEYS[4], ARGV[2], string.char(math.floor(t / 65536), math.floor(t / 256) % 256, t % 256) .. string.sub(seen, 4))
end
for i = 1, 3 do
  local ends = redis.call('PEXPIRETIME', KEYS[i])
  if ends > 0 then redis.call('PEXPIREAT', KEYS[i], string.format('%.0f', ends - days * 86400000)) end
end`

func (c *comparison) age(days int) {
	c.note(fmt.Sprint(days, " days"))
	k, p := c.store.keys, Partition(c.user)
	c.redis.MustDo("EVAL", ageScript, "4", k.userKey(p, c.user), k.mailKey(p, c.user), k.ringKey(p, c.user),
		k.seenKey(p, 0), strconv.Itoa(days), seenField(c.user))
}

// login logs a device in and compares what waits with what is due.
func (c *comparison) login(device string) {
	t, b := c.t, c.model
	s, login := c.signIn(c.user, device)
	b.online[device] = s
	due := b.due(device)
	if waits := int(login.Tail+1) - int(login.Next); waits != len(due) {
		t.Fatalf("%s: %d messages wait, and %d are due\n%q", device, waits, len(due), c.history)
	}
	m, err := c.member.Read(context.Background(), c.user, device, login.Next, 1000, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	old := max(0, len(due)-(len(b.accepted)-b.old)) // passed over
	if got := textsOf(m); fmt.Sprint(got) != fmt.Sprint(due[old:]) || m.Missed != old {
		t.Fatalf("%s reads %q and missed %d, and due is %q without the first %d\n%q", device, got, m.Missed, due, old, c.history)
	}
	if missed := max(0, b.freed-b.read[device]); login.Missed != missed {
		t.Fatalf("%s missed %d, and the model says %d\n%q", device, login.Missed, missed, c.history)
	}
}
