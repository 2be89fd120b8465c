package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/imcluster/imcluster/api/wire"
	"github.com/imcluster/imcluster/internal/chaos/check"
)

// frame is what a client knows of the protocol. Content stays as it came.
type frame struct {
	Type        string          `json:"type"`
	Code        int             `json:"code,omitempty"`
	Token       string          `json:"token,omitempty"`
	FromID      string          `json:"fromId,omitempty"`
	ToID        string          `json:"toId,omitempty"`
	DeviceID    string          `json:"deviceId,omitempty"`
	MsgID       string          `json:"msgId,omitempty"`
	ClientMsgID string          `json:"clientMsgId,omitempty"`
	GroupID     string          `json:"groupId,omitempty"`
	RequestID   string          `json:"requestId,omitempty"`
	Action      string          `json:"action,omitempty"`
	Users       []string        `json:"users,omitempty"`
	Missed      int             `json:"missed,omitempty"`
	DelayMS     int             `json:"delayMs,omitempty"`
	Redelivered bool            `json:"redelivered,omitempty"`
	Content     json.RawMessage `json:"-"`
}

// Frame types.
const (
	tLogin, tLoginResp, tLogout, tReconnect = "10", "11", "12", "31"
	tChat, tChatResp                        = "80", "81"
	tGroupChat, tGroupChatResp              = "82", "83"
	tGroup, tGroupResp                      = "84", "85"
	tAck, tAckResp                          = "90", "91"
)

// encode puts the content in byte for byte, which package json would compact.
func (f *frame) encode() []byte {
	b, _ := json.Marshal(f) // strings and numbers
	if f.Content == nil {
		return b
	}
	return append(append(append(b[:len(b)-1], `,"content":`...), f.Content...), '}')
}

func decode(data []byte) (*frame, error) {
	var f struct {
		frame
		Content json.RawMessage `json:"content"`
	}
	err := json.Unmarshal(data, &f)
	f.frame.Content = f.Content
	return &f.frame, err
}

// acking is how a client acknowledges what it receives.
type acking struct {
	verb  Verb // AckAll, AckLate, AckSome, AckNone
	delay time.Duration
}

// client is one connection of a device. It is closed when its reader has ended.
type client struct {
	// Fixed after connect.
	id           int
	gateway      string
	user, device string
	rec          *recorder
	link         *link
	ws           *websocket.Conn
	binary       bool        // speaks protobuf
	out          chan []byte // nil asks for a clean close
	down         chan struct{}

	mu       sync.Mutex
	onFrame  func(*client, *frame) // guarded by mu
	loggedIn bool                  // guarded by mu
	refused  bool                  // guarded by mu
	leaving  bool                  // guarded by mu
	acking   acking                // guarded by mu
	unacked  map[string]bool       // received, and not answered by 91; true: 90 is sent; guarded by mu
}

// connect dials a gateway and asks for a login.
func connect(ctx context.Context, rec *recorder, addr, gateway, user, device string, a acking, onFrame func(*client, *frame)) (*client, error) {
	c := &client{
		id: rec.conn(), gateway: gateway, user: user, device: device, rec: rec, acking: a, onFrame: onFrame,
		out: make(chan []byte, 4096), down: make(chan struct{}), unacked: map[string]bool{},
	}
	dialer := websocket.Dialer{
		HandshakeTimeout: dialTimeout,
		NetDialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			tcp, ok := conn.(*net.TCPConn)
			if !ok {
				return nil, fmt.Errorf("dialled a %T", conn)
			}
			c.link = newLink(tcp)
			return c.link, nil
		},
	}
	if c.binary = c.id%3 == 0; c.binary {
		dialer.Subprotocols = []string{wire.SubprotocolProtobuf}
	}
	c.event(check.LoginSent, nil)
	ws, resp, err := dialer.DialContext(ctx, "ws://"+addr+"/ws", nil)
	if err != nil {
		return nil, err
	}
	_ = resp.Body.Close()
	c.ws = ws
	go c.write()
	go c.read()
	c.send(&frame{Type: tLogin, Token: user, DeviceID: device})
	return c, nil
}

// dialTimeout is how long a gateway may take to answer a handshake; one that is stopped never does.
const dialTimeout = 2 * time.Second

func (c *client) event(k check.Kind, change func(*check.Event)) {
	e := check.Event{Kind: k, Conn: c.id, Gateway: c.gateway, User: c.user, Device: c.device}
	if change != nil {
		change(&e)
	}
	c.rec.add(e)
}

// send queues a frame. What does not fit is lost, as by a client that gives up.
func (c *client) send(f *frame) {
	data := f.encode()
	if c.binary {
		data = protobuf(f)
	}
	select {
	case c.out <- data:
	default:
	}
}

