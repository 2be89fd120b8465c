package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"

	"github.com/gorilla/websocket"
)

// chatClient is one user of a chat server. All servers are driven by the same WebSocket library, and what they say is looked
// at with the same few string searches, so that the load costs the same for each.
type chatClient interface {
	// run reads until the connection ends. It calls step with the id of a message when the server has accepted it from
	// this user, and when it has been delivered to this user for good.
	run(step func(id int)) error
	// send queues a message; flush writes what is queued. Whoever calls send has flush called before it waits.
	send(to string, id, payload int) error
	flush()
	// beforeWait has f called whenever run is about to wait.
	beforeWait(f func())
	close()
}

func dialChat(ctx context.Context, kind, addr, user string) (chatClient, error) {
	s := &socket{}
	path := map[string]string{"gateway": "/ws", "relay": "/ws", "centrifuge": "/connection/websocket", "socketio": "/socket.io/?EIO=4&transport=websocket&user=" + user}[kind]
	dialer := websocket.Dialer{ReadBufferSize: 4096, WriteBufferSize: 1024,
		NetDialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			s.batch = &batch{Conn: conn}
			return s.batch, err
		}}
	conn, resp, err := dialer.DialContext(ctx, "ws://"+addr+path, nil)
	if err != nil {
		return nil, err
	}
	resp.Body.Close()
	s.conn = conn
	switch kind {
	case "gateway", "relay":
		return &ourClient{socket: s}, s.expect(`"code":200`, fmt.Sprintf(`{"type":"10","token":%q,"deviceId":"phone"}`, user))
	case "centrifuge":
		if err := s.expect(`"connect":{`, fmt.Sprintf(`{"id":1,"connect":{"token":%q}}`, user)); err != nil {
			return nil, err
		}
		return &centrifugeClient{socket: s}, s.expect(`"subscribe":{`, fmt.Sprintf(`{"id":2,"subscribe":{"channel":%q}}`, user))
	default:
		if err := s.expect(`0{`, ""); err != nil {
			return nil, err
		}
		return &socketioClient{socket: s}, s.expect(`40{`, "40")
	}
}

// socket is the connection of a client.
type socket struct {
	conn  *websocket.Conn
	batch *batch
	in    bytes.Buffer // the frame that was read last

	mu  sync.Mutex // held while writing
	out []byte     // the frame that is written
}

func (s *socket) close() { s.conn.Close() }

func (s *socket) flush() { s.batch.flush() }

func (s *socket) beforeWait(f func()) { s.batch.wait = f }

// writef queues a frame.
func (s *socket) writef(format string, args ...any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out = fmt.Appendf(s.out[:0], format, args...)
	return s.conn.WriteMessage(websocket.TextMessage, s.out)
}

// read returns the next frame, which is valid until the next call.
func (s *socket) read() ([]byte, error) {
	_, r, err := s.conn.NextReader()
	if err != nil {
		return nil, err
	}
	s.in.Reset()
	_, err = s.in.ReadFrom(r)
	return s.in.Bytes(), err
}

// expect sends a frame, unless it is empty, and reads until one with the text comes.
func (s *socket) expect(text, frame string) error {
	if frame != "" {
		if err := s.writef("%s", frame); err != nil {
			return err
		}
	}
	data, err := s.read()
	if err == nil && !bytes.Contains(data, []byte(text)) {
		err = fmt.Errorf("the server answered %.200s", data)
	}
	return err
}

// content is the format of what is sent: an object with the id of the message and a padding.
const content = `{"n":%d,"text":"%s"}`

// padding makes a content have about so many bytes.
func padding(payload int) string {
	const frame = `{"n":1234567,"text":""}`
	return strings.Repeat("x", max(0, payload-len(frame)))
}

// number returns the integer after the text; -1 if it is not there.
func number(data []byte, after string) int {
	_, rest, ok := bytes.Cut(data, []byte(after))
	if !ok {
		return -1
	}
	end := 0
	for end < len(rest) && rest[end] >= '0' && rest[end] <= '9' {
		end++
	}
	n, err := strconv.Atoi(string(rest[:end]))
	if err != nil {
		return -1
	}
	return n
}

// ourClient speaks the protocol of IMCluster.
type ourClient struct {
	*socket
	acks  []int // sent and not answered; the answers come in order
	quiet bool  // does not acknowledge
}

