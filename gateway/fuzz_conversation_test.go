package gateway

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/internal/testredis"
)

// FuzzConversations lets a few users say anything that the protocol has, in any order, on several devices and two gateways,
// in both codecs, and now and then something that it has not. Whoever stays connected gets exactly one answer to every frame, and every
// message that was accepted for them, once or again but not out of order, and nothing that nobody sent.
func FuzzConversations(f *testing.F) {
	f.Add([]byte("\x00\x01\x10\x11\x20\x21\x30\x31\x12\x22\x32\x42\x52\x62\x72\x82\x92"))
	f.Add([]byte("\x00\x10\x20\x30\x04\x14\x24\x05\x15\x25\x05\x15\x06\x16\x07\x17\x03\x13\x23\x33\x03\x13"))
	f.Add([]byte("\x00\x40\x00\x02\x02\x02\x42\x42\x0a\x4a\x03\x43\x08\x48\x00\x40\x09\x49\x02\x0b\x4b"))
	f.Add([]byte("\x0c\x05hello\x10\x1c\x02{}\x1c\x03\x08\x50\x22\x0d\x1d\x02\x12\x0e\x1e\x2e\x01\x02\x22\x0a\x1a"))
	for seed := range uint64(20) {
		program := make([]byte, 120)
		_, _ = rand.NewChaCha8([32]byte{byte(seed)}).Read(program) // never fails
		f.Add(program)
	}
	gateways := conversationGateways(f)
	codes := documentedCodes(f)
	var round atomic.Int64
	f.Fuzz(func(t *testing.T, program []byte) {
		c := &conversation{T: t, gateways: gateways, codes: codes, round: fmt.Sprintf("%d-%d", time.Now().UnixNano(), round.Add(1)), program: program,
			messages: map[string]*message{}}
		for len(c.program) > 0 && c.steps < 100 {
			c.steps++
			c.step(c.next())
		}
		c.check()
	})
}

func conversationGateways(t testing.TB) (gateways [2]*Gateway) {
	redis := testredis.Start(t)
	for i := range gateways {
		gateways[i] = startGateway(t, newWorld(), onRedis(redis), func(c *Config) {
			c.PodName, c.PodUID = fmt.Sprintf("gateway-%d", i), fmt.Sprintf("uid-%d", i)
			c.MaxFramesPerSecond, c.MaxBytesPerSecond = -1, -1
			c.AllowBroadcast, c.AllowOnlineList = true, true
		})
	}
	return gateways
}

// seats says which gateway each talker is connected to. Two talkers are one user: first those with one device on two
// gateways, then with two devices on two gateways, one device on one gateway, and two devices on one gateway.
var seats = [8]int{0, 1, 0, 1, 0, 0, 1, 1}

// conversation is what happens in one run.
type conversation struct {
	*testing.T
	gateways [2]*Gateway
	codes    map[wire.Code]bool
	round    string // part of all names, so that rounds do not meet
	program  []byte
	steps    int
	talkers  [len(seats)]*talker // connections, even ones in JSON
	all      []*talker           // also those that are gone
	readers  sync.WaitGroup

	mu       sync.Mutex
	messages map[string]*message // by content
}

// message is one that was sent.
type message struct {
	from     *talker
	number   int // of those that from sent
	to       wire.Type
	toID     string
	accepted bool
	due      []*talker // connected when it was sent
}

// talker is one connection.
type talker struct {
	c            *conversation
	codec        wire.Codec
	ws           *websocket.Conn
	received     *recorder
	user, device string
	open         bool // logged in
	last         *wire.Frame

	// Guarded by c.mu.
	sent, answered int
	waiting        map[string]string // clientMsgId → content
	got            []string          // contents, each once
	gotIDs         []string          // msgIds of what may be acknowledged
	end            error
}

func (c *conversation) next() byte {
	if len(c.program) == 0 {
		return 0
	}
	b := c.program[0]
	c.program = c.program[1:]
	return b
}

