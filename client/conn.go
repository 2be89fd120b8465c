package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/imcluster/imcluster/api/wire"
)

const (
	// loginTimeout is how long connecting may take, and then each answer to a login.
	loginTimeout = 15 * time.Second
	// writeTimeout is how long the network may take for one frame.
	writeTimeout = 10 * time.Second
	// closeTimeout is how long it may take for a close frame.
	closeTimeout = time.Second
	// defaultHeartbeat is the time between pings when the server names none.
	defaultHeartbeat = 10 * time.Second
	// maxFrameBytes bounds what the server may send in one frame: a message of 1 MiB, the most that servers can be set to
	// take, or a long list.
	maxFrameBytes = 4 << 20
)

// conn is one connection that is logged in.
type conn struct {
	// Fixed after construction.
	c         *Client
	ws        *websocket.Conn
	url       string
	codec     wire.Codec
	login     wire.Frame // the answer
	heartbeat time.Duration
	since     time.Time

	encoded []byte      // the frame being written; owned by the pump
	moving  *MoveError  // what the server asked for; owned by the read loop
	leaving atomic.Bool // LOGOUT was sent
	broken  atomic.Pointer[writeFailure]

	wake    chan struct{}   // the pump should look at the outbox
	direct  chan wire.Frame // for the pump to send past the outbox
	renewed chan wire.Frame // the answer to another login
	listed  chan wire.Frame // the answer to a change of subscriptions
	move    chan *MoveError // the server asks the client to move

	endOnce sync.Once
	err     error         // why the connection ended; fixed before ended is closed
	ended   chan struct{} // the connection is of no use any more
	loops   sync.WaitGroup

	// Guarded by the outbox.
	inflight   map[waitKey][]*request // in the order in which they were sent
	unanswered [numLanes]int
	bytes      int // of the contents that are unanswered
}

// dial connects and logs in. A login that is refused because the store is not available is tried again on the same
// connection if patient is set. The context bounds it all; a refusal is an *Error.
func (c *Client) dial(ctx context.Context, target, token string, patient bool) (*conn, error) {
	dialing, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	ws, err := c.handshake(dialing, target, token)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", target, err)
	}
	ws.SetReadLimit(maxFrameBytes)
	n := &conn{
		c: c, ws: ws, url: target, wake: make(chan struct{}, 1), direct: make(chan wire.Frame), renewed: make(chan wire.Frame, 1),
		listed: make(chan wire.Frame, 8),
		move:   make(chan *MoveError, 1), ended: make(chan struct{}), inflight: map[waitKey][]*request{},
	}
	n.codec, _ = wire.CodecOf(ws.Subprotocol())
	// The socket knows deadlines, not contexts.
	stop := context.AfterFunc(ctx, func() { _ = ws.Close() })
	err = n.logIn(ctx, token, patient)
	if !stop() {
		err = ctx.Err()
	}
	if err != nil {
		_ = ws.Close()
		return nil, fmt.Errorf("log in at %s: %w", target, err)
	}
	n.heartbeat = defaultHeartbeat
	if s := n.login.HeartbeatSeconds; s > 0 {
		n.heartbeat = bounded(s, time.Second)
	}
	n.since = time.Now()
	return n, nil
}

// handshake opens the WebSocket.
func (c *Client) handshake(ctx context.Context, target, token string) (*websocket.Conn, error) {
	dialer := *c.cfg.Dialer
	dialer.Subprotocols = []string{c.cfg.codec().Subprotocol()}
	header := c.cfg.Header.Clone()
	if c.cfg.TokenInHandshake {
		if header == nil {
			header = http.Header{}
		}
		header.Set("Authorization", "Bearer "+token)
		address, err := url.Parse(target)
		if err != nil {
			return nil, err
		}
		query := address.Query()
		setUnlessEmpty(query, "deviceId", c.cfg.DeviceID)
		setUnlessEmpty(query, "platform", c.cfg.Platform)
		if status, text := c.firstStatus(); status != "" {
			setUnlessEmpty(query, "status", status)
			setUnlessEmpty(query, "statusText", text)
		}
		address.RawQuery = query.Encode()
		target = address.String()
	}
	ws, resp, err := dialer.DialContext(ctx, target, header)
	if err == nil || resp == nil {
		return ws, err
	}
	defer resp.Body.Close()
	const most = 512
	text, _ := io.ReadAll(io.LimitReader(resp.Body, most))
	err = fmt.Errorf("%w: HTTP %s: %s", err, resp.Status, strings.TrimSpace(string(text)))
	if s, parse := strconv.ParseInt(resp.Header.Get("Retry-After"), 10, 64); parse == nil && s > 0 {
		return nil, errors.Join(err, &Error{Code: wire.CodeTooManyConns, Delay: bounded(s, time.Second)})
	}
	return nil, err
}

