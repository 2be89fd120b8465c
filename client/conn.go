package client

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/websocket"

	"github.com/imcluster/imcluster/api/wire"
)

const (
	// loginTimeout bounds a login whose context allows more.
	loginTimeout = 15 * time.Second
	// writeTimeout is how long the network may take for one frame.
	writeTimeout = 10 * time.Second
	// defaultHeartbeat is the time between pings when the server names none.
	defaultHeartbeat = 10 * time.Second
	// silentHeartbeats without a frame from the server mean that the connection is dead.
	silentHeartbeats = 3
	// maxFrameBytes bounds what the server may send in one frame.
	maxFrameBytes = 1 << 20
)

// Config says where to connect and as whom.
type Config struct {
	// URL of the gateway: ws://host/ws or wss://host/ws. Without a path, /ws is added.
	URL string
	// Token proves who the user is.
	Token string
	// TokenInHandshake sends the token as a bearer token of the HTTP handshake instead of in a login frame.
	TokenInHandshake bool
	// DeviceID tells the user's devices apart; a second login of the same device replaces the first. Empty means
	// "default".
	DeviceID string
	// Platform of the device, such as "ios", at most 16 characters of a–z, 0–9 and '-'. Optional.
	Platform string

	// OnMessage is called for every message, in the order in which they come, and must not be nil if messages are to
	// be acknowledged. It may call any method but must not block for long: when 10,000 messages wait for it, the
	// connection ends with [ErrOverrun].
	OnMessage func(Message)
	// ManualAck leaves it to the caller to acknowledge messages with [Conn.Ack]. Otherwise a message is acknowledged
	// when OnMessage has returned.
	ManualAck bool
	// OnReconnect is called when the server asks the client to connect again after delay, because it is going away.
	// The connection works until then. Optional: the connection ends with a [ReconnectError] in any case.
	OnReconnect func(delay time.Duration)
	// OnError is called with what the server complains about and that no method call waits for. Optional.
	OnError func(*Error)

	// Dialer; nil means websocket.DefaultDialer.
	Dialer *websocket.Dialer
	// Header is added to the HTTP handshake.
	Header http.Header
}

// Conn is a connection that is logged in. Make it with [Dial].
type Conn struct {
	cfg       Config
	ws        *websocket.Conn
	login     frame
	heartbeat time.Duration

	writeMu sync.Mutex
	out     []byte // the frame being written

	waitMu  sync.Mutex
	waiting map[waitKey][]chan frame // in the order of the requests

	endOnce sync.Once
	err     error         // why the connection ended; fixed before ended is closed
	ended   chan struct{} // the connection is of no use any more
	loops   sync.WaitGroup
	events  *queue
	done    chan struct{} // all goroutines have returned

	// moving is what the server asked for with RECONNECT; owned by the read loop.
	moving *ReconnectError
}

// waitKey is what an answer is recognised by: its type, and the id that it repeats.
type waitKey struct {
	typ wire.Type
	id  string
}

// Dial connects and logs in. The context is for that only. A refused login is an [*Error].
func Dial(ctx context.Context, cfg Config) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	ws, err := connect(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", cfg.URL, err)
	}
	ws.SetReadLimit(maxFrameBytes)
	c := &Conn{cfg: cfg, ws: ws, waiting: map[waitKey][]chan frame{}, ended: make(chan struct{}), done: make(chan struct{}), events: newQueue()}
	// The socket knows deadlines, not contexts.
	stop := context.AfterFunc(ctx, func() { _ = ws.SetReadDeadline(time.Unix(1, 0)) })
	err = c.logIn()
	if !stop() {
		err = ctx.Err()
	}
	if err != nil {
		_ = ws.Close()
		return nil, fmt.Errorf("log in at %s: %w", cfg.URL, err)
	}
	c.heartbeat = cmp.Or(time.Duration(c.login.HeartbeatSeconds)*time.Second, defaultHeartbeat)
	c.start()
	return c, nil
}

func connect(ctx context.Context, cfg Config) (*websocket.Conn, error) {
	dialer := cfg.Dialer
	if dialer == nil {
		dialer = websocket.DefaultDialer
	}
	target, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, err
	}
	if target.Path == "" || target.Path == "/" {
		target.Path = "/ws"
	}
	header := cfg.Header.Clone()
	if cfg.TokenInHandshake {
		if header == nil {
			header = http.Header{}
		}
		header.Set("Authorization", "Bearer "+cfg.Token)
		query := target.Query()
		setUnlessEmpty(query, "deviceId", cfg.DeviceID)
		setUnlessEmpty(query, "platform", cfg.Platform)
		target.RawQuery = query.Encode()
	}
	ws, resp, err := dialer.DialContext(ctx, target.String(), header)
	if err != nil && resp != nil {
		defer resp.Body.Close()
		const most = 512
		text, _ := io.ReadAll(io.LimitReader(resp.Body, most))
		return nil, fmt.Errorf("%w: HTTP %s: %s", err, resp.Status, strings.TrimSpace(string(text)))
	}
	return ws, err
}

func setUnlessEmpty(values url.Values, name, value string) {
	if value != "" {
		values.Set(name, value)
	}
}