// step does what a byte stands for: the lower half says what, the upper half who.
func (c *conversation) step(b byte) {
	who := int(b>>4) % len(c.talkers)
	t := c.talkers[who]
	if t == nil || t.ended() {
		if t = c.connect(who); b&15 < 12 {
			t.login()
		}
	}
	other := fmt.Sprintf("u%d-%s", int(b>>5+1)%4, c.round)
	group := fmt.Sprintf("g%d-%s", b>>7, c.round)
	switch b & 15 {
	case 0, 1:
		t.login()
	case 2:
		t.say(&wire.Frame{Type: wire.TypeChat, ToID: other})
	case 3:
		t.ack()
	case 4:
		action := []string{wire.GroupCreate, wire.GroupAdd, wire.GroupRemove, wire.GroupMembers, wire.GroupDelete}[c.next()%5]
		t.send(&wire.Frame{Type: wire.TypeGroup, Action: action, GroupID: group, Users: []string{other, t.user}, RequestID: "r", Limit: 1})
	case 5:
		t.say(&wire.Frame{Type: wire.TypeGroupChat, GroupID: group})
	case 6:
		t.say(&wire.Frame{Type: wire.TypeBroadcast})
	case 7:
		t.send(&wire.Frame{Type: wire.TypeOnlineList, Limit: int64(c.next()), RequestID: "r"})
	case 8:
		t.bye(func() { t.send(&wire.Frame{Type: wire.TypeLogout}) })
	case 9:
		t.bye(func() { t.ws.NetConn().Close() })
	case 10:
		t.settle()
	case 11:
		if t.last != nil {
			t.send(t.last)
		}
	case 12:
		n := min(int(c.next()), len(c.program))
		t.raw(t.kind(), c.program[:n])
		c.program = c.program[n:]
	case 13:
		t.raw(websocket.TextMessage+websocket.BinaryMessage-t.kind(), []byte("{}"))
	default:
		t.send(&wire.Frame{Type: wire.TypePing})
	}
}

func (c *conversation) connect(who int) *talker {
	codec := wire.Codec(who % 2)
	t := &talker{c: c, codec: codec, waiting: map[string]string{},
		user: fmt.Sprintf("u%d-%s", who/2, c.round), device: fmt.Sprintf("d%d", who%4/3)}
	dialer := websocket.Dialer{NetDialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		t.received = &recorder{Conn: conn}
		return t.received, err
	}}
	ws, resp, err := dialer.DialContext(c.Context(), fmt.Sprintf("ws://%s/ws", c.gateways[seats[who]].Addr()), subprotocols(codec.Subprotocol()))
	if err != nil {
		c.Fatalf("dial: %v", err)
	}
	resp.Body.Close()
	t.ws = ws
	c.talkers[who] = t
	c.all = append(c.all, t)
	c.readers.Go(t.readAll)
	return t
}

func (t *talker) kind() int {
	if t.codec.Binary() {
		return websocket.BinaryMessage
	}
	return websocket.TextMessage
}

// send sends a frame that must be answered.
func (t *talker) send(fr *wire.Frame) { t.raw(t.kind(), t.codec.Append(nil, fr)) }

func (t *talker) raw(kind int, data []byte) {
	t.c.mu.Lock()
	t.sent++
	t.c.mu.Unlock()
	_ = t.ws.WriteMessage(kind, data) // fails if the server closed
}

func (t *talker) login() {
	t.send(&wire.Frame{Type: wire.TypeLogin, Token: t.user, DeviceID: t.device})
	t.settle()
	t.open = true
}

// say sends a message with a content of its own.
func (t *talker) say(fr *wire.Frame) {
	c := t.c
	c.mu.Lock()
	number := len(c.messages) + 1
	fr.ClientMsgID = fmt.Sprint(number)
	fr.Content = fmt.Appendf(nil, `"%s %d"`, c.round, number)
	m := &message{from: t, number: number, to: fr.Type, toID: fr.ToID + fr.GroupID}
	for _, o := range c.talkers {
		if o != nil && o.open && o.end == nil && (o.user == fr.ToID || o.user != t.user && fr.GroupID == c.lastGroup()) {
			m.due = append(m.due, o)
		}
	}
	c.messages[string(fr.Content)] = m
	t.waiting[fr.ClientMsgID] = string(fr.Content)
	c.mu.Unlock()
	t.last = fr
	t.send(fr)
}

