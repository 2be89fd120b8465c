package chaos

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/internal/chaos/check"
	"github.com/imcluster/imcluster/internal/chaos/proc"
)

// fake is a platform in memory that keeps its promises, but for one.
type fake struct {
	broken check.Rule

	mu     sync.Mutex
	users  map[string]*fakeUser
	groups map[string]map[string]bool
	count  int // of messages stored
}

type fakeUser struct {
	box     []wire.Frame
	devices map[string]*fakeDevice
}

type fakeDevice struct {
	cursor int // how many of box are acknowledged
	acked  map[string]bool
	conn   *fakeConn
}

type fakeConn struct {
	codec        wire.Codec
	ws           *websocket.Conn
	out          chan wire.Frame // closed to close the connection with 1000
	user, device string
}

// serve serves a connection until it ends.
func (s *fake) serve(w http.ResponseWriter, r *http.Request) {
	upgrader := websocket.Upgrader{Subprotocols: []string{wire.SubprotocolProtobuf}}
	ws, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	c := &fakeConn{ws: ws, out: make(chan wire.Frame, 10000)}
	c.codec, _ = wire.CodecOf(ws.Subprotocol())
	var writer sync.WaitGroup
	writer.Go(c.write)
	for {
		_, data, err := ws.ReadMessage()
		if err != nil {
			break
		}
		f, err := c.codec.Decode(data)
		if err != nil {
			break
		}
		if s.handle(c, f); f.Type == wire.TypeLogout {
			break
		}
	}
	s.mu.Lock()
	if d := s.device(c); d != nil && d.conn == c {
		d.conn = nil
	}
	close(c.out)
	s.mu.Unlock()
	writer.Wait()
	_ = ws.Close()
}

func (c *fakeConn) write() {
	kind := websocket.TextMessage
	if c.codec.Binary() {
		kind = websocket.BinaryMessage
	}
	for f := range c.out {
		_ = c.ws.WriteMessage(kind, c.codec.Append(nil, &f))
		if f.Type == wire.TypeKicked {
			_ = c.ws.Close()
		}
	}
	_ = c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Second))
}

// user returns a user, made if there is none. The caller holds mu.
func (s *fake) user(id string) *fakeUser {
	u := s.users[id]
	if u == nil {
		u = &fakeUser{devices: map[string]*fakeDevice{}}
		s.users[id] = u
	}
	return u
}

func (s *fake) device(c *fakeConn) *fakeDevice { return s.user(c.user).devices[c.device] }

func (s *fake) handle(c *fakeConn, f wire.Frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch f.Type {
	case wire.TypeLogin:
		s.login(c, f)
	case wire.TypeChat, wire.TypeGroupChat:
		s.chat(c, f)
	case wire.TypeGroup:
		if s.groups[f.GroupID] == nil {
			s.groups[f.GroupID] = map[string]bool{c.user: true}
		}
		for _, u := range f.Users {
			s.groups[f.GroupID][u] = f.Action != wire.GroupRemove
		}
		c.out <- wire.Frame{Type: wire.TypeGroupResp, Code: wire.CodeOK, RequestID: f.RequestID}
	case wire.TypeAck:
		d, box := s.device(c), s.user(c.user).box
		d.acked[f.MsgID] = true
		for d.cursor < len(box) && d.acked[box[d.cursor].MsgID] {
			d.cursor++
		}
		c.out <- wire.Frame{Type: wire.TypeAckResp, Code: wire.CodeOK, MsgID: f.MsgID}
	}
}

func (s *fake) login(c *fakeConn, f wire.Frame) {
	c.user, c.device = f.Token, f.DeviceID
	u := s.user(c.user)
	d := u.devices[c.device]
	if d == nil {
		d = &fakeDevice{acked: map[string]bool{}}
		for _, other := range u.devices {
			d.cursor = max(d.cursor, other.cursor)
		}
		if s.broken == check.TooOld {
			d.cursor = 0
		}
		u.devices[c.device] = d
	}
	if d.conn != nil {
		d.conn.out <- wire.Frame{Type: wire.TypeKicked, Code: wire.CodeReplaced}
	}
	d.conn = c
	c.out <- wire.Frame{Type: wire.TypeLoginResp, Code: wire.CodeOK}
	from := d.cursor
	if s.broken == check.AckIgnored {
		from = 0
	}
	for _, m := range u.box[from:] {
		c.out <- m
	}
}