func setUnlessEmpty(values url.Values, name, value string) {
	if value != "" {
		values.Set(name, value)
	}
}

func (c *Client) loginFrame(token string) wire.Frame {
	fr := wire.Frame{Type: wire.TypeLogin, Token: token, DeviceID: c.cfg.DeviceID, Platform: c.cfg.Platform}
	fr.Status, fr.StatusText = c.firstStatus()
	return fr
}

// firstStatus is what the first login sets, nothing after it.
func (c *Client) firstStatus() (status, text string) {
	if c.lastLogin().Type != 0 {
		return "", ""
	}
	return string(c.cfg.Status), c.cfg.StatusText
}

// logIn sends the login, unless the handshake did, and reads the answer.
func (n *conn) logIn(ctx context.Context, token string, patient bool) error {
	send := !n.c.cfg.TokenInHandshake
	for {
		if send {
			fr := n.c.loginFrame(token)
			if err := n.write(&fr); err != nil {
				return err
			}
		}
		_ = n.ws.SetReadDeadline(time.Now().Add(loginTimeout))
		fr, err := n.read()
		if err != nil {
			return closeReason(err)
		}
		if fr.Type != wire.TypeLoginResp && fr.Code.OK() {
			return fmt.Errorf("the server answered with %s", fr.Type)
		}
		if fr.Code.OK() {
			n.login = fr
			return nil
		}
		refused := refusal(&fr)
		if !patient || fr.Code != wire.CodeUnavailable {
			return refused
		}
		wait := cmp.Or(refused.Delay, defaultRetry)
		n.c.setState(StateChange{State: StateOffline, URL: n.url, Err: refused, RetryIn: wait})
		select { // the server keeps the connection for another login
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
		send = true
	}
}

// refusal returns the error that an answer is.
func refusal(fr *wire.Frame) *Error {
	return &Error{Code: fr.Code, Message: fr.Message, Delay: bounded(fr.DelayMS, time.Millisecond)}
}

// maxWait bounds what a server can ask a client to wait. No sane one asks for more, and numbers that do not fit into a
// duration would come out negative, which is no wait at all.
const maxWait = time.Hour

// bounded is n units, from none to maxWait.
func bounded(n int64, unit time.Duration) time.Duration {
	return time.Duration(min(max(n, 0), int64(maxWait/unit))) * unit
}

// start runs the loops: one reads, one writes.
func (n *conn) start() {
	n.loops.Go(n.readLoop)
	n.loops.Go(n.pump)
}

// rouse has the pump look at the outbox.
func (n *conn) rouse() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// end makes err the reason for which the connection ended, unless there is one, and closes it.
func (n *conn) end(err error) {
	n.endOnce.Do(func() {
		n.err = err
		n.c.out.detach(n, err)
		close(n.ended)
		_ = n.ws.Close()
	})
}

// close ends the connection from this side, and waits for its loops.
func (n *conn) close() {
	_ = n.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseGoingAway, ""), time.Now().Add(closeTimeout))
	n.end(ErrClosed)
	n.loops.Wait()
}

// write sends a frame.
func (n *conn) write(fr *wire.Frame) error {
	n.encoded = n.codec.Append(n.encoded[:0], fr)
	if err := n.ws.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	kind := websocket.TextMessage
	if n.codec.Binary() {
		kind = websocket.BinaryMessage
	}
	return n.ws.WriteMessage(kind, n.encoded)
}