// logIn sends the login, unless the handshake did, and reads the answer.
func (c *Conn) logIn() error {
	if !c.cfg.TokenInHandshake {
		if err := c.write(&wire.Frame{Type: wire.TypeLogin, Token: c.cfg.Token, DeviceID: c.cfg.DeviceID, Platform: c.cfg.Platform}); err != nil {
			return err
		}
	}
	fr, err := c.read()
	if err != nil {
		return closeReason(err)
	}
	if fr.Type.Type != wire.TypeLoginResp && fr.Code.OK() {
		return fmt.Errorf("the server answered with %s", fr.Type)
	}
	if !fr.Code.OK() {
		return fr.err()
	}
	c.login = fr
	return nil
}

// start runs the loops: one reads, one pings, one calls the callbacks.
func (c *Conn) start() {
	c.loops.Go(c.readLoop)
	c.loops.Go(c.pingLoop)
	go func() {
		c.events.run() // ends after the read loop has closed it
		c.loops.Wait()
		close(c.done)
	}()
}

// UserID is the id of the user who logged in.
func (c *Conn) UserID() string { return c.login.UserID }

// DeviceID is the id of the device that logged in.
func (c *Conn) DeviceID() string { return c.login.DeviceID }

// SessionID identifies this login, for people who compare logs.
func (c *Conn) SessionID() string { return c.login.SessionID }

// Message is a chat message that was received.
type Message struct {
	ID          string
	From, To    string
	ClientMsgID string
	// Time is when the server took the message.
	Time time.Time
	// Content is JSON, as the sender sent it.
	Content json.RawMessage
}

// Text returns the text of a message whose content is like [Text], and "" of any other.
func (m *Message) Text() string {
	var c textContent
	_ = json.Unmarshal(m.Content, &c) // other content is legal and has no text
	return c.Body
}

// textContent is the content of a text message.
type textContent struct {
	ContentType int    `json:"contentType"`
	Body        string `json:"body"`
}

// Text returns the content of a text message: {"contentType":1,"body":"…"}.
func Text(text string) json.RawMessage {
	content, _ := json.Marshal(textContent{ContentType: 1, Body: text})
	return content
}

// Outgoing is a chat message to send.
type Outgoing struct {
	// To is the user to send to, on all devices.
	To string
	// Content is any JSON; see [Text].
	Content json.RawMessage
	// ClientMsgID makes it possible to send the message again after an unknown outcome: the same sender, recipient and
	// ClientMsgID is the same message. Empty means a random one.
	ClientMsgID string
}

// Receipt is the server's answer to a message that it accepted.
type Receipt struct {
	MsgID, ClientMsgID string
	// Code is wire.CodeAccepted for a message that was passed on and not stored.
	Code wire.Code
	// Time is when the server took the message.
	Time time.Time
}

// Send sends a message and waits for the server's answer, which does not depend on whether the recipient is online. A
// message that was refused is an [*Error]. Any other error, an ended context among them, leaves the outcome unknown.
func (c *Conn) Send(ctx context.Context, m Outgoing) (Receipt, error) {
	id := cmp.Or(m.ClientMsgID, uuid.NewString())
	fr, err := c.call(ctx, waitKey{wire.TypeChatResp, id},
		&wire.Frame{Type: wire.TypeChat, ToID: m.To, ClientMsgID: id, Content: m.Content})
	if err != nil {
		return Receipt{}, fmt.Errorf("send to %s: %w", m.To, err)
	}
	return Receipt{MsgID: fr.MsgID, ClientMsgID: id, Code: fr.Code, Time: time.UnixMilli(fr.Time)}, nil
}

// SendText sends a text message; see [Conn.Send].
func (c *Conn) SendText(ctx context.Context, to, text string) (Receipt, error) {
	return c.Send(ctx, Outgoing{To: to, Content: Text(text)})
}

// Ack acknowledges a message and waits for the server's answer.
func (c *Conn) Ack(ctx context.Context, msgID string) error {
	if _, err := c.call(ctx, waitKey{wire.TypeAckResp, msgID}, &wire.Frame{Type: wire.TypeAck, MsgID: msgID}); err != nil {
		return fmt.Errorf("acknowledge: %w", err)
	}
	return nil
}

// Ping waits for an answer of the server and returns how long it took.
func (c *Conn) Ping(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	if _, err := c.call(ctx, waitKey{typ: wire.TypePong}, &wire.Frame{Type: wire.TypePing}); err != nil {
		return 0, fmt.Errorf("ping: %w", err)
	}
	return time.Since(start), nil
}

// Logout takes the device offline at once and ends the connection. It waits for the server to close it.
func (c *Conn) Logout(ctx context.Context) error {
	defer c.Close()
	if err := c.write(&wire.Frame{Type: wire.TypeLogout}); err != nil {
		return fmt.Errorf("log out: %w", err)
	}
	select {
	case <-c.ended:
		if websocket.IsCloseError(c.err, websocket.CloseNormalClosure) {
			return nil
		}
		return fmt.Errorf("log out: %w", c.err)
	case <-ctx.Done():
		return fmt.Errorf("log out: %w", ctx.Err())
	}
}

// Close ends the connection without logging out: the server shows the user online for a grace period. It may be called
// from callbacks, more than once, and at any time.
func (c *Conn) Close() {
	c.end(ErrClosed)
	_ = c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseGoingAway, ""), time.Now().Add(time.Second))
	_ = c.ws.Close()
	c.loops.Wait()
}

// Done is closed when the connection has ended and the last callback has returned.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err says why the connection ended: [ErrClosed], [ErrKicked], [ErrIdle], [ErrOverrun], a [*ReconnectError], an [*Error]
// with the code that the server closed with, or what the network said. It is nil while the connection works.
func (c *Conn) Err() error {
	select {
	case <-c.ended:
		return c.err
	default:
		return nil
	}
}