// createGroup makes a group of which this user is the owner.
func (c *ourClient) createGroup(group string, members []string) error {
	const some = 500 // users in a frame
	for i := 0; i < len(members); i += some {
		action := "create"
		if i > 0 {
			action = "add"
		}
		users, err := json.Marshal(members[i:min(i+some, len(members))])
		if err != nil {
			return err
		}
		if err := c.expect(`"code":200`, fmt.Sprintf(`{"type":"84","action":%q,"groupId":%q,"users":%s}`, action, group, users)); err != nil {
			return err
		}
	}
	return nil
}

func (c *ourClient) sendGroup(group string, id, payload int) error {
	return c.writef(`{"type":"82","groupId":%q,"clientMsgId":"%d","content":`+content+`}`, group, id, id, padding(payload))
}

func (c *ourClient) send(to string, id, payload int) error {
	return c.writef(`{"type":"80","toId":%q,"clientMsgId":"%d","content":`+content+`}`, to, id, id, padding(payload))
}

func (c *ourClient) run(step func(int)) error {
	for {
		data, err := c.read()
		if err != nil {
			return err
		}
		switch {
		case bytes.HasPrefix(data, []byte(`{"type":"81","code":20`)), bytes.HasPrefix(data, []byte(`{"type":"83","code":20`)):
			step(number(data, `"clientMsgId":"`))
		case c.quiet && bytes.HasPrefix(data, []byte(`{"type":"8`)):
			step(number(data, `"n":`))
		case bytes.HasPrefix(data, []byte(`{"type":"80","msgId":"`)), bytes.HasPrefix(data, []byte(`{"type":"82","msgId":"`)):
			msgID, _, _ := bytes.Cut(data[len(`{"type":"80","msgId":"`):], []byte(`"`))
			c.acks = append(c.acks, number(data, `"n":`))
			if err := c.writef(`{"type":"90","msgId":"%s"}`, msgID); err != nil {
				return err
			}
		case bytes.HasPrefix(data, []byte(`{"type":"91","code":200`)):
			step(c.acks[0])
			c.acks = c.acks[1:]
		default:
			return fmt.Errorf("the gateway said %.200s", data)
		}
	}
}

// centrifugeClient speaks the JSON protocol of Centrifuge: a user is subscribed to the channel of the user's name. Several
// replies may come in one message, a line each.
type centrifugeClient struct{ *socket }

const centrifugeFirst = 10 // ids of commands below are those of the connection

func (c *centrifugeClient) send(to string, id, payload int) error {
	return c.writef(`{"id":%d,"publish":{"channel":%q,"data":`+content+`}}`, id+centrifugeFirst, to, id, padding(payload))
}

func (c *centrifugeClient) run(step func(int)) error {
	for {
		data, err := c.read()
		if err != nil {
			return err
		}
		for line := range bytes.Lines(data) {
			switch {
			case bytes.Contains(line, []byte(`"push":{`)):
				step(number(line, `"n":`))
			case bytes.HasPrefix(line, []byte(`{"id":`)) && bytes.Contains(line, []byte(`"publish":{`)):
				step(number(line, `{"id":`) - centrifugeFirst)
			case bytes.HasPrefix(line, []byte(`{}`)):
				if err := c.writef(`{}`); err != nil { // a ping
					return err
				}
			default:
				return fmt.Errorf("centrifuge said %.200s", line)
			}
		}
	}
}

// socketioClient speaks Socket.IO over Engine.IO 4: events with acknowledgements.
type socketioClient struct{ *socket }

func (c *socketioClient) send(to string, id, payload int) error {
	return c.writef(`42%d["chat",%q,`+content+`]`, id, to, id, padding(payload))
}

func (c *socketioClient) run(step func(int)) error {
	for {
		data, err := c.read()
		if err != nil {
			return err
		}
		switch {
		case bytes.HasPrefix(data, []byte("43")) && len(data) > 2: // the server took a chat or an acknowledgement
			step(number(data, "43"))
		case bytes.HasPrefix(data, []byte(`42["chat",`)):
			if err := c.writef(`42%d["ack"]`, number(data, `"n":`)); err != nil {
				return err
			}
		case bytes.Equal(data, []byte("2")):
			if err := c.writef("3"); err != nil { // a ping
				return err
			}
		default:
			return fmt.Errorf("socket.io said %.200s", data)
		}
	}
}