// errNewer is a frame of a type that this client does not know.
var errNewer = errors.New("the server sent a frame of a newer protocol")

// read returns the next frame of the server.
func (n *conn) read() (wire.Frame, error) {
	kind, data, err := n.ws.ReadMessage()
	if err != nil {
		return wire.Frame{}, err
	}
	if (kind == websocket.BinaryMessage) != n.codec.Binary() {
		return wire.Frame{}, errors.New("the server sent a message of the wrong kind")
	}
	fr, err := n.codec.DecodeServer(data)
	var fault *wire.Error
	if errors.As(err, &fault) && fault.Code == wire.CodeUnknownType {
		return wire.Frame{}, errNewer
	}
	if err != nil {
		return wire.Frame{}, fmt.Errorf("the server sent a broken frame: %w", err)
	}
	return fr, nil
}

// readLoop handles frames until the connection ends.
func (n *conn) readLoop() {
	for {
		// Two pings and half a heartbeat for the second pong.
		deadline := time.Now().Add(n.heartbeat * 5 / 2)
		if f := n.broken.Load(); f != nil {
			deadline = f.readUntil
		}
		_ = n.ws.SetReadDeadline(deadline)
		fr, err := n.read()
		if errors.Is(err, errNewer) {
			continue
		}
		if err == nil {
			err = n.handle(&fr)
		}
		if err != nil {
			n.end(n.endReason(err))
			return
		}
	}
}

// handle does what a frame asks for. An error ends the connection.
func (n *conn) handle(fr *wire.Frame) error {
	key := waitKey{typ: fr.Type}
	switch fr.Type {
	case wire.TypeChat, wire.TypeGroupChat, wire.TypeBroadcast:
		n.c.in.receive(fr)
		return nil
	case wire.TypePresenceEvent:
		n.c.contacts.told(n, fr)
		return nil
	case wire.TypeSubscribeResp:
		n.c.contacts.told(n, fr) // here, so that no event that follows is taken for older
		select {
		case n.listed <- *fr:
		default: // nobody waits
		}
		return nil
	case wire.TypeChatResp, wire.TypeGroupChatResp, wire.TypeBroadcastResp:
		key.id = fr.ClientMsgID
	case wire.TypeAckResp:
		key.id = fr.MsgID
	case wire.TypeGroupResp, wire.TypeOnlineListResp, wire.TypePresenceResp, wire.TypeSetStatusResp:
		key.id = fr.RequestID
	case wire.TypeLoginResp:
		select {
		case n.renewed <- *fr:
		default:
		}
		return nil
	case wire.TypeKicked:
		if fr.Code == wire.CodeRevoked {
			return refusal(fr)
		}
		return ErrKicked
	case wire.TypeHeartbeatTimeout:
		return ErrIdle
	case wire.TypeReconnect:
		n.moving = &MoveError{Delay: bounded(fr.DelayMS, time.Millisecond)}
		select {
		case n.move <- n.moving:
		default: // it is being done
		}
		return nil
	case wire.TypeUnknown:
		if refused := refusal(fr); !n.c.out.complaint(n, refused) {
			n.c.report(refused)
		}
		return nil
	default: // PONG
		return nil
	}
	if !n.c.out.answer(n, key, *fr) && !fr.Code.OK() {
		n.c.report(refusal(fr))
	}
	return nil
}

// endReason turns a read error into the reason for which the connection ended. Whatever ends a connection that was asked
// to move, short of the answer to a logout or a newer login, the client has to move.
func (n *conn) endReason(err error) error {
	reason := closeReason(err)
	if f := n.broken.Load(); f != nil && errors.Is(reason, ErrSilent) {
		reason = f.err
	}
	if websocket.IsCloseError(err, websocket.CloseNormalClosure) && n.leaving.Load() {
		return errLoggedOut
	}
	if n.moving == nil || errors.Is(reason, ErrKicked) || finalEnd(reason) {
		return reason
	}
	return n.moving
}

// errLoggedOut ends the connection of a client that logged out.
var errLoggedOut = errors.New("logged out")