func (c *client) write() {
	kind := websocket.TextMessage
	if c.binary {
		kind = websocket.BinaryMessage
	}
	for {
		select {
		case <-c.down:
			return
		case b := <-c.out:
			var err error
			if b == nil {
				err = c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Minute))
			} else {
				err = c.ws.WriteMessage(kind, b)
			}
			if err != nil { // the reader finds out why
				return
			}
		}
	}
}

func (c *client) read() {
	defer close(c.down)
	defer c.link.Close()
	for {
		_, data, err := c.ws.ReadMessage()
		if err != nil {
			c.closed(err)
			return
		}
		parse := decode
		if c.binary {
			parse = fromProtobuf
		}
		f, err := parse(data)
		if err != nil {
			c.event(check.Delivered, func(e *check.Event) { e.Content = string(data) }) // which nobody sent
			continue
		}
		c.receive(f)
	}
}

func (c *client) closed(err error) {
	code := 0
	if closed := (*websocket.CloseError)(nil); errors.As(err, &closed) {
		code = closed.Code
	}
	c.mu.Lock()
	clean := c.leaving && code == websocket.CloseNormalClosure
	c.mu.Unlock()
	c.event(check.Closed, func(e *check.Event) { e.Code, e.Clean = code, clean })
}

func (c *client) receive(f *frame) {
	switch f.Type {
	case tLoginResp:
		c.mu.Lock()
		c.loggedIn, c.refused = f.Code == 200, f.Code != 200
		c.mu.Unlock()
		if f.Code == 200 {
			c.event(check.LoginOK, nil)
		}
	case tChatResp, tGroupChatResp:
		c.event(check.Answered, func(e *check.Event) { e.Message, e.MsgID, e.Code = f.ClientMsgID, f.MsgID, f.Code })
	case tChat, tGroupChat:
		c.event(check.Delivered, func(e *check.Event) {
			e.MsgID, e.From, e.To, e.Group, e.Content = f.MsgID, f.FromID, f.ToID, f.GroupID, string(f.Content)
			e.Redelivered, e.Missed = f.Redelivered, f.Missed
		})
		c.received(f.MsgID)
	case tAckResp:
		c.event(check.Acked, func(e *check.Event) { e.MsgID, e.Code = f.MsgID, f.Code })
		c.mu.Lock()
		delete(c.unacked, f.MsgID)
		c.mu.Unlock()
	}
	c.mu.Lock()
	onFrame := c.onFrame
	c.mu.Unlock()
	onFrame(c, f)
}

// setOnFrame replaces what is done with frames, on the reader's goroutine.
func (c *client) setOnFrame(f func(*client, *frame)) {
	c.mu.Lock()
	c.onFrame = f
	c.mu.Unlock()
}

// received acknowledges a message as the device does at present.
func (c *client) received(id string) {
	c.mu.Lock()
	a := c.acking
	if _, ok := c.unacked[id]; !ok {
		c.unacked[id] = false
	}
	c.mu.Unlock()
	switch {
	case a.verb == AckAll, a.verb == AckSome && id[len(id)-1]%2 == 0:
		c.ack(id)
	case a.verb == AckLate:
		time.AfterFunc(a.delay, func() { c.ack(id) })
	}
}

func (c *client) ack(id string) {
	c.mu.Lock()
	c.unacked[id] = true
	c.mu.Unlock()
	c.event(check.AckSent, func(e *check.Event) { e.MsgID = id })
	c.send(&frame{Type: tAck, MsgID: id})
}

// setAcking changes how the client acknowledges. AckAll also acknowledges what has been left.
func (c *client) setAcking(a acking) {
	c.mu.Lock()
	c.acking = a
	var left []string
	for id, sent := range c.unacked {
		if a.verb == AckAll && !sent {
			left = append(left, id)
		}
	}
	c.mu.Unlock()
	for _, id := range left {
		c.ack(id)
	}
}

// settled tells whether everything received was acknowledged and answered.
func (c *client) settled() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.unacked) == 0
}

// online tells whether the client is logged in and has not begun to leave.
func (c *client) online() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.loggedIn && !c.leaving && c.open()
}

// pending tells whether the login is neither answered nor impossible.
func (c *client) pending() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.loggedIn && !c.refused && c.open()
}

func (c *client) open() bool {
	select {
	case <-c.down:
		return false
	default:
		return true
	}
}

// leave asks for a clean end: by a frame, or by closing the WebSocket.
func (c *client) leave(logout bool) {
	c.mu.Lock()
	c.leaving = true
	c.mu.Unlock()
	if logout {
		c.send(&frame{Type: tLogout})
		return
	}
	select {
	case c.out <- nil:
	default:
	}
}

// cut resets the connection, and waits until the reader has noticed.
func (c *client) cut() {
	_ = c.link.Close()
	<-c.down
}