// ack acknowledges the oldest message, or one that there is not.
func (t *talker) ack() {
	id := "2bfea133-72a8-4315-82aa-80049fe4fb7b"
	t.c.mu.Lock()
	if len(t.gotIDs) > 0 {
		id, t.gotIDs = t.gotIDs[0], t.gotIDs[1:]
	}
	t.c.mu.Unlock()
	t.send(&wire.Frame{Type: wire.TypeAck, MsgID: id})
}

// bye ends the connection.
func (t *talker) bye(how func()) {
	how()
	eventually(t.c, "the connection has ended", t.ended)
}

func (t *talker) ended() bool {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	return t.end != nil
}

// settle waits until every frame is answered, or the connection has ended.
func (t *talker) settle() {
	eventually(t.c, "every frame is answered", func() bool {
		t.c.mu.Lock()
		defer t.c.mu.Unlock()
		return t.end != nil || t.answered >= t.sent
	})
}

// readAll reads until the connection ends, and then makes sure that nothing came after a close frame.
func (t *talker) readAll() {
	for {
		_ = t.ws.SetReadDeadline(time.Now().Add(2 * testTimeout))
		kind, data, err := t.ws.ReadMessage()
		t.c.mu.Lock()
		if err == nil && kind != t.kind() {
			err = fmt.Errorf("a message of kind %d", kind)
		}
		if err != nil {
			t.end = err
			t.c.mu.Unlock()
			t.ws.Close()
			if n := t.received.afterClose(); n > 0 {
				t.c.Errorf("%d bytes came after the close frame (%v)", n, err)
			}
			return
		}
		t.take(checkAnswer(t.c.T, t.codec, data, t.c.codes))
		t.c.mu.Unlock()
	}
}

// take takes a frame. The mutex is held.
func (t *talker) take(fr wire.Frame) {
	switch fr.Type {
	case wire.TypeChat, wire.TypeGroupChat, wire.TypeBroadcast:
		t.takeMessage(fr)
	case wire.TypeKicked, wire.TypeReconnect, wire.TypeHeartbeatTimeout:
	default:
		t.answered++
		if content := t.waiting[fr.ClientMsgID]; content != "" && fr.Code.OK() {
			t.c.messages[content].accepted = true
		}
		if fr.Code == wire.CodeUnavailable || fr.Code == wire.CodeStoreFull {
			t.c.Errorf("%s has no reason to answer %s", t.user, t.codec.Append(nil, &fr))
		}
	}
}

func (t *talker) takeMessage(fr wire.Frame) {
	content := strings.TrimSpace(string(fr.Content))
	m := t.c.messages[content]
	switch {
	case fr.Type == wire.TypeBroadcast && !strings.Contains(content, t.c.round):
		return // of another round, whose end it outlived
	case m == nil && t.c.said(fr):
		return
	case m == nil:
		t.c.Errorf("nobody sent what %s got: %s", t.user, content)
		return
	case m.to != fr.Type || m.from.user != fr.FromID || fr.ToID != "" && (fr.ToID != t.user || m.toID != t.user) || m.toID != fr.ToID+fr.GroupID:
		t.c.Errorf("%s got %s from %s to %s, which was sent by %s to %s", t.user, content, fr.FromID, fr.ToID+fr.GroupID, m.from.user, m.toID)
	}
	if fr.Type != wire.TypeBroadcast {
		t.gotIDs = append(t.gotIDs, fr.MsgID)
	}
	if slices.Contains(t.got, content) {
		return
	}
	for _, earlier := range t.got {
		if e := t.c.messages[earlier]; e.from == m.from && e.toID == m.toID && e.number > m.number {
			t.c.Errorf("%s got %s after %s", t.user, content, earlier)
		}
	}
	t.got = append(t.got, content)
}