func (s *fake) chat(c *fakeConn, f wire.Frame) {
	to, code := f.ToID, wire.CodeOK
	members := map[string]bool{f.ToID: true}
	if f.Type == wire.TypeGroupChat {
		to, members = "\x00g"+f.GroupID, s.groups[f.GroupID]
		if !members[c.user] {
			code = wire.CodeForbidden
		}
	}
	if f.FromID != c.user {
		code = wire.CodeWrongSender
	}
	m := wire.Frame{
		Type: f.Type, MsgID: wire.MessageID(c.user, to, f.ClientMsgID), FromID: f.FromID, ToID: f.ToID, GroupID: f.GroupID, Content: f.Content,
	}
	defer func() {
		c.out <- wire.Frame{Type: f.Type.Answer(), Code: code, ClientMsgID: f.ClientMsgID, MsgID: m.MsgID}
	}()
	if !code.OK() && s.broken != check.Refused {
		return
	}
	for u, ok := range members {
		if ok && (u != c.user || f.Type == wire.TypeChat) {
			s.store(u, m)
		}
	}
}

// store appends a message to a mailbox and pushes it. Every tenth one suffers from what is broken.
func (s *fake) store(user string, m wire.Frame) {
	u := s.user(user)
	if slices.ContainsFunc(u.box, func(o wire.Frame) bool { return o.MsgID == m.MsgID }) {
		return
	}
	s.count++
	suffers, times := s.count%10 == 0, 1
	if suffers {
		switch s.broken {
		case check.Lost:
			return
		case check.Changed:
			m.Content = []byte(strings.ReplaceAll(string(m.Content), " ", ""))
		case check.Invented:
			m.Content, m.MsgID = []byte(`"nobody said that"`), wire.MessageID("", "", fmt.Sprint(s.count))
		case check.Identity:
			m.MsgID = wire.MessageID("", "", fmt.Sprint(s.count))
		case check.Marked:
			m.Redelivered = true
		case check.Miscounted:
			m.Missed = 1
		case check.Misrouted:
			s.pushTo(s.user(user[:len(user)-1]+fmt.Sprint((int(user[len(user)-1]-'0')+1)%3)), m, 1)
		case check.Repeated:
			times = 2
		case check.Late:
			times = 0
		}
	}
	u.box = append(u.box, m)
	if s.broken == check.Order && len(u.box) > 1 && suffers {
		n := len(u.box)
		u.box[n-1], u.box[n-2] = u.box[n-2], u.box[n-1]
	}
	s.pushTo(u, m, times)
}

func (s *fake) pushTo(u *fakeUser, m wire.Frame, times int) {
	for _, d := range u.devices {
		for range times {
			if d.conn != nil {
				d.conn.out <- m
			}
		}
	}
}

// fakeWorld is a world of two servers that share a fake platform.
func fakeWorld(t *testing.T, broken check.Rule) *World {
	s := &fake{broken: broken, users: map[string]*fakeUser{}, groups: map[string]map[string]bool{}}
	w := &World{cfg: WorldConfig{Delivery: time.Second}, rec: newRecorder()}
	for i := range 2 {
		server := httptest.NewServer(http.HandlerFunc(s.serve))
		t.Cleanup(server.Close)
		w.slots = append(w.slots, &slot{p: &proc.Process{Label: fmt.Sprint("fake ", i), Listen: strings.TrimPrefix(server.URL, "http://"), Ended: make(chan struct{})}})
	}
	return w
}

// TestSchedulesFindWhatIsBroken: schedules with nothing but clients find every promise that a platform breaks, and nothing
// in one that keeps them all.
func TestSchedulesFindWhatIsBroken(t *testing.T) {
	for _, rule := range []check.Rule{
		"", check.Lost, check.Late, check.Order, check.Invented, check.Refused, check.Changed, check.Misrouted, check.Identity,
		check.Repeated, check.Marked, check.AckIgnored, check.TooOld, check.Miscounted,
	} {
		t.Run(string(rule), func(t *testing.T) {
			t.Parallel()
			const tries = 10
			for seed := range uint64(tries) {
				schedule := Random(seed, Setting{Gateways: 2, Calm: true})
				r := fakeWorld(t, rule).Run(t.Context(), schedule, check.Options{AckTime: time.Second})
				found := slices.ContainsFunc(r.Violations, func(v check.Violation) bool { return v.Rule == rule })
				switch {
				case rule == "" && r.Failed():
					t.Fatalf("failed: %v %v\n%s", r.Err, r.Violations, schedule)
				case found, rule == "" && seed == 3:
					return
				}
			}
			if rule != "" {
				t.Errorf("nothing found in %d schedules", tries)
			}
		})
	}
}