// said tells whether a message may be one that the program itself wrote as bytes.
func (c *conversation) said(fr wire.Frame) bool {
	return !strings.Contains(string(fr.Content), c.round)
}

// lastGroup is that of everybody who is still there at the end.
func (c *conversation) lastGroup() string { return "end-" + c.round }

// sayToAll lets somebody say a last thing to all others, whatever happened before.
func (c *conversation) sayToAll() {
	var there []*talker
	var users []string
	for _, t := range c.talkers {
		if t == nil {
			continue
		}
		if t.settle(); t.open && !t.ended() {
			there, users = append(there, t), append(users, t.user)
		}
	}
	if len(there) == 0 {
		return
	}
	speaker := there[0]
	speaker.send(&wire.Frame{Type: wire.TypeGroup, Action: wire.GroupCreate, GroupID: c.lastGroup(), Users: users})
	speaker.settle()
	speaker.say(&wire.Frame{Type: wire.TypeGroupChat, GroupID: c.lastGroup()})
	speaker.settle()
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.messages[string(speaker.last.Content)]; !m.accepted && speaker.end == nil {
		c.Errorf("the last message of %s was not accepted", speaker.user)
	}
}

// check waits for what must come, and makes sure that nothing else does and that nothing is left.
func (c *conversation) check() {
	c.sayToAll()
	c.mu.Lock()
	messages := c.messages
	c.mu.Unlock()
	for content, m := range messages {
		for _, t := range m.due {
			eventually(c, fmt.Sprintf("%s has got %s", t.user, content), func() bool {
				c.mu.Lock()
				defer c.mu.Unlock()
				return t.end != nil || !m.accepted || slices.Contains(t.got, content)
			})
		}
	}
	for _, t := range c.talkers {
		if t == nil || t.ended() {
			continue
		}
		if t.open {
			t.send(&wire.Frame{Type: wire.TypePing}) // whatever is too much comes before its answer
			t.settle()
		}
		t.bye(func() { t.ws.NetConn().Close() })
	}
	c.readers.Wait()
	for _, t := range c.all {
		if t.answered > t.sent {
			c.Errorf("%s sent %d frames and got %d answers", t.user, t.sent, t.answered)
		}
	}
	for _, g := range c.gateways {
		expectNothingLeft(c, g)
	}
}

// recorder keeps what is read.
type recorder struct {
	net.Conn
	data []byte // owned by who reads
}

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.data = append(r.data, p[:n]...)
	return n, err
}

// afterClose is how many bytes came after a close frame.
func (r *recorder) afterClose() int {
	_, frames, _ := bytes.Cut(r.data, []byte("\r\n\r\n")) // after the handshake
	for len(frames) >= 2 {
		head, size := 2, int(frames[1]&0x7f) // RFC 6455 §5.2; servers do not mask
		switch {
		case size == 126 && len(frames) >= 4:
			head, size = 4, int(binary.BigEndian.Uint16(frames[2:]))
		case size == 127 && len(frames) >= 10:
			head, size = 10, int(binary.BigEndian.Uint64(frames[2:]))
		}
		if len(frames) < head+size {
			return 0 // cut off
		}
		opcode := frames[0] & 0x0f
		if frames = frames[head+size:]; opcode == websocket.CloseMessage {
			return len(frames)
		}
	}
	return 0
}

func TestRecorderSeesWhatComesAfterAClose(t *testing.T) {
	const text, closing = "\x81\x02hi", "\x88\x02\x03\xe8"
	long := "\x82\x7e\x01\x00" + strings.Repeat("x", 256)
	for _, tc := range []struct {
		frames string
		want   int
	}{{text + long + closing, 0}, {text, 0}, {long[:9], 0}, {"", 0}, {closing + text, len(text)}, {text + closing + long, len(long)}} {
		r := recorder{data: []byte("HTTP/1.1 101\r\n\r\n" + tc.frames)}
		if got := r.afterClose(); got != tc.want {
			t.Errorf("%d bytes after the close frame of %q, want %d", got, tc.frames, tc.want)
		}
	}
}
